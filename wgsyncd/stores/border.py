"""Makes a StoreError of every answer of a database that makes no sense."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from wgsyncd.config import secret_file
from wgsyncd.errors import StoreError, place_of

# What decoding raises if a value is of another type or range than it can be.
_NONSENSE = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_C = TypeVar("_C", bound=type)


class Unsupported(StoreError):
    """The server, or something in front of it, cannot serve wgsyncd."""

    def __init__(self, text: str, todo: str) -> None:
        super().__init__(text, todo=todo)


def forget_frames(error: BaseException | None) -> None:
    """Free what an error's frames hold: half-read answers, sockets, rows. PyMySQL's errors are in a reference cycle."""
    while error is not None:
        error.__traceback__ = None
        error = error.__context__


def at_border(cls: _C) -> _C:
    """Make every public method of a class raise a StoreError where the database's answer makes no sense.

    Views and tables belong to others, and a proxy may stand between. So a value of another type is no bug of wgsyncd.
    """
    for name, method in list(vars(cls).items()):
        if not name.startswith("_") and inspect.isfunction(method):
            setattr(cls, name, (_iterating if inspect.isgeneratorfunction(method) else _calling)(method))
    return cls


@contextlib.contextmanager
def sensible(close: Callable[[], object]) -> Iterator[None]:
    """Make a StoreError of an answer that makes no sense. ``close``: it ends the connection, which may be half read.

    The error names the place in the program, because the value may be a key.
    """
    try:
        yield
    except _NONSENSE as error:
        where = place_of(error)
        forget_frames(error)
        close()
        told = f"the database gave an answer that makes no sense ({where})"
        raise StoreError(told) from error


def _calling(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def at_border(self: Any, *args: Any, **options: Any) -> Any:
        with sensible(self.close):
            return method(self, *args, **options)

    return at_border


def _iterating(method: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(method)
    def at_border(self: Any, *args: Any, **options: Any) -> Iterator[Any]:
        with sensible(self.close):
            yield from method(self, *args, **options)

    return at_border


def require_plain(key: str, path: Path | None) -> None:
    """StoreError if a file of the configuration is no plain file that can be read. A library would wait for a pipe."""
    try:
        if path is not None:
            secret_file.read_plain(path)
    except OSError as error:
        raise StoreError(f"database.{key} = {path} cannot be read: {error.strerror}") from None
