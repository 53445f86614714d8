"""The splits of a data set, and the settings that name their files."""

SPLITS = ("train", "valid", "test")
DATA_KEYS = tuple(f"{split}_data" for split in SPLITS)
