"""A node on fakes."""

from __future__ import annotations

import pytest

from tests.node import Node


@pytest.fixture
def node() -> Node:
    """Three devices, in service."""
    made = Node()
    for number in (5, 6, 7):
        made.device(number)
    made.cycle()
    return made
