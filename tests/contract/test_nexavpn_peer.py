"""Who logs in over PostgreSQL's socket with the authentication "peer": root's commands, as the role's own user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import closing

import msgspec
import psycopg
import pytest

from tests.nexavpn_database import BERLIN, NexavpnDatabase
from tests.postgres import NODE_ROLE, PrivatePostgres
from tests.wait import until
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Severity
from wgsyncd.errors import StoreError
from wgsyncd.stores.nexavpn.backend import Backend
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.login import log_in
from wgsyncd.stores.nexavpn.settings import nexavpn
from wgsyncd.stores.resolving import Resolver

ACCOUNT = "daemon" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(scope="module")
def settings(postgres: PrivatePostgres) -> Iterator[Settings]:
    """The configuration of a node whose role has the name of a system's user. The server asks the kernel for it."""
    nexa = NexavpnDatabase(postgres, "peer")
    nexa.init(role=ACCOUNT)
    rules = postgres.directory / "data" / "pg_hba.conf"
    before = rules.read_text(encoding="utf-8")
    rules.write_text(f"local peer {ACCOUNT} peer\nlocal peer {NODE_ROLE} reject\n{before}", encoding="utf-8")
    with nexa.admin() as admin:
        admin.execute("SELECT pg_reload_conf()")
    until(lambda: _is_rejected(nexa), 30, "the server has the new rules")
    plain = nexa.settings(BERLIN)
    yield msgspec.structs.replace(plain, store=msgspec.structs.replace(plain.store, database=nexa.database(ACCOUNT)))
    rules.write_text(before, encoding="utf-8")
    with nexa.admin() as admin:
        admin.execute("SELECT pg_reload_conf()")


def _is_rejected(nexa: NexavpnDatabase) -> bool:
    with nexa.connected(NODE_ROLE) as connection:
        return "rejects" in _refusal(connection)


def _refusal(connection: Connection) -> str:
    """The error of a login. "": it is done."""
    try:
        connection.query("SELECT 1")
    except StoreError as error:
        return str(error)
    return ""


def test_the_commands_of_root_log_in_as_the_roles_user(settings: Settings) -> None:
    account = os.geteuid()
    backend = Backend(settings)
    findings = list(backend.check())
    assert [one for one in findings if one.severity is Severity.FAULT] == []
    assert any(f"as {ACCOUNT}" in one.message for one in findings)
    with closing(backend.store(lambda: None)) as store:
        assert len(store.snapshot().rows) == 1
    assert os.geteuid() == account, "the process is what it was"


def test_a_listener_does_not_change_the_user_of_the_other_threads(settings: Settings) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"(?i)peer authentication failed"):
        log_in(nexavpn(settings).database, 4.0, Resolver())
