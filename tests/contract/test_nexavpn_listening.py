"""Notifications of PostgreSQL are heard on a connection that stays, also where nobody says anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import pytest

from tests.nexavpn_database import NexavpnDatabase
from tests.postgres import PrivatePostgres
from tests.wait import until
from wgsyncd.stores.nexavpn import listening
from wgsyncd.stores.nexavpn.listening import Listener

_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'wgsyncd' AND datname = current_database()"


@pytest.fixture(scope="module")
def nexa(postgres: PrivatePostgres) -> NexavpnDatabase:
    made = NexavpnDatabase(postgres, "listening")
    made.init()
    return made


@contextmanager
def heard(nexa: NexavpnDatabase) -> Iterator[SimpleQueue[bytes]]:
    """Yields what a listener hears."""
    found: SimpleQueue[bytes] = SimpleQueue()
    listener = Listener(nexa.database(), found.put)
    yield found
    listener.close()


def test_a_silent_channel_costs_no_connection(nexa: NexavpnDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns and checks come and go while the session is the same, and the first text alone means all rows."""
    monkeypatch.setattr(listening, "_TURN", 0.01)
    monkeypatch.setattr(listening, "_CHECK", 0.1)
    with heard(nexa) as found, nexa.admin(autocommit=True) as admin:
        assert found.get(timeout=30) == b""
        (session,) = admin.execute(_SESSIONS).fetchall()
        asked = "SELECT query_start FROM pg_stat_activity WHERE pid = %s"
        began = admin.execute(asked, session).fetchall()
        until(lambda: admin.execute(asked, session).fetchall() != began, 30, "the server is asked again")
        admin.execute("SELECT pg_notify('wgsyncd', 'a device')")
        assert found.get(timeout=30) == b"a device"
        assert admin.execute(_SESSIONS).fetchall() == [session]


def test_after_a_lost_connection_another_one_hears(nexa: NexavpnDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_RETRY", 0.01)
    with heard(nexa) as found, nexa.admin(autocommit=True) as admin:
        assert found.get(timeout=30) == b""
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM ({_SESSIONS}) AS one".encode())
        assert found.get(timeout=30) == b"", "what was said meanwhile is lost, so all rows are looked at"
        admin.execute("SELECT pg_notify('wgsyncd', 'a device')")
        assert found.get(timeout=30) == b"a device"
