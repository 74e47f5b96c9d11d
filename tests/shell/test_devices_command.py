"""`wgsyncd devices` shows each device, over a real socket to a node in memory."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest

from tests.asked_daemon import Work
from tests.node import Node
from tests.shell.conftest import Run
from tests.terminal import on_a_terminal
from wgsyncd.cli import client
from wgsyncd.errors import UserError


def devices(query: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.ask(f"/devices?{query}"))
    return found


def by_name(query: str = "") -> dict[str, dict[str, Any]]:
    return {one["device"]: one for one in devices(query)["devices"]}


def test_each_device_has_its_peer_its_bytes_and_its_rates(node: Node, work: Work) -> None:
    node.shake(5)
    node.account()
    node.traffic(5, 3000, 600)
    node.account()
    found = devices()
    assert {k: found[k] for k in ("node", "source", "zone", "count", "online", "off", "matching", "figures")} == {
        "node": "r640", "source": "daemon", "zone": "Asia/Tokyo", "count": 3, "online": 0, "off": 0, "matching": 3,
        "figures": ["24h", "month"],
    }  # fmt: skip
    one = found["devices"][0]
    assert (one["device"], one["owner"], one["status"], one["state"]) == ("0001-DEV-005", "0001", "active", "live")
    assert (one["interface"], one["addresses"], one["why"]) == ("wg0", ["10.200.0.5"], "")
    assert (one["rx_rate"], one["tx_rate"]) == (200, 40)
    assert one["bytes"] == {"24h": {"rx": 3000, "tx": 600}, "month": {"rx": 3000, "tx": 600}}
    assert (len(one["hours"]), sum(one["hours"])) == (24, 3600)
    assert by_name()["0001-DEV-006"]["hours"] == [0] * 24
    assert by_name()["0001-DEV-006"]["latest_handshake"] is None


def test_every_state_has_its_name_and_its_reason(node: Node, work: Work) -> None:
    node.db.update(5, preshared_key="junk")
    node.db.update(6, status="paused")
    node.cycle()
    states = {name: (one["state"], one["why"]) for name, one in by_name("all=1").items()}
    assert states["0001-DEV-005"][0] == "rejected"
    assert "preshared_key" in states["0001-DEV-005"][1]
    assert states["0001-DEV-006"] == ("off", "device paused")
    assert states["0001-DEV-007"] == ("live", "")
    assert "0001-DEV-006" not in by_name(), "what has no peer and asks for none is counted only"
    assert devices()["off"] == 1


def test_the_query_chooses_sorts_and_limits(node: Node, work: Work) -> None:
    node.traffic(6, 500)
    node.traffic(7, 900)
    node.shake(7)
    node.account()
    names = {key: [one["device"][-1] for one in devices(key)["devices"]] for key in (
        "sort=24h", "sort=device", "sort=address", "sort=handshake", "limit=2", "text=dev-006", "text=10.200.0.7"
    )}  # fmt: skip
    assert names == {
        "sort=24h": ["7", "6", "5"], "sort=device": ["5", "6", "7"], "sort=address": ["5", "6", "7"],
        "sort=handshake": ["7", "5", "6"], "limit=2": ["5", "6"], "text=dev-006": ["6"], "text=10.200.0.7": ["7"],
    }  # fmt: skip
    for wrong in ("sort=nonsense", "limit=x", "online=perhaps"):
        with pytest.raises(UserError, match=f"query is wrong.*{wrong.partition('=')[0]}"):
            devices(wrong)


def test_the_list_comes_without_bytes_while_the_database_is_away(node: Node, work: Work) -> None:
    node.store.down = True
    found = devices("sort=month")
    assert len(found["devices"]) == 3
    assert (found["usage_error"], found["figures"]) != ("", [])
    assert (found["devices"][0]["bytes"], found["devices"][0]["hours"]) == ({}, None)


def test_the_list_comes_while_the_main_thread_is_busy(node: Node, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wgsyncd.daemon.device_list.PATIENCE", 0.1)
    go, busy = threading.Event(), threading.Event()

    def hangs(_: frozenset[str]) -> bool:
        busy.set()
        return go.wait(60)

    monkeypatch.setattr(work, "reconcile_now", hangs)
    waiting = threading.Thread(target=client.ask, args=("/sync", "POST", {"devices": ["D-1"]}))
    waiting.start()
    busy.wait(60)
    found = [devices() for _ in range(12)]
    assert {len(one["devices"]) for one in found} == {3}
    assert all(one["usage_error"] for one in found)
    go.set()
    waiting.join()
    assert client.ask("/plan", "POST"), "what waited for bytes leaves room for admins"


def test_peers_are_shown_before_any_row_was_read(node: Node, work: Work) -> None:
    node.status.rows = None
    found = devices()
    assert {one["state"] for one in found["devices"]} == {"unknown"}
    assert len(found["devices"]) == 3


def test_the_command_prints_one_document_with_the_daemon_and_without(node: Node, work: Work, run: Run) -> None:
    one, other = (json.loads(run("devices", "--json", *more)[1][0]) for more in ((), ("--no-daemon",)))
    assert (one["source"], other["source"], list(one)) == ("daemon", "command", list(other))
    assert [d["device"] for d in one["devices"]] == [d["device"] for d in other["devices"]]
    node.db.update(5, preshared_key="junk", wg_ip="2001:db8:aaaa:bbbb::5")
    node.cycle()
    narrow = on_a_terminal(lambda: run("devices"), columns=60)
    assert "rejected" in narrow and "month" not in narrow, "what is wrong is shown in the last place"
    status, lines = run("devices", "dev-006", "--sort", "24h")
    assert (status, lines[0], lines[-1].split()[1]) == (0, "node r640: 3 devices, 0 online, 1 shown", "0001-DEV-006")


def test_a_wide_table_says_why_a_row_is_rejected(node: Node, work: Work, run: Run) -> None:
    """The reason is what people look for. So the interface makes room for it."""
    node.db.update(5, preshared_key="junk")
    node.cycle()
    said = on_a_terminal(lambda: run("devices"), columns=120)
    assert "preshared_key" in said and "interface" not in said
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines())) <= 120
