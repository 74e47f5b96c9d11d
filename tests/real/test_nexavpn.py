"""The daemon on NexaVPN's tables: real PostgreSQL, real WireGuard in userspace, real packets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import PrivatePostgres
from tests.real.nexavpn_bench import Bench, opened
from tests.real.running import Ear, wait
from wgsyncd.core.model import Counters

MIB = 1 << 20


@pytest.fixture
def bench(postgres: PrivatePostgres, ear: Ear, tmp_path: Path) -> Iterator[Bench]:
    with opened(postgres, ear, tmp_path) as made:
        yield made


def test_rows_become_peers_and_no_byte_is_lost_by_a_kill(bench: Bench) -> None:
    client = bench.customer(5)
    bench.daemon.start()
    wait(lambda: bench.peer(5) is not None, "the peer of the row")
    assert client.transfer(up=3 * MIB, down=MIB).wait() == 0
    wait(lambda: bench.is_posted(5), "all bytes in the view")
    assert bench.tables.posted(5).rx > 3 * MIB
    wait(lambda: bench.tables.device(5)["last_seen_at"] is not None, "the handshake, which comes after the bytes")
    seen = bench.tables.device(5)
    assert seen["last_connected_at"] == seen["last_seen_at"]

    running = client.transfer(up=2 * MIB, down=2 * MIB, seconds=4)
    wait(lambda: bench.tables.posted(5).rx > 4 * MIB, "a part of the bytes")
    bench.daemon.kill()
    assert running.wait() == 0
    bench.daemon.start()
    wait(lambda: bench.is_posted(5), "all bytes in the view again")

    before = bench.peer(5)
    bench.tables.update("devices", bench.tables.id(5), status="blocked")
    wait(lambda: bench.peer(5) is None, "the end of the peer")
    assert before is not None
    wait(lambda: "gateway.peer_removed" in dict(bench.events()), "the audit row of the removal")
    assert bench.tables.posted(5) == Counters(before.rx, before.tx)
    device = bench.tables.id(5)
    assert [one for one in bench.events() if one[1] == device] == [
        ("gateway.peer_added", device), ("gateway.peer_removed", device)
    ]  # fmt: skip
    bench.daemon.stop()


def test_a_notification_is_heard_where_nobody_looks(bench: Bench) -> None:
    """Without the watch, only a notification tells of a row before the next full reconcile."""
    quiet = bench.daemon.config.read_text(encoding="utf-8").replace('"100ms"', '"0s"\nresync_interval = "10min"')
    bench.daemon.config.write_text(quiet, encoding="utf-8")
    bench.daemon.start()
    listening = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT 1' OR query LIKE 'LISTEN%%'"
    wait(lambda: bench.tables.sql(listening), "the second connection")
    for number, told in ((5, str(bench.tables.id(5))), (6, "")):
        bench.customer(number)
        bench.tables.sql("SELECT pg_notify('wgsyncd', %s)", told)
        wait(lambda n=number: bench.peer(n) is not None, "the peer of the notification")
    bench.tables.server.stop("immediate")
    bench.tables.server.start()
    bench.tables.connect()
    bench.customer(7)  # the next connection of the listener takes all rows for changed
    wait(lambda: bench.peer(7) is not None, "the peer of the row that nobody has told of")
    bench.daemon.stop()


def test_the_server_crashes_under_traffic(bench: Bench) -> None:
    client = bench.customer(6)
    bench.daemon.start()
    wait(lambda: bench.peer(6) is not None, "the peer of the row")
    running = client.transfer(up=2 * MIB, down=2 * MIB, seconds=4)
    wait(lambda: bench.tables.posted(6).rx > 0, "the first bytes")
    bench.tables.server.stop("immediate")
    assert running.wait() == 0, "peers stay"
    bench.tables.server.start()
    bench.tables.connect()
    wait(lambda: bench.is_posted(6), "all bytes in the view")
    gateways = bench.tables.sql("SELECT last_sync_at FROM gateways")
    assert len(gateways) == 2
    bench.daemon.signal(signal.SIGTERM)
    assert bench.daemon.wait() == 0


def test_the_commands_speak_of_the_device(bench: Bench) -> None:
    bench.customer(7)
    bench.tables.update("wireguard_peers", bench.tables.peer_id(7), assigned_ip="10.200.0.99")
    bench.daemon.start()
    device = str(bench.tables.id(7))
    row = bench.tables.sql(f"SELECT public_key, name FROM devices WHERE id = '{device}'")[0]
    key = row["public_key"]
    told = bench.daemon.cli("explain", device, code=None, shows=key).stdout
    assert "10.200.0.99 is not allocated to the device" in told
    assert bench.daemon.cli("check-config").returncode == 0
    shown = bench.daemon.cli("devices", code=None).stdout
    assert row["name"] in shown and "alice" in shown
    assert device in bench.daemon.cli("devices", "--json", code=None).stdout
    bench.tables.update("wireguard_peers", bench.tables.peer_id(7), assigned_ip="10.200.0.7")
    wait(lambda: bench.peer(7) is not None, "the peer of the mended row")
    bench.daemon.cli("verify")
    bench.daemon.cli("usage", device)
    bench.daemon.stop()
