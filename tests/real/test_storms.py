"""After many changes at once or without end, the kernel matches the rows.

No more than one reconcile waits, and the memory stays the same.
"""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from tests.real.bench import Bench, Device, wait
from wgsyncd.demo.mariadb import DATABASE

CROWD = 5000
WIDE = {"interfaces.wg0.networks": ["10.200.0.0/16"], "interfaces.wg0.addresses": ["10.200.0.1/16"],
        "guard.always_allowed": 10_000, "guard.max_share": 1.0, "schedule.poll_interval": "15s", "mikyun.database.timeout": "10s"}  # fmt: skip
SPAN = 20.0  # seconds. A leak of one object a change is over a thousand objects.


@pytest.fixture
def admin(bench: Bench) -> Iterator[Connection[Cursor]]:
    """Yields the application's own connection."""
    actual = pymysql.connect(**bench.database.connect_args, database=DATABASE, autocommit=True)
    yield actual
    actual.close()


def resident(bench: Bench) -> int:
    """Returns the daemon's resident memory in KiB."""
    found = re.search(r"^VmRSS:\s*(\d+) kB", Path(f"/proc/{bench.daemon.pid}/status").read_text(), re.M)
    assert found
    return int(found[1])


def wanted(bench: Bench) -> set[str]:
    rows = bench.sql("SELECT public_key FROM customer_devices WHERE status = 'active'")
    return {str(row["public_key"]) for row in rows}


def converges(bench: Bench) -> None:
    """Waits until the kernel matches the rows.

    Asserts that a queued reconcile has run and that nothing runs after it.
    """
    wait(lambda: set(bench.peers()) == wanted(bench), "as the rows say")
    runs = bench.daemon.cycles()
    looks = bench.daemon.cycles("watch")
    wait(lambda: bench.daemon.cycles("watch") > looks + 5, "looks round")
    assert bench.daemon.cycles() - runs <= 2, "the one that was under way, and one that was queued"
    assert bench.daemon.lines(level="error") == []


def test_five_thousand_rows_in_one_transaction(bench: Bench, admin: Connection[Cursor]) -> None:
    bench.configure(WIDE)
    crowd = [Device(f"0001-{n}", f"10.200.{n // 250 + 1}.{n % 250 + 1}") for n in range(CROWD)]
    bench.insert(*crowd)
    bench.daemon.start()
    wait(lambda: len(bench.peers()) == CROWD, "all")
    after: list[int] = []
    for status in ("paused", "active") * 2:
        with admin.cursor() as cursor:
            cursor.execute(f"UPDATE customer_devices SET status = '{status}' WHERE device_id <> '{crowd[0].device}'")
        converges(bench)
        after.append(resident(bench))
    wait(lambda: len(bench.logs("peer_removed")) + len(bench.logs("peer_added")) >= 2, "written down")
    assert max(after[2:]) < max(after[:2]) * 1.1, f"memory grows: {after} KiB"


def storm(bench: Bench, seconds: float, change: Callable[[int], Device]) -> None:
    """Makes a change and sends a notification every ten milliseconds, for `seconds` seconds."""
    pause = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hints:
        until, turn = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            hints.sendto(change(turn).device.encode(), str(bench.daemon.directory / "notify.sock"))
            pause.wait(0.01)
            turn += 1


def test_a_change_every_ten_milliseconds(bench: Bench, admin: Connection[Cursor]) -> None:
    bench.configure({"guard.max_share": 1.0})
    crowd = bench.make(50)
    bench.daemon.start()
    bench.await_peers(*crowd)
    dice = random.Random(6)

    def change(_: int) -> Device:
        one = dice.choice(crowd)
        with admin.cursor() as cursor:
            cursor.execute(
                "UPDATE customer_devices SET status = IF(status = 'active', 'paused', 'active') WHERE device_id = %s",
                (one.device,),
            )
        return one

    storm(bench, SPAN / 4, change)
    before = resident(bench)
    storm(bench, SPAN, change)
    converges(bench)
    assert resident(bench) < before * 1.1, "memory grows"


def test_a_change_while_the_database_restarts(bench: Bench) -> None:
    bench.configure({"mikyun.database.timeout": "1s"})
    crowd = bench.make(5)
    bench.daemon.start()
    bench.await_peers(*crowd)
    bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{crowd[0].device}'")
    bench.database.kill()
    bench.database.start()
    bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{crowd[1].device}'")
    bench.await_peers(*crowd[2:])
