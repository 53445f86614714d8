"""Files and folders: atomic writes, checkpoints, checksums, and the folders that come with the package."""
