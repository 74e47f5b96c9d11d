"""Fixtures of the contract tests: a store in memory or on MariaDB, and a scripted kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.nexavpn_sides import NexavpnTables
from tests.postgres import PrivatePostgres
from tests.routed import Gateway, gateway
from tests.scripted_kernel import ScriptedKernel
from tests.store_sides import AnyTables, FakeMikyunTables, MikyunTables, RealMikyunTables
from tests.users_sides import UsersTables
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.demo.mariadb import DATABASE, PrivateServer
from wgsyncd.ports import Store


@pytest.fixture(scope="session")
def mariadbd() -> Iterator[PrivateServer]:
    """Yields the MariaDB of this run. It has the reference schema and an account with exactly the shipped grants."""
    with PrivateServer() as server:
        server.load()
        server.create_account()
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """Yields the PostgreSQL of this run, with NexaVPN's tables and wgsyncd's own."""
    with PrivatePostgres() as server:
        yield server


@pytest.fixture(params=["fake", "mariadb"])
def tables(request: pytest.FixtureRequest) -> Iterator[MikyunTables]:
    """Yields an empty mikyun_cloud with one active contract, 0001. It is in memory or on MariaDB."""
    with ExitStack() as stack:
        if request.param == "fake":
            yield FakeMikyunTables()
        else:
            yield RealMikyunTables(request.getfixturevalue("mariadbd"), stack)


@pytest.fixture(params=["fake", "mariadb", "users", "nexavpn"])
def any_tables(request: pytest.FixtureRequest) -> Iterator[AnyTables]:
    """Yields an empty control plane of any kind, for tests that speak of no column."""
    with ExitStack() as stack:
        if request.param == "users":
            yield UsersTables()
        elif request.param == "nexavpn":
            yield NexavpnTables(request.getfixturevalue("postgres"), stack)
        elif request.param == "fake":
            yield FakeMikyunTables()
        else:
            yield RealMikyunTables(request.getfixturevalue("mariadbd"), stack)


@pytest.fixture(params=["fake", "mariadb", "users"])
def row_tables(request: pytest.FixtureRequest) -> Iterator[AnyTables]:
    """Yields an empty control plane whose store writes usage into the rows of devices, so that a lock matters."""
    with ExitStack() as stack:
        if request.param == "users":
            yield UsersTables()
        elif request.param == "fake":
            yield FakeMikyunTables()
        else:
            yield RealMikyunTables(request.getfixturevalue("mariadbd"), stack)


@pytest.fixture
def nexa(postgres: PrivatePostgres) -> Iterator[NexavpnTables]:
    """Yields the empty tables of NexaVPN."""
    with ExitStack() as stack:
        yield NexavpnTables(postgres, stack)


@pytest.fixture
def router() -> Iterator[Gateway]:
    """Yields a gateway with a packet filter, between clients and servers in namespaces of their own."""
    with gateway() as made:
        made.filter.start()
        yield made


@pytest.fixture
def any_store(any_tables: AnyTables) -> Store:
    return any_tables.store()


@pytest.fixture
def store(tables: MikyunTables) -> Store:
    return tables.store()


@pytest.fixture
def real_tables(mariadbd: PrivateServer) -> Iterator[RealMikyunTables]:
    """Yields the same database on MariaDB alone. A database in memory has no transactions of other connections."""
    with ExitStack() as stack:
        yield RealMikyunTables(mariadbd, stack)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedKernel:
    """Returns the kernel that answers every client of this test."""
    found = ScriptedKernel()
    monkeypatch.setattr(netlink, "open_socket", lambda *_: found.open())
    return found


@pytest.fixture
def wg() -> Iterator[KernelWireGuard]:
    """Yields a client of the kernel, which opens its socket with its first request."""
    opened = KernelWireGuard("boot")
    yield opened
    opened.close()


@pytest.fixture
def odd_tables(mariadbd: PrivateServer) -> Iterator[RealMikyunTables]:
    """Yields the same database for a test that alters its tables. The next test has the reference tables again."""
    try:
        with ExitStack() as stack:
            yield RealMikyunTables(mariadbd, stack)
    finally:
        mariadbd.sql(f"DROP DATABASE {DATABASE}", database="")  # the grants stay
        mariadbd.load()
