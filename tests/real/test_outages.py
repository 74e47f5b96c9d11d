"""The daemon survives trouble of the database and the interfaces, and reports each trouble once.

behaviour.md §7 describes it.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from tests.real.bench import PATIENCE, Bench, Device, both_kinds, random_key, real_device, wait
from wgsyncd.demo.mariadb import DATABASE
from wgsyncd.demo.testbed import Customer

TROUBLE = "the database failed. Devices stay connected, traffic is kept, the work is tried again"
AT_BOOT = "the database failed before any row was read. The node may lack peers, and it removes none"
AGAIN = "the database works again. wgsyncd goes on, and posts the traffic that it kept"
BOOKED = "SELECT SUM(rx_bytes_total) rx, SUM(tx_bytes_total) tx FROM customer_devices"
DEADLOCK, READ_ONLY = 1213, 1290


@pytest.fixture
def admin(bench: Bench) -> Iterator[Connection[Cursor]]:
    """Yields a second client that keeps a transaction open."""
    actual = pymysql.connect(**bench.database.connect_args, database=DATABASE, autocommit=False)
    yield actual
    actual.close()


def _troubles(bench: Bench) -> list[str]:
    return [line["error"] for line in bench.daemon.lines(level="error") if line["event"] in (TROUBLE, AT_BOOT)]


def _well_again(bench: Bench, times: int = 1) -> None:
    wait(lambda: len(bench.daemon.lines(event=AGAIN)) == times, "well again")
    wait(lambda: bench.daemon.metrics()["wgsyncd_database_up"] == 1, "the metric says so")
    wait(lambda: bench.daemon.get("/readyz") == "ok\n", "ready")


def _several_failures(bench: Bench, count: int = 3) -> None:
    """Waits until `count` more tasks have failed."""
    name = "wgsyncd_database_errors_total"
    before = bench.daemon.metrics()[name]
    wait(lambda: bench.daemon.metrics()[name] >= before + count, f"{count} more failures")


def _served(bench: Bench, others: int = 0, timeout: str = "1s") -> tuple[Device, Customer]:
    """Returns a device and its customer, whose traffic is already posted."""
    held = real_device("0001-held", "10.200.0.11")
    bench.insert(held)
    bench.make(others, first=20) if others else None
    bench.configure({"mikyun.database.timeout": timeout})
    bench.daemon.start()
    customer = bench.customer(held)
    assert customer.transfer(up=50_000, down=50_000).wait(PATIENCE) == 0
    wait(lambda: int(bench.sql(BOOKED)[0]["rx"] or 0) > 50_000, "posted")
    return held, customer


def _await_books(bench: Bench, held: Device) -> None:
    """Waits until the table has the bytes that wg(8) counts. No byte is missing or posted twice."""

    def equal() -> bool:
        peer, row = bench.peers()[held.keys.public], bench.sql(BOOKED)[0]
        return (peer.rx, peer.tx) == (int(row["rx"] or 0), int(row["tx"] or 0))

    wait(equal, "the books are even")


def test_the_database_is_down_at_boot(bench: Bench) -> None:
    """The daemon sends READY, the peers stay, and one line reports the trouble."""
    crowd = bench.make(2)
    stranger = random_key()
    bench.ear.keep(stranger)
    bench.world.server.run("wg", "set", "wg0", "peer", stranger, "allowed-ips", "10.200.0.250/32")
    bench.database.kill()
    daemon = bench.daemon.start()
    assert daemon.notices.has("STATUS=database does not serve (…")
    assert "no complete reconcile since start" in daemon.get("/readyz")
    assert daemon.get("/healthz") == "ok\n"
    assert set(bench.peers()) == {stranger}
    assert daemon.metrics()["wgsyncd_database_up"] == 0
    _several_failures(bench, 1)
    daemon.signal(signal.SIGUSR1)
    _several_failures(bench, 1)
    assert len(_troubles(bench)) == 1
    assert set(bench.peers()) == {stranger}
    bench.database.start()
    bench.await_peers(*crowd)
    _well_again(bench)
    assert daemon.notices.has("STATUS=wg0: 2 peers, 0 online; wg1: 0 peers, 0 online")
    assert [one[0] for one in bench.logs()].count("daemon_started") == 1


@pytest.mark.parametrize("orderly", [True, False])
def test_the_database_is_restarted(bench: Bench, orderly: bool) -> None:
    held, customer = _served(bench)
    bench.database.stop() if orderly else bench.database.kill()
    assert customer.transfer(up=70_000, down=70_000).wait(PATIENCE) == 0  # the traffic of customers continues
    wait(lambda: _troubles(bench), "noticed")
    _several_failures(bench, 1)
    wait(lambda: bench.daemon.notices.has("STATUS=database does not serve (…"), "STATUS")
    bench.database.start()
    _well_again(bench)
    _await_books(bench, held)
    assert len(_troubles(bench)) == 1  # one line, though the connection was lost first and then refused
    more = Device("0001-more", "10.200.0.99")
    bench.insert(more)
    bench.await_peers(held, more)
    assert not bench.logs("usage_anomaly")


def test_the_database_hangs(bench: Bench) -> None:
    """The database accepts connections and never answers. Watchdog and /healthz show that the daemon lives."""
    held, customer = _served(bench)
    bench.daemon.stop()
    bench.daemon.start({"WATCHDOG_USEC": "5000000"})
    subprocess.run(["kill", "-STOP", str(bench.database.pid)], check=True)
    assert customer.transfer(up=70_000, down=70_000).wait(PATIENCE) == 0
    wait(lambda: _troubles(bench), "noticed")
    _several_failures(bench, 2)
    since = len(bench.daemon.notices.all)
    wait(lambda: bench.daemon.notices.has("WATCHDOG=1", since), "the watchdog is fed")
    assert bench.daemon.get("/healthz") == "ok\n"
    assert set(bench.peers()) == {held.keys.public}
    subprocess.run(["kill", "-CONT", str(bench.database.pid)], check=True)
    _well_again(bench)
    _await_books(bench, held)
    assert len(_troubles(bench)) == 1


def test_a_row_that_somebody_has_locked_holds_nobody_else_up(bench: Bench, admin: Connection[Cursor]) -> None:
    """An admin's console has an open transaction for a long time."""
    held, customer = _served(bench, timeout="3s")
    with admin.cursor() as cursor:
        cursor.execute("UPDATE customer_devices SET device_name = 'open' WHERE device_id = %s", (held.device,))
    assert customer.transfer(up=70_000, down=70_000).wait(PATIENCE) == 0
    wait(lambda: bench.daemon.metrics()["wgsyncd_locked_rows"] == 1, "noticed")
    other = bench.make(1, first=200)[0]
    bench.await_peers(held, other)
    bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{other.device}'")
    bench.await_peers(held)
    assert not _troubles(bench)
    admin.rollback()
    _await_books(bench, held)
    assert len(bench.daemon.lines(event="another program has locked rows: their bytes are posted later")) == 1


def test_a_deadlock_costs_nothing(bench: Bench, admin: Connection[Cursor]) -> None:
    """The server ends the smaller transaction, which is the daemon's."""
    held, customer = _served(bench, others=100, timeout="20s")
    waiting = ("SELECT 1 FROM information_schema.processlist WHERE user = 'mikyun' AND time_ms > 500"
               " AND info LIKE '%wgsyncd_peers%'")  # fmt: skip
    with admin.cursor() as cursor:
        cursor.execute("UPDATE wgsyncd_peers SET address = CONCAT(address, ' ')")
        assert customer.transfer(up=70_000, down=70_000).wait(PATIENCE) == 0
        wait(lambda: bench.sql(waiting), "the daemon waits for us")
        cursor.execute("UPDATE wgsyncd_nodes SET revision = revision")  # and now this client waits for the daemon
    wait(lambda: _troubles(bench), "noticed")
    assert [one.startswith(f"{DEADLOCK}:") for one in _troubles(bench)] == [True], _troubles(bench)
    admin.rollback()
    _well_again(bench)
    _await_books(bench, held)


def test_the_database_is_read_only(bench: Bench) -> None:
    held, customer = _served(bench)
    bench.sql("SET GLOBAL read_only = 1")
    assert customer.transfer(up=70_000, down=70_000).wait(PATIENCE) == 0
    wait(lambda: _troubles(bench), "noticed")
    looks = bench.daemon.cycles("watch")
    wait(lambda: bench.daemon.cycles("watch") > looks, "a look that can read")
    _several_failures(bench, 1)
    assert [one.startswith(f"{READ_ONLY}:") for one in _troubles(bench)] == [True]  # one line, though reading works
    wait(lambda: bench.daemon.notices.has("STATUS=database does not serve (1290…"), "STATUS")
    bench.sql("SET GLOBAL read_only = 0")
    _well_again(bench)
    _await_books(bench, held)


def test_an_outage_that_changes_its_number_is_one_outage(bench: Bench) -> None:
    """The database is read-only, then gone, then read-only again.

    Start and end are reported once, until the next outage.
    """
    held, customer = _served(bench)
    bench.sql("SET GLOBAL read_only = 1")
    assert customer.transfer(up=70_000, down=70_000).wait(PATIENCE) == 0
    wait(lambda: _troubles(bench), "noticed")
    bench.database.kill()
    wait(lambda: bench.daemon.notices.has("STATUS=database does not serve (2003…"), "another number")
    bench.database.start()
    bench.sql("SET GLOBAL read_only = 1")
    _several_failures(bench, 1)
    bench.sql("SET GLOBAL read_only = 0")
    _well_again(bench)
    assert [one.startswith(f"{READ_ONLY}:") for one in _troubles(bench)] == [True]
    _await_books(bench, held)
    bench.database.kill()
    wait(lambda: len(_troubles(bench)) == 2, "a second outage")
    bench.database.start()
    _well_again(bench, times=2)


def test_a_grant_is_taken_away(bench: Bench) -> None:
    crowd = bench.make(2)
    daemon = bench.daemon.start()
    bench.await_peers(*crowd)
    bench.sql("REVOKE SELECT (status) ON customer_devices FROM 'mikyun'@'localhost'")
    daemon.signal(signal.SIGUSR1)
    wait(lambda: _troubles(bench), "noticed")
    daemon.signal(signal.SIGUSR1)
    _several_failures(bench, 1)
    assert len(_troubles(bench)) == 1
    assert "As root: wgsyncd init-db " in _troubles(bench)[0]
    bench.await_peers(*crowd)
    bench.sql("GRANT SELECT (status) ON customer_devices TO 'mikyun'@'localhost'")
    _well_again(bench)


@both_kinds
def test_an_interface_is_deleted_and_comes_back(bench: Bench) -> None:
    """ENODEV is reported once, and the other interface continues.

    The returned interface is filled with one audit row.
    """
    on_wg0, on_wg1 = bench.make(2), bench.make(20, interface="wg1")
    bench.configure({"interfaces.wg1.networks": ["10.251.0.0/24"]})
    daemon = bench.daemon.start()
    bench.await_peers(*on_wg1, interface="wg1")
    bench.world.server.run("ip", "link", "del", "wg1")
    wait(lambda: bench.daemon.lines(level="error"), "noticed")
    more = Device("0001-more", "10.200.0.99")
    bench.insert(more)
    bench.await_peers(*on_wg0, more)
    wait(lambda: bench.logs("interface_missing"), "audited")
    accounts = daemon.cycles("account")
    wait(lambda: daemon.cycles("account") > accounts + 2, "looked for again and again")
    errors = [line for line in daemon.lines(level="error") if line.get("interface") == "wg1"]
    assert len(errors) == 1
    assert "ENODEV" in errors[0]["error"]
    assert daemon.metrics()['wgsyncd_interface_present{interface="wg1"}'] == 0
    assert daemon.notices.has("STATUS=wg0: 3 peers, 0 online; wg1: ENODEV: no …")
    bench.remake("wg1")
    daemon.signal(signal.SIGUSR1)
    bench.await_peers(*on_wg1, interface="wg1")
    wait(lambda: bench.logs("interface_restored"), "audited")
    assert [(t, m) for _, t, m in bench.logs("interface_restored")] == [("wg1", "Interface is new: 20 peers restored")]
    assert len(bench.logs("interface_missing")) == 1
    assert {target for _, target, _ in bench.logs("peer_added")} == {one.device for one in [*on_wg0, *on_wg1, more]}
    assert len(bench.logs("peer_added")) == 23  # these rows are from the first time only
    assert not bench.logs("peer_removed")


def test_a_userspace_process_hangs(bench: Bench) -> None:
    """One interface reports ETIMEDOUT, and the other one continues."""
    on_wg1 = bench.make(1, interface="wg1")
    bench.daemon.start()
    bench.await_peers(*on_wg1, interface="wg1")
    process = bench.world.interfaces["wg1"].process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    wait(lambda: bench.daemon.lines(interface="wg1", level="error"), "noticed")
    more = Device("0001-more", "10.200.0.99")
    bench.insert(more)
    wait(lambda: more.keys.public in bench.world.server.run("wg", "show", "wg0", "peers"), "wg0 is served")
    assert "ETIMEDOUT" in bench.daemon.lines(interface="wg1", level="error")[0]["error"]
    process.send_signal(signal.SIGCONT)
    wait(lambda: len(bench.daemon.lines(event="interface found", interface="wg1")) == 2, "found again")
    assert len(bench.daemon.lines(interface="wg1", level="error")) == 1
    assert not bench.logs("interface_restored")  # the interface was never missing
    bench.await_peers(*on_wg1, interface="wg1")


@pytest.mark.vm
@pytest.mark.parametrize("kind", ["kernel"])
def test_the_kernel_does_not_permit_it(bench: Bench) -> None:
    """EPERM is reported by name and with its remedy, once per interface."""
    bench.make(1)
    daemon = bench.daemon
    daemon.prefix = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    daemon.start()
    daemon.signal(signal.SIGUSR1)
    wait(lambda: daemon.cycles() >= 2, "a second cycle")
    errors = daemon.lines(level="error")
    assert [(line["interface"], "EPERM" in line["error"]) for line in errors] == [("wg0", True), ("wg1", True)]
    assert "CAP_NET_ADMIN is needed" in errors[0]["error"]
    assert not bench.peers()
    assert not bench.logs("interface_missing")  # the interface is not missing
