"""Sets Python's garbage collector and the kernel up for this kind of program."""

import gc
from contextlib import suppress

_NEW_OBJECTS = 50_000  # between two collections. One dump exceeds the default of 700 hundreds of times.
_OLDER = 50
_PR_SET_DUMPABLE = 4  # prctl(2)


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
    with suppress(ImportError, AttributeError):  # Python may have no ctypes, and the C library may be another one
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
