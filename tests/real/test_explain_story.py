"""`wgsyncd explain` works on a real database and real interfaces, with exactly the shipped grants."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.real.bench import Bench, Device, both_kinds, random_key, real_device, wait
from wgsyncd.demo.mariadb import ACCOUNT


def explain(bench: Bench, device: Device) -> dict[str, Any]:
    done = bench.daemon.cli("explain", device.device, "--json", shows=device.keys.public)
    data: dict[str, Any] = json.loads(done.stdout)
    return data


@both_kinds
def test_the_story_of_a_device_from_qr_code_to_pause(bench: Bench) -> None:
    held = real_device("0001-held", "10.200.0.11", status="issued", preshared_key=random_key())
    bench.insert(held)
    story = explain(bench, held)
    assert story["verdict"] == "wants a peer: the next cycle adds it on wg0"
    assert 0 < story["activation_seconds_left"] <= 86400
    bench.daemon.start()
    bench.await_peers(held)
    assert bench.customer(held).transfer(up=100_000, down=50_000).wait() == 0
    wait(lambda: bench.logs("device_activated"), "activated")
    wait(lambda: explain(bench, held)["bytes"]["total"]["rx"] > 100_000, "posted")
    story, peers = bench.beside(lambda: explain(bench, held))
    assert story["verdict"] == "has its peer on wg0, as the row wants it"
    (actual,), kernel = story["peers"], peers[held.keys.public]
    assert (actual["counters"], actual["preshared_key"]) == ({"rx": kernel.rx, "tx": kernel.tx}, True)
    assert actual["endpoint"] in bench.world.server.run("wg", "show", "wg0", "endpoints")
    assert actual["baseline"]["counters"]["rx"] + actual["unposted"]["rx"] == kernel.rx
    assert [one["action"] for one in story["audit"]] == ["device_activated", "peer_added"]
    text = bench.daemon.cli("explain", held.device, shows=held.keys.public).stdout
    assert "First handshake at " in text
    assert len(text.splitlines()) <= 40
    bench.sql("UPDATE customer_devices SET status = 'paused', paused_at = NOW()")
    bench.await_peers()
    wait(lambda: bench.logs("peer_removed"), "written down")
    story = explain(bench, held)
    assert (story["verdict"], story["peers"]) == ("wants no peer (device paused)", [])
    assert story["audit"][0]["action"] == "peer_removed"
    assert story["times"]["paused"] is not None


def test_who_lost_a_conflict_to_whom(bench: Bench) -> None:
    bench.sql("ALTER TABLE customer_devices DROP INDEX wg_ip")
    first, second = bench.make(2)
    bench.daemon.start()
    bench.await_peers(first, second)
    bench.sql(f"UPDATE customer_devices SET wg_ip = '{first.address}/32' WHERE device_id = '{second.device}'")
    wait(lambda: bench.logs("row_rejected"), "rejected")
    story = explain(bench, second)
    told = (story["rejected"]["reason"], story["rejected"]["detail"])
    assert told == ("duplicate_address", f"address {first.address} is {first.device}'s")
    assert story["frozen"] is True
    assert story["audit"][0]["action"] == "row_rejected"


def test_the_trail_of_the_application_is_not_read(bench: Bench) -> None:
    device = bench.make(1)[0]
    bench.sql("INSERT INTO admin_logs (action_type, target_type, target_id, message)"
              f" VALUES ('device_created', 'device', '{device.device}', 'Mr Suzuki called')")  # fmt: skip
    assert explain(bench, device)["audit"] == []


@pytest.mark.parametrize("change", ["DROP VIEW wgsyncd_audit",
                                    f"REVOKE SELECT ON wgsyncd_audit FROM '{ACCOUNT}'@'localhost'"])  # fmt: skip
def test_without_the_audit_rows_the_rest_is_told(bench: Bench, change: str) -> None:
    device = bench.make(1)[0]
    bench.sql(change)
    story = explain(bench, device)
    assert story["audit"] is None
    assert "wgsyncd init-db" in story["audit_error"]
    assert story["verdict"] == "wants a peer: the next cycle adds it on wg0"


def test_without_the_interface_the_rest_is_told(bench: Bench) -> None:
    device = bench.make(1)[0]
    bench.world.server.run("ip", "link", "del", "wg0")
    story = explain(bench, device)
    assert story["kernel_error"].startswith("wg0: ENODEV: ")
    assert story["verdict"].startswith("wants a peer, but the kernel cannot be asked: wg0: ENODEV")
    assert story["bytes"]["total"] == {"rx": 0, "tx": 0}


def test_nobody_of_that_name_and_no_database(bench: Bench) -> None:
    bench.make(2)
    done = bench.daemon.cli("explain", "0001-wg0-01", code=1)
    assert done.stderr == "wgsyncd: no device is called '0001-wg0-01'; alike: 0001-wg0-010, 0001-wg0-011\n"
    assert done.stdout == ""
    bench.configure({"mikyun.database.socket": str(bench.directory / "none.sock")})
    assert "Can't connect" in bench.daemon.cli("explain", "0001-wg0-010", code=1).stderr
