"""Tests on real parts share one private MariaDB per run, and each test gets an empty database.

Each test has a world of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nspawn import Booted
from tests.postgres import PrivatePostgres
from tests.real.bench import Bench, Ear
from tests.real.installed import NEEDED, Node, as_later, build
from wgsyncd.demo.mariadb import ACCOUNT, DATABASE, PrivateServer
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import WgKind


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the test that looks for secrets in all output to the end."""
    items.sort(key=lambda item: "test_secrets.py" in item.nodeid)


ADOPTED = "ALTER TABLE wgsyncd_nodes ALTER adopted SET DEFAULT 1"  # most tests are of nodes that an admin has adopted


@pytest.fixture(scope="session")
def ear(tmp_path_factory: pytest.TempPathFactory) -> Ear:
    """Returns the ear, which hears everything."""
    return Ear(tmp_path_factory.mktemp("heard") / "all")


@pytest.fixture(scope="session")
def mariadbd() -> Iterator[PrivateServer]:
    """Yields the MariaDB server of this run."""
    with PrivateServer() as server:
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[PrivatePostgres]:
    """Yields the PostgreSQL server of one file of tests."""
    with PrivatePostgres() as server:
        yield server


@pytest.fixture
def database(mariadbd: PrivateServer, ear: Ear) -> Iterator[PrivateServer]:
    """Yields the server with the reference schema, wgsyncd's tables and the account with the shipped grants."""
    mariadbd.sql(f"DROP DATABASE IF EXISTS {DATABASE}", database="")
    mariadbd.sql("".join(f"DROP USER IF EXISTS '{ACCOUNT}'@'{host}';" for host in ("localhost", "127.0.0.1")),
                 database="")  # fmt: skip
    mariadbd.load()
    mariadbd.sql(ADOPTED)
    mariadbd.create_account()
    ear.keep(mariadbd.password_file.read_text().strip())
    yield mariadbd
    try:
        assert mariadbd.pid
    except CommandFailed:  # a test ended the database
        mariadbd.start()
    mariadbd.sql("SET GLOBAL read_only = 0; SET GLOBAL general_log = 0", database="")


@pytest.fixture
def kind() -> WgKind:
    """Returns the kind of WireGuard. Tests with the mark `both_kinds` use both kinds."""
    return "userspace"


@pytest.fixture
def bench(tmp_path: Path, database: PrivateServer, kind: WgKind, ear: Ear) -> Iterator[Bench]:
    """Yields the bench with everything except a started daemon."""
    with contextlib.ExitStack() as stack:
        bench = Bench(tmp_path, database, kind, ear)
        stack.callback(bench.close)
        bench.open()
        yield bench


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the path of the project's Debian package after its build."""
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def later_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the path of the same package with a later version."""
    return as_later(package, tmp_path_factory.mktemp("later"))


@pytest.fixture(scope="session")
def bootable() -> None:
    """Asserts that the machine has everything for a booted systemd.

    The test fails and does not skip, because root runs tests/run and can install what is missing.
    """
    assert os.geteuid() == 0, "NOT TESTED: needs root"
    missing = [f"{program} of Debian's {package}" for program, package in NEEDED.items() if not shutil.which(program)]
    assert not missing, f"NOT TESTED: needs {', '.join(missing)}"


@pytest.fixture(scope="session")
def installed(bootable: None, package: Path) -> Iterator[Node]:
    """Yields wgsyncd from its package under a booted systemd.

    All tests share this system, and each test leaves it as it found it.
    """
    with Booted() as system:
        node = Node(system)
        node.install(package)
        yield node
