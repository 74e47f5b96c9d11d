"""Fixtures of the engine's tests: the control and data planes that they run on, a node, and the lines of its log.

Every test runs twice: with mikyun_cloud and the WireGuard peers alone, and with the control plane of tests/usersstore
and the data plane of tests/plane.py. A fixture of :data:`NOT_ON_ALL` says why a test runs on other variants.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from tests.node import Node
from tests.variants import MIKYUN, USERS, USERS_AND_PLANE
from wgsyncd import log

VARIANTS = (MIKYUN, USERS_AND_PLANE)
NOT_ON_ALL = {
    "deadlines": (MIKYUN,),
    "usage_columns": (MIKYUN,),
    "mikyun_columns": (MIKYUN,),
    "no_other_plane": (MIKYUN, USERS),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on its variants. Tests of unittest's kind name their variant themselves."""
    if "variant" in metafunc.fixturenames:
        variants = next((some for name, some in NOT_ON_ALL.items() if name in metafunc.fixturenames), VARIANTS)
        metafunc.parametrize("variant", variants, ids=[one.name for one in variants], indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def variant(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let each new node have the control plane and the data planes of a variant."""
    Node.variant = getattr(request, "param", MIKYUN)
    yield
    Node.variant = MIKYUN


@pytest.fixture
def deadlines() -> None:
    """The test is about activation deadlines (QR codes). tests/usersstore has none: its devices are on or off."""


@pytest.fixture
def usage_columns() -> None:
    """The test is about totals and 24 h and month figures in columns. tests/usersstore sums up days and buckets."""


@pytest.fixture
def mikyun_columns() -> None:
    """The test is about a column or a sentence that only mikyun_cloud has."""


@pytest.fixture
def no_other_plane() -> None:
    """The test is about a cycle for a few devices. With another data plane, each cycle is a full one."""


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
