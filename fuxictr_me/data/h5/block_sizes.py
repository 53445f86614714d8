"""Sizes of the blocks of rows that have checksums and are streamed, and of the windows in which they are shuffled."""

BLOCKS_PER_WINDOW = 1 << 11  # more blocks make the shuffle more uniform, fewer make longer reads
BLOCK_ROWS = (16, 1 << 10)  # smallest and largest block
WINDOW_BYTES = 1 << 28


def default_window_rows(row_bytes: int) -> int:
    """Return the rows of a streamed window of about 256 MB."""
    return max(1, WINDOW_BYTES // row_bytes)


def streamed_block_rows(row_bytes: int, window_rows: int | None = None) -> int:
    """Return the rows that are streamed in one piece, for windows of ``window_rows``, or of the default size if None.

    Files have one checksum for each block of the default size, so that streaming reads no block twice.
    """
    window_rows = default_window_rows(row_bytes) if window_rows is None else window_rows
    return min(window_rows, sorted((*BLOCK_ROWS, window_rows // BLOCKS_PER_WINDOW))[1])
