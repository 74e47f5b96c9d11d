"""wgsyncd keeps WireGuard peers equal to a database table and accounts their traffic to the byte."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

try:
    from wgsyncd._version import __version__
except ImportError:  # a checkout that was neither built nor installed
    __version__ = "0+unknown"

__all__ = ["__version__", "without"]


@contextmanager
def without(package: str) -> Iterator[None]:
    """Let the imports of this block not find ``package``, as if it were not installed.

    It is for libraries that load another one if it is there, which wgsyncd does not use with them. It saves memory.
    """
    kept = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]  # see "The module cache" in Python's reference
    try:
        yield
    finally:
        del sys.modules[package]
        if kept is not None:
            sys.modules[package] = kept
