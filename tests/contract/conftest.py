"""One private MariaDB per run has the reference schema and an account with exactly the shipped grants."""

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
    """Yields an empty mikyun_cloud with one active contract, 0001. It is in memory or on MariaDB."""
    with ExitStack() as stack:
        if request.param == "fake":
            yield FakeShop()
        else:
            yield RealShop(request.getfixturevalue("mariadbd"), stack)


@pytest.fixture
def real_shop(mariadbd: PrivateServer) -> Iterator[RealShop]:
    """Yields the same database on MariaDB alone. A database in memory has no transactions of other connections."""
    with ExitStack() as stack:
        yield RealShop(mariadbd, stack)
