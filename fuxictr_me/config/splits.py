"""Names of the splits of a data set, and of the settings that hold their paths."""

SPLITS = ("train", "valid", "test")
DATA_KEYS = tuple(f"{split}_data" for split in SPLITS)
