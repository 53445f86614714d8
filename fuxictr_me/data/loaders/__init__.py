"""Data loaders: batches of ids for FuxiCTR models."""
