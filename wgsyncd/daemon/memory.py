"""Python's collector of circular garbage and C's allocator, told what kind of program this is."""

from __future__ import annotations

import gc
from contextlib import suppress

_NEW_OBJECTS = 50_000  # between two looks at new ones; the default, 700, is passed hundreds of times in one dump
_OLDER = 50
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3), malloc.h
_LARGE = 1 << 20  # bytes
_TOP = 2 << 20  # bytes that may stay: rows come in texts of half a MiB, whose room would be asked for again each time


def reduce_gc() -> None:
    """Look for circular garbage rarely: a cycle makes objects by the hundred thousand, none of them in a circle, and
    all but few are gone at its end without the collector's help. What is there now (the program) is not looked at."""
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _OLDER, _OLDER)


def trim_heap() -> None:
    """Give a large block back to the system as soon as it is free. A cycle makes tables of some megabytes; by itself
    glibc takes such for something that comes again and keeps room for them, up to 32 MiB each."""
    with suppress(ImportError, AttributeError):  # a Python without ctypes; another C library
        import ctypes

        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _TOP)
