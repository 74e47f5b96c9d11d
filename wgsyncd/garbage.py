"""Python's collector of circular garbage, told what kind of program this is."""

from __future__ import annotations

import gc

_NEW_OBJECTS = 50_000  # between two looks at new ones; the default, 700, is passed hundreds of times in one dump
_OLDER = 50


def rarely() -> None:
    """Look for circular garbage rarely: a cycle makes objects by the hundred thousand, none of them in a circle, and
    all but few are gone at its end without the collector's help. What is there now (the program) is not looked at."""
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _OLDER, _OLDER)
