"""Build a data set: raw files to ids in H5 or parquet, in a folder that is complete or absent."""
