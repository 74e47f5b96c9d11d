"""A notification brings a committed row into the kernel at once, with no poll of the table in between."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from tests.pages import DOC, blocks
from tests.real.bench import PATIENCE, Bench, Device, real_device, wait
from wgsyncd.demo.mariadb import DATABASE

BLIND = {"schedule.watch_interval": "0s", "schedule.resync_interval": "1h", "schedule.poll_interval": "1h"}


@pytest.fixture
def admin(bench: Bench) -> Iterator[Connection[Cursor]]:
    """Yields the application's own connection."""
    actual = pymysql.connect(**bench.database.connect_args, database=DATABASE, autocommit=False)
    yield actual
    actual.close()


def notify(bench: Bench) -> Path:
    return bench.daemon.directory / "notify.sock"


def hint(bench: Bench, *devices: Device) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as actual:
        actual.sendto(" ".join(one.device for one in devices).encode(), str(notify(bench)))


def test_a_hint_is_followed_at_once_and_concerns_nobody_else(bench: Bench) -> None:
    bench.configure(BLIND)
    first, second = bench.make(2)
    bench.daemon.start()
    bench.await_peers(first, second)
    third = Device("0001-new", "10.200.0.99")
    bench.insert(third)
    bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{first.device}'")
    hint(bench, third)
    bench.await_peers(first, second, third)
    hint(bench, first)
    bench.await_peers(second, third)
    wait(lambda: [one[:2] for one in bench.logs("peer_removed")] == [("peer_removed", first.device)], "written down")
    assert bench.daemon.cycles("notify") == 2
    assert bench.daemon.cycles("reconcile") == 1
    bench.sql("UPDATE customer_devices SET status = 'paused'")
    hint(bench)
    bench.await_peers()


def test_sync_waits_until_it_is_done(bench: Bench) -> None:
    bench.configure(BLIND)
    crowd = bench.make(3)
    bench.daemon.start()
    bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{crowd[0].device}'")
    assert bench.daemon.cli("sync", crowd[0].device).stdout == f"compared {crowd[0].device}\n"
    assert crowd[0].keys.public not in bench.peers()
    bench.database.kill()
    assert "failed: " in bench.daemon.cli("sync", code=1).stderr


def test_a_hint_that_comes_before_the_commit_changes_nothing_and_the_watch_finds_it(
    bench: Bench, admin: Connection[Cursor]
) -> None:
    held = bench.make(1)[0]
    bench.daemon.start()
    bench.await_peers(held)
    with admin.cursor() as cursor:
        cursor.execute("UPDATE customer_devices SET status = 'paused' WHERE device_id = %s", (held.device,))
    hints = bench.daemon.metrics()["wgsyncd_notifications_total"]
    hint(bench, held)
    wait(lambda: bench.daemon.metrics()["wgsyncd_notifications_total"] > hints, "it came")
    looks = bench.daemon.cycles("watch")
    wait(lambda: bench.daemon.cycles("watch") > looks + 1, "looks at a row as it was")
    assert set(bench.peers()) == {held.keys.public}
    admin.commit()
    bench.await_peers()


def test_a_flood_of_hints_lies_and_garbage_does_no_harm(bench: Bench) -> None:
    held, going = bench.make(2)
    bench.daemon.start()
    bench.await_peers(held, going)
    lies = ["no-such-device", held.device, "", "\x00\x01", "D" * 5000, held.device + " x"]

    def flood() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as actual:
            for number in range(18_000):
                actual.sendto(lies[number % len(lies)].encode(), str(notify(bench)))

    threads = [threading.Thread(target=flood) for _ in range(3)]
    for one in threads:
        one.start()
    bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{going.device}'")
    bench.await_peers(held)
    for one in threads:
        one.join()
    came = (
        "wgsyncd_invalid_notifications_total",
        "wgsyncd_notifications_total",
    )  # the last notifications may still be in the socket
    wait(lambda: [bench.daemon.metrics()[name] for name in came] == [18_000, 36_000], "every one was heard, once")
    wait(lambda: bench.daemon.cli("sync").stdout == "compared everything\n", "it answers")
    assert set(bench.peers()) == {held.keys.public}
    assert bench.daemon.lines(level="error") == []


def test_a_change_that_the_watch_finds_does_not_wait_for_everybodys_counters(bench: Bench) -> None:
    bench.configure({**BLIND, "schedule.watch_interval": "200ms"})
    held, going = real_device("0001-held", "10.200.0.11"), Device("0001-going", "10.200.0.12")
    bench.insert(held, going)
    bench.daemon.start()
    customer = bench.customer(held)
    assert customer.transfer(up=50_000, down=50_000).wait(PATIENCE) == 0

    def posted() -> int:
        return int(
            str(
                bench.sql(f"SELECT rx_bytes_total FROM customer_devices WHERE device_id = '{held.device}'")[0][
                    "rx_bytes_total"
                ]
            )
        )

    before = posted()
    bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{going.device}'")
    bench.await_peers(held)
    wait(lambda: bench.logs("peer_removed"), "written down")
    assert posted() == before < 50_000
    bench.daemon.reconcile()
    assert posted() > 50_000


def test_the_lines_of_the_page_do_what_they_say(bench: Bench) -> None:
    """The lines for Python and for a shell run. The lines for PHP make the same calls."""
    bench.configure(BLIND)
    bench.daemon.start()
    for number, language in enumerate(("python", "sh")):
        code = blocks(DOC / "tables.md", language)["notification"]
        one = Device(f"0001-{language}", f"10.200.0.{50 + number}")
        bench.insert(one)
        code = code.replace("/run/wgsyncd-notify/notify.sock", str(notify(bench))).replace("0001-DEV-001", one.device)
        interpreter = ["python3", "-"] if language == "python" else ["sh", "-s"]
        subprocess.run(interpreter, input=code, text=True, check=True)
        wait(lambda key=one.keys.public: key in bench.peers(), language)


def test_a_loop_of_one_update_and_one_hint_a_row_stops_at_the_budget(bench: Bench) -> None:
    """An ORM revokes everybody, row by row. The daemon is killed and started in between."""
    crowd = bench.make(30)
    bench.daemon.start()
    bench.await_peers(*crowd)
    for number, one in enumerate(crowd, 1):
        bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{one.device}'")
        hint(bench, one)
        if number <= 10:  # Hints that come together would be one plan over the budget, of which nothing goes.
            bench.await_peers(*crowd[number:])
        if number == 5:
            bench.daemon.kill()
            bench.daemon.start()
            bench.await_peers(*crowd[5:])
    wait(lambda: bench.daemon.status()["withheld"] == 20, "the rest waits")
    bench.daemon.reconcile()
    bench.await_peers(*crowd[10:])
    assert sum(int(row["removed"] or 0) for row in bench.sql("SELECT removed FROM wgsyncd_removals")) == 10
    told = "20 of 20 live peers would go after 10 others, 10 may go unasked in 10 minutes"
    assert told in bench.daemon.cli("plan", code=2).stdout
    assert len(bench.logs("guard_tripped")) <= 6
