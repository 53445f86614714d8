"""Raw csv and parquet files: finding, reading and checking them."""
