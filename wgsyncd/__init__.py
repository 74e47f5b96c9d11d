"""wgsyncd keeps WireGuard peers equal to a database table and accounts their traffic to the byte."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType

try:
    from wgsyncd._version import __version__
except ImportError:  # a checkout that was neither built nor installed
    __version__ = "0+unknown"

__all__ = ["__version__", "hollow", "without"]


class _Nothing(Exception):
    """Any name of a hollow library: another library may use it as a default value, or derive a class from it."""


class _Hollow(ModuleType):
    def __getattr__(self, name: str) -> type[_Nothing]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


@contextmanager
def without(*packages: str, instead: ModuleType | None = None) -> Iterator[None]:
    """Let the imports of this block not find ``packages``, as if they were not installed, or find ``instead``.

    It is for libraries that load another one if it is there, which wgsyncd does not use with them. It saves memory.
    """
    kept = {package: sys.modules.get(package) for package in packages}
    sys.modules.update(dict.fromkeys(packages, instead))  # type: ignore[arg-type]  # "The module cache" in Python's reference
    try:
        yield
    finally:
        for package, module in kept.items():
            del sys.modules[package]
            if module is not None:
                sys.modules[package] = module


def hollow(*packages: str) -> AbstractContextManager[None]:
    """As :func:`without`, for libraries that load another one in any case: they find it without anything in it."""
    return without(*packages, instead=_Hollow("hollow"))
