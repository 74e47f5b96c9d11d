"""`wgsyncd verify` and `wgsyncd quarantine` work beside the running daemon, on real parts."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.real.bench import PATIENCE, Bench, Device, real_device, wait

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # Debian's package libfaketime has it
TOTALS = "SELECT rx_bytes_total rx, tx_bytes_total tx FROM customer_devices WHERE device_id = '{}'"
TOKYO = ZoneInfo("Asia/Tokyo")


def verify(bench: Bench, code: int | None = 0) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(bench.daemon.cli("verify", "--json", code=code).stdout)
    return data


def counted(bench: Bench, device: Device) -> tuple[int, int]:
    """Returns the bytes that the kernel has counted for the device."""
    peer = bench.peers()[device.keys.public]
    return peer.rx, peer.tx


def total(bench: Bench, device: Device) -> tuple[int, int]:
    (row,) = bench.sql(TOTALS.format(device.device))
    return int(row["rx"] or 0), int(row["tx"] or 0)


def stop(bench: Bench) -> None:
    """Ends the daemon with a last account. Nothing is counted after it, because wg0 is down."""
    bench.world.server.run("ip", "link", "set", "wg0", "down")
    bench.daemon.stop()


def test_a_healthy_server_has_no_finding_while_bytes_flow_and_peers_come_and_go(bench: Bench) -> None:
    device = real_device("0001-busy", "10.200.0.11")
    bench.insert(device)
    crowd = bench.make(5, first=20)
    bench.daemon.start()
    # accounting then took over no sums, so verify compares days too
    bench.sql("UPDATE wgsyncd_nodes SET accounting_since = accounting_since - 86400 * 3")
    customer = bench.customer(device)
    transfers = [customer.transfer(up=3_000_000, down=3_000_000, seconds=12)]
    for turn in range(8):
        if turn % 2:
            bench.sql("UPDATE customer_devices SET status = IF(status = 'active', 'paused', 'active')"
                      f" WHERE device_id = '{crowd[turn % 5].device}'")  # fmt: skip
        assert verify(bench) == {"findings": [], "notes": []}
    for transfer in transfers:
        assert transfer.wait(PATIENCE) == 0
    assert total(bench, device)[0] > 1_000_000
    stop(bench)
    assert verify(bench) == {"findings": [], "notes": []}


def test_faults_are_found_and_told(bench: Bench) -> None:
    """The daemon is stopped, so nothing corrects the faults that the second client makes."""
    device, other = real_device("0001-told", "10.200.0.11"), real_device("0001-well", "10.200.0.12")
    bench.insert(device, other)
    daemon = bench.daemon.start()
    customer = bench.customer(device)
    assert customer.transfer(up=100_000, down=0).wait(PATIENCE) == 0
    wait(lambda: total(bench, device)[0] > 100_000, "posted")
    daemon.stop()
    assert daemon.cli("verify").stdout == "everything adds up\n"
    bench.sql("UPDATE wgsyncd_nodes SET accounting_since = accounting_since - 86400 * 3")
    bench.sql("UPDATE customer_devices SET rx_bytes_24h = rx_bytes_24h + 5, tx_bytes_total = -1"
              " WHERE device_id = '0001-told'")  # fmt: skip
    bench.sql("INSERT INTO wgsyncd_days VALUES ('0001-told', DATE(UTC_TIMESTAMP() + INTERVAL 9 HOUR), 3, 0)"
              " ON DUPLICATE KEY UPDATE rx = rx + 3")  # fmt: skip
    bench.world.server.run("wg", "set", "wg0", "peer", other.keys.public, "remove")
    assert customer.transfer(up=50_000, down=0).wait(PATIENCE) == 0
    found = verify(bench, code=1)["findings"]
    assert {(one["check"], one["device"]) for one in found} >= {
        ("figure", "0001-told"), ("day", "0001-told"), ("negative", "0001-told"),
        ("unposted", "0001-told"), ("absent", "0001-well")
    }  # fmt: skip
    (rolling,) = [one for one in found if "rx of 24 h" in one["numbers"]]
    assert rolling["numbers"]["rx of 24 h"] == rolling["numbers"]["its buckets"] + 5
    said = daemon.cli("verify", code=1).stdout
    assert device.keys.public not in said + json.dumps(found)
    assert f"{len(found)} findings" in said


def test_released_traffic_is_what_the_kernel_counted(bench: Bench) -> None:
    """Neither command changes the deltas of another node or ids that do not exist."""
    bench.configure({"interfaces.wg0.line_rate": "8kbit"})
    device = real_device("0001-fast", "10.200.0.11")
    bench.insert(device)
    daemon = bench.daemon.start()
    customer = bench.customer(device)
    transfer = customer.transfer(up=400_000, down=0)
    assert transfer.wait(PATIENCE) == 0

    def held() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(daemon.cli("quarantine", "--json").stdout)["quarantine"]
        return listed

    wait(lambda: sum(one["rx"] for one in held()) + total(bench, device)[0] >= 400_000, "held back")
    bench.sql("INSERT INTO wgsyncd_quarantine (node, interface, row_id, device, rx, tx, since, until)"
              " VALUES ('other', 'wg0', 1, '0001-fast', 7, 7, 1, 2)")  # fmt: skip
    theirs = str(bench.sql("SELECT MAX(id) id FROM wgsyncd_quarantine")[0]["id"])
    ids = [str(one["id"]) for one in held()]
    assert theirs not in ids
    refused = daemon.cli("quarantine", "release", *ids, theirs, code=1)
    see = daemon.proposed("quarantine")
    assert refused.stderr == f"wgsyncd: no delta {theirs} in quarantine, so nothing is done: see `{see}`\n"
    daemon.reconcile()
    assert daemon.metrics()["wgsyncd_quarantined_deltas"] == len(ids)
    assert daemon.notices.has(f"{len(ids)} in quarantine ({see})…")
    assert daemon.status()["quarantined"] == len(ids)
    assert f"{len(ids)} released: posted" in daemon.cli("quarantine", "release", *ids).stdout
    stop(bench)
    assert total(bench, device) == counted(bench, device)
    assert [action for action, *_ in bench.logs() if action.startswith("quarantine")] == ["quarantine_released"] * len(
        ids
    )
    assert verify(bench)["findings"] == []
    assert daemon.cli("quarantine").stdout == "nothing in quarantine\n"
    assert len(bench.sql("SELECT id FROM wgsyncd_quarantine")) == 1


@pytest.mark.parametrize("broken", [False, True])
def test_the_daemon_verifies_once_a_day(bench: Bench, broken: bool) -> None:
    """The daemon also verifies within an hour of its start. Its clock here is a few seconds before that minute."""
    assert FAKETIME.exists(), "Debian's package libfaketime is needed"
    now = datetime.now(TOKYO)
    ahead = ((37 - now.minute) * 60 - now.second - 4) % 3600
    clock = bench.directory / "clock"
    clock.write_text(f"+{ahead}\n")
    bench.make(2)
    if broken:
        bench.sql("UPDATE customer_devices SET rx_bytes_total = -9 WHERE device_id LIKE '%-010'")
    environment = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
                   "DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    began = time.time() + ahead
    daemon = bench.daemon.start(environment)
    success = 'wgsyncd_task_last_success_timestamp_seconds{task="verify"}'
    wait(lambda: daemon.metrics()[success] > began, "a verification")
    metrics = daemon.metrics()
    assert metrics['wgsyncd_task_runs_total{task="verify"}'] == 1
    assert metrics['wgsyncd_verify_findings{check="negative"}'] == int(broken)
    assert metrics['wgsyncd_verify_findings{check="figure"}'] == 0
    lines = daemon.lines(logger="verify")
    assert [(one["check"], one["device"]) for one in lines] == [("negative", "0001-wg0-010")] * broken
    assert daemon.notices.has(f"1 discrepancy ({daemon.proposed('verify')})…") == broken
    daemon.stop()
