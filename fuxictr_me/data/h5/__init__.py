"""Data sets in H5 files: reading, writing and checking them."""
