"""The C library's treatment of memory that a step frees."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST_KEPT = 256 << 20  # bytes: activations, not embedding tables
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the process keep freed blocks of up to ``LARGEST_KEPT`` bytes.

    By default glibc returns blocks of 32 MB and more to the system at once, so each step would fault in the pages of
    its activations again. With another C library nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    except (OSError, AttributeError):
        return
