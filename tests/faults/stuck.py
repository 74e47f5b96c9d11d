"""Tells where a round stands that does not end."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from types import GeneratorType

from tests.faults.script import Step


class Stuck(Exception):
    """The steps of a round do not end. It says where each of them waits."""

    def __init__(self, running: Iterable[tuple[Step, Generator[None, None, object]]]) -> None:
        super().__init__("; ".join(f"{step} (waits in {_place(deed)})" for step, deed in running))


def _place(deed: object) -> str:
    """The function and line of each generator that waits for the next one, the outermost first."""
    places = []
    while isinstance(deed, GeneratorType):
        places.append(f"{deed.__name__}:{deed.gi_frame.f_lineno}" if deed.gi_frame is not None else deed.__name__)
        deed = deed.gi_yieldfrom
    return " > ".join(places)
