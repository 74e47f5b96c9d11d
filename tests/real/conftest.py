"""Fixtures of the tests on real parts: one private MariaDB per run, emptied for each test; a world per test."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nspawn import Booted
from tests.real.bench import Bench, Ear
from tests.real.installed import NEEDED, Node, as_later, build
from wgsyncd.demo.mariadb import ACCOUNT, DATABASE, PrivateServer
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import WgKind


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks for secrets in everything that was said comes when all has been said."""
    items.sort(key=lambda item: "test_secrets.py" in item.nodeid)


@pytest.fixture(scope="session")
def ear(tmp_path_factory: pytest.TempPathFactory) -> Ear:
    """Hears everything."""
    return Ear(tmp_path_factory.mktemp("heard") / "all")


@pytest.fixture(scope="session")
def mariadbd() -> Iterator[PrivateServer]:
    """The server of this run."""
    with PrivateServer() as server:
        yield server


@pytest.fixture
def database(mariadbd: PrivateServer, ear: Ear) -> Iterator[PrivateServer]:
    """The server with the reference schema, wgsyncd's tables and the account with the shipped grants."""
    mariadbd.sql(f"DROP DATABASE IF EXISTS {DATABASE}", database="")
    mariadbd.sql("".join(f"DROP USER IF EXISTS '{ACCOUNT}'@'{host}';" for host in ("localhost", "127.0.0.1")),
                 database="")  # fmt: skip
    mariadbd.load()
    mariadbd.create_account()
    ear.keep(mariadbd.password_file.read_text().strip())
    yield mariadbd
    try:
        assert mariadbd.pid
    except CommandFailed:  # a test ended it
        mariadbd.start()
    mariadbd.sql("SET GLOBAL read_only = 0; SET GLOBAL general_log = 0", database="")


@pytest.fixture
def kind() -> WgKind:
    """Whose WireGuard; tests marked with `both_kinds` have both."""
    return "userspace"


@pytest.fixture
def bench(tmp_path: Path, database: PrivateServer, kind: WgKind, ear: Ear) -> Iterator[Bench]:
    """All of it, the daemon not yet started."""
    with contextlib.ExitStack() as stack:
        bench = Bench(tmp_path, database, kind, ear)
        stack.callback(bench.close)
        bench.open()
        yield bench


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's Debian package, built."""
    return build(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def later_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as a later version."""
    return as_later(package, tmp_path_factory.mktemp("later"))


@pytest.fixture(scope="session")
def bootable() -> None:
    """What a booted systemd takes is there. No reason to skip: tests/run is run by root, and installs it."""
    assert os.geteuid() == 0, "NOT TESTED: needs root"
    missing = [f"{program} of Debian's {package}" for program, package in NEEDED.items() if not shutil.which(program)]
    assert not missing, f"NOT TESTED: needs {', '.join(missing)}"


@pytest.fixture(scope="session")
def installed(bootable: None, package: Path) -> Iterator[Node]:
    """wgsyncd from its package under a booted systemd: one for all tests, each leaves it as it found it."""
    with Booted() as system:
        node = Node(system)
        node.install(package)
        yield node
