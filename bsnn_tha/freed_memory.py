"""Keep freed memory for the next iteration instead of handing it back.

A window's tensors are large and are allocated anew in every iteration. glibc
returns such blocks to the operating system at once and gets them back page by
page, each page cleared by the kernel; on the MNIST network (batch 128, 100 time
steps, 2 cores) a third of an iteration went into that. Nothing changes in any
result.
"""

from __future__ import annotations

import ctypes
import platform

# From glibc's <malloc.h>; mallopt(3) describes them.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> bool:
    """Make this process reuse large freed blocks: for the top of a program that trains.

    The command line calls it. It is a setting of the whole process, so no library should make
    it for you: call it once in a training loop of your own, before the first batch. The process
    then keeps up to 2 GiB of what it has freed at its top; its peak stays what it is.

    Returns:
        True if the C library is glibc and took the settings, else False and
        nothing is changed.

    Example:
        >>> import bsnn_tha
        >>> kept = bsnn_tha.keep_freed_memory()
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        and mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        and mallopt(_M_TOP_PAD, 256 << 20)
    )
