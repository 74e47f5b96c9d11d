"""Sets Python's garbage collector, the C allocator and the kernel up for this kind of program."""

import gc
from contextlib import suppress

_NEW_OBJECTS = 50_000  # between two collections. One dump exceeds the default of 700 hundreds of times.
_OLDER = 50
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3), malloc.h
_PR_SET_DUMPABLE = 4  # prctl(2)
_LARGE = 1 << 20  # bytes
_TOP = 2 << 20  # free bytes that the process keeps: rows arrive in texts of half a MiB, again and again


def reduce_gc() -> None:
    """Collect circular garbage rarely, and never the objects that exist now.

    A reconcile makes hundreds of thousands of objects without reference cycles, which need no collector.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _OLDER, _OLDER)


def hide() -> None:
    """Let no other process of the same user read this memory, which holds the preshared keys. Root still can.

    A userspace WireGuard may have the same user, and it faces the network. Crashes leave no core either.
    """
    with suppress(ImportError, AttributeError):  # as below
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def trim_heap() -> None:
    """Return a large block to the system as soon as it is free.

    A reconcile allocates tables of some megabytes. By default, glibc keeps up to 32 MiB for each such block.
    """
    with suppress(ImportError, AttributeError):  # Python may have no ctypes, and the C library may be another one
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _TOP)
