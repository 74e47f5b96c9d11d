"""A round of tests/faults that does not end says where each step waits."""

from __future__ import annotations

from collections.abc import Generator

from tests.faults.script import Step
from tests.faults.stuck import Stuck


def inner() -> Generator[None, None, None]:
    while True:
        yield


def outer() -> Generator[None, None, None]:
    yield from inner()


def test_the_innermost_generator_is_named() -> None:
    deed = outer()
    next(deed)
    first = inner.__code__.co_firstlineno
    said = str(Stuck([(Step(1.0, "swap", {"devices": [1, 3]}), deed)]))
    assert said == f"swap devices=[1, 3] (waits in outer:{first + 6} > inner:{first + 2})"
