"""What glibc does with memory that a step frees."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST_KEPT = 256 << 20  # bytes: activations, not embedding tables
NEVER = 2**31 - 1


def keep_freed_memory():
    """Let blocks of up to ``LARGEST_KEPT`` stay with the process when they are freed.

    By default glibc gives blocks of 32 MB and more back to the system at once, so that each step faults in the pages of
    its activations anew. Where the C library is another, nothing happens.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    except (OSError, AttributeError):
        return
