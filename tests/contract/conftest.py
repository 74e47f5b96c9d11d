"""One private MariaDB per run, with the reference schema and the account that has exactly the shipped grants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.store_fixture import FakeShop, RealShop, Shop
from wgsyncd.demo.mariadb import PrivateServer


@pytest.fixture(scope="session")
def mariadbd() -> Iterator[PrivateServer]:
    with PrivateServer() as server:
        server.load()
        server.create_account()
        yield server


@pytest.fixture(params=["fake", "mariadb"])
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """An empty mikyun_cloud with one active contract, 0001."""
    with ExitStack() as stack:
        if request.param == "fake":
            yield FakeShop()
        else:
            yield RealShop(request.getfixturevalue("mariadbd"), stack)


@pytest.fixture
def real_shop(mariadbd: PrivateServer) -> Iterator[RealShop]:
    """The same on MariaDB alone, for what a store in memory has not: the transactions of others."""
    with ExitStack() as stack:
        yield RealShop(mariadbd, stack)
