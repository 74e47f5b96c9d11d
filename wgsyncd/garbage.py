"""Python's collector of circular garbage and C's allocator, told what kind of program this is."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

_NEW_OBJECTS = 50_000  # between two looks at new ones; the default, 700, is passed hundreds of times in one dump
_OLDER = 50
_M_MMAP_THRESHOLD, _LARGE = -3, 1 << 20  # mallopt(3), malloc.h; bytes


def rarely() -> None:
    """Look for circular garbage rarely: a cycle makes objects by the hundred thousand, none of them in a circle, and
    all but few are gone at its end without the collector's help. What is there now (the program) is not looked at."""
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _OLDER, _OLDER)


def give_back() -> None:
    """Give a large block back to the system as soon as it is free. A cycle makes tables of some megabytes; by itself
    glibc takes such for something that comes again and keeps room for them, up to 32 MiB each."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
