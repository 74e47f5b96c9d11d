"""Fixtures of the engine's tests: a node on fakes, and the lines of its log."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from tests.node import Node
from wgsyncd import log


@pytest.fixture
def node() -> Node:
    """Returns a node with three devices that are in service."""
    made = Node()
    for number in (5, 6, 7):
        made.device(number)
    made.cycle()
    return made


@pytest.fixture
def said() -> Iterator[Callable[[], list[str]]]:
    """Yields a function that returns the log's lines so far."""
    stream = io.StringIO()
    log.configure("info", "logfmt", stream)
    yield lambda: [line.partition("event=")[2] for line in stream.getvalue().splitlines()]
    log.configure()
