"""Samples of an outage survive the process and the interface, and a removed peer is sampled last."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.real.bench import PATIENCE, Bench, Device, both_kinds, real_device, wait
from wgsyncd.core.model import Counters
from wgsyncd.demo.testbed import Customer

BOOKED = "SELECT SUM(rx_bytes_total) rx, SUM(tx_bytes_total) tx FROM customer_devices"


def posted(bench: Bench) -> Counters:
    row = bench.sql(BOOKED)[0]
    return Counters(int(row["rx"] or 0), int(row["tx"] or 0))


def shown(bench: Bench, device: Device) -> Counters:
    """Returns the device's counters as wg(8) shows them."""
    peer = bench.peers().get(device.keys.public)
    return Counters(peer.rx, peer.tx) if peer else Counters(0, 0)


def served(bench: Bench) -> tuple[Device, Customer]:
    """Returns a device and its customer, whose traffic is already posted."""
    device = real_device("0001-held", "10.200.0.11")
    bench.insert(device)
    bench.configure({"mikyun.database.timeout": "2s"})
    bench.daemon.start()
    customer = bench.customer(device)
    assert customer.transfer(up=50_000, down=50_000).wait(PATIENCE) == 0
    wait(lambda: posted(bench).rx > 50_000, "posted")
    return device, customer


def still(bench: Bench, device: Device, customer: Customer) -> Counters:
    """Stops all traffic of the tunnel, and returns the counters of the daemon's last sample."""
    server = bench.world.interfaces["wg0"]
    customer.namespace.run("wg", "set", "wg0", "peer", server.keys.public, "remove")
    bench.world.server.run("ip", "link", "set", "wg0", "down")  # the server would otherwise try to reach the customer
    name = 'wgsyncd_interface_sampled_timestamp_seconds{interface="wg0"}'

    def stands() -> Counters | None:  # packets on their way still arrive
        counters, before = shown(bench, device), bench.daemon.metrics()[name]
        wait(lambda: bench.daemon.metrics()[name] > before, "a sample is kept")
        return counters if shown(bench, device) == counters else None

    last: Counters = wait(stands, "the counters stand")
    return last


def spool(bench: Bench) -> Path:
    return bench.daemon.directory / "state" / "spool"


@both_kinds
def test_a_reboot_while_the_database_is_away_loses_nothing_that_was_sampled(bench: Bench) -> None:
    """For wgsyncd this equals a reboot, because the process is dead and the interface is another one."""
    device, customer = served(bench)
    bench.database.kill()
    assert customer.transfer(up=70_000, down=60_000).wait(PATIENCE) == 0
    first = still(bench, device, customer)
    wait(lambda: bench.daemon.metrics()["wgsyncd_spool_pending_counters"] == 1, "the metric tells of it")
    bench.daemon.kill()
    bench.world.server.run("ip", "link", "delete", "wg0")
    bench.remake("wg0")
    bench.daemon.start()  # the database is still away
    assert bench.daemon.lines(event="spooled samples found")
    bench.daemon.kill()
    bench.daemon.start()
    bench.database.start()
    bench.await_peers(device)
    wait(lambda: posted(bench) == first, "what was in the spool is posted")
    customer.configure(bench.world.interfaces["wg0"], device.keys, device.address)
    assert customer.transfer(up=20_000, down=10_000).wait(PATIENCE) == 0

    def even() -> bool:
        second = shown(bench, device)
        return posted(bench) == (first.rx + second.rx, first.tx + second.tx)

    wait(even, "and what came after it")
    wait(lambda: bench.daemon.metrics()["wgsyncd_spool_pending_counters"] == 0, "nothing waits any more")
    assert bench.logs("usage_anomaly") == []
    bench.ear.hear("spool", spool(bench).read_text().replace(device.keys.public, ""))
    assert spool(bench).stat().st_mode & 0o777 == 0o600


def test_a_spool_that_is_booked_is_not_booked_again(bench: Bench) -> None:
    """The test puts an old copy of the spool back."""
    device, customer = served(bench)
    bench.database.kill()
    assert customer.transfer(up=70_000, down=60_000).wait(PATIENCE) == 0
    still(bench, device, customer)
    copy = spool(bench).read_bytes()
    bench.database.start()
    wait(lambda: posted(bench) == shown(bench, device), "posted")
    bench.daemon.kill()
    total = posted(bench)
    bench.world.server.run("ip", "link", "delete", "wg0")
    bench.remake("wg0")
    spool(bench).write_bytes(copy)
    bench.daemon.start()
    bench.await_peers(device)
    bench.daemon.reconcile()
    assert posted(bench) == total


def test_a_torn_spool_is_set_aside_and_said(bench: Bench) -> None:
    device, customer = served(bench)
    bench.database.kill()
    assert customer.transfer(up=70_000, down=60_000).wait(PATIENCE) == 0
    total = still(bench, device, customer)
    bench.daemon.kill()
    torn = spool(bench).read_bytes()[:-7]
    spool(bench).write_bytes(torn)
    bench.daemon.start()
    line = bench.daemon.lines(event="the spool is damaged: its samples are not posted")[0]
    assert "torn" in line["why"]
    assert spool(bench).with_suffix(".bad1").read_bytes() == torn
    assert bench.daemon.metrics()["wgsyncd_spool_corruptions_total"] == 1
    bench.database.start()
    wait(lambda: posted(bench) == shown(bench, device), "the kernel still knew")
    assert posted(bench).rx >= total.rx
    wait(lambda: bench.logs("spool_corrupt"), "an audit row")
    assert "spool.bad1" in bench.logs("spool_corrupt")[0][2]


def test_a_spool_that_cannot_be_written_is_said_once(bench: Bench) -> None:
    device, customer = served(bench)
    bench.daemon.stop()
    state = bench.daemon.directory / "state"
    shutil.rmtree(state)
    state.write_text("no directory")
    bench.database.kill()
    bench.daemon.start()
    assert customer.transfer(up=70_000, down=60_000).wait(PATIENCE) == 0
    wait(lambda: bench.daemon.lines(event="spool cannot be read: samples that cannot be posted wait in memory"), "said")
    failures = 'wgsyncd_task_failures_total{task="account"}'
    before = bench.daemon.metrics()[failures]
    wait(lambda: bench.daemon.metrics()[failures] > before + 2, "more failures")
    assert len(bench.daemon.lines(event="spool cannot be read: samples that cannot be posted wait in memory")) == 1
    assert bench.daemon.metrics()["wgsyncd_spool_up"] == 0
    bench.database.start()
    wait(lambda: posted(bench) == shown(bench, device), "posted all the same")


@both_kinds
def test_who_is_paused_in_the_middle_of_a_transfer_pays_for_it(bench: Bench) -> None:
    """Bytes between the plan's dump and the removal are posted too."""
    device, customer = served(bench)
    transfer = customer.transfer(up=50_000_000, down=50_000_000, seconds=PATIENCE * 10)
    before = posted(bench)
    wait(lambda: posted(bench).rx > before.rx + 100_000, "it is under way")
    last = shown(bench, device)
    bench.sql("UPDATE customer_devices SET status = 'paused'")
    wait(lambda: device.keys.public not in bench.peers(), "out")
    wait(lambda: bench.logs("peer_removed"), "and written down")
    assert posted(bench).rx >= last.rx
    assert posted(bench).tx >= last.tx
    metrics = bench.daemon.metrics()
    assert metrics["wgsyncd_removal_gap_seconds_count"] == 1
    assert metrics["wgsyncd_removal_gap_longest_seconds"] > 0
    assert metrics["wgsyncd_spool_pending_counters"] == 0
    transfer.send_signal(signal.SIGKILL)
    transfer.wait(PATIENCE)


FLOOD = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for _ in range(500):
        s.sendto(bytes(1000), ("10.200.0.1", 9))
"""


@pytest.mark.vm
@pytest.mark.parametrize("kind", ["kernel"])
def test_the_kernel_counts_no_data_of_a_peer_without_allowed_ips(bench: Bench) -> None:
    """So a peer loses its allowed IPs before its last sample (drivers/net/wireguard/receive.c)."""
    device, customer = served(bench)
    bench.daemon.stop()
    before = shown(bench, device)
    customer.namespace.run(sys.executable, "-I", "-S", "-c", FLOOD)
    wait(lambda: shown(bench, device).rx > before.rx + 400_000, "a flood is counted")
    bench.world.server.run("wg", "set", "wg0", "peer", device.keys.public, "allowed-ips", "")
    before = shown(bench, device)

    def dropped() -> int:
        (link,) = json.loads(bench.world.server.run("ip", "-json", "-s", "-s", "link", "show", "wg0"))
        return int(link["stats64"]["rx"]["frame_errors"])

    errors = dropped()
    customer.namespace.run(sys.executable, "-I", "-S", "-c", FLOOD)
    wait(lambda: dropped() > errors + 400, "another one has come in")
    after = shown(bench, device)
    assert after.rx - before.rx < 1000
    assert after.tx - before.tx < 1000
