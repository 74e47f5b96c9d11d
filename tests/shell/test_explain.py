"""`wgsyncd explain` describes one device in every state that an admin may meet."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakereports import FakeReports
from tests.node import CONFIG, Node, local
from tests.samples import address, peer, psk, text
from tests.terminal import on_a_terminal
from wgsyncd import log
from wgsyncd.cli import main, wiring
from wgsyncd.config.schema import Settings
from wgsyncd.core.model import encode_key
from wgsyncd.engine.agent import Agent
from wgsyncd.ports import ReportSource

Run = Callable[..., tuple[int, str]]
Ask = Callable[[str], dict[str, Any]]
FIVE = "0001-DEV-005"


@pytest.fixture
def node() -> Node:
    """Returns a node with three devices in service. The first one has moved some bytes."""
    made = Node('[peers]\nforeign = "keep"\n')
    for number in (5, 6, 7):
        made.device(number, preshared_key=encode_key(psk(number)) if number == 5 else None)
    made.cycle()
    made.shake(5)
    made.traffic(5, 3 * 2**20, 2**20)
    made.account()
    return made


@pytest.fixture
def reports(node: Node) -> FakeReports:
    return FakeReports(node.db)


@pytest.fixture
def run(
    node: Node, reports: FakeReports, config: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:  # fmt: skip
    def agent(_: Settings) -> Agent:
        log.configure("warning", "sentence")
        return node.agent

    def port(_: Settings) -> ReportSource:
        return reports

    monkeypatch.setattr(wiring, "open_agent", agent)
    monkeypatch.setattr(wiring, "open_reports", port)

    def command(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main.main(["explain", "--config", str(config), *args])
        said = capsys.readouterr()
        return status, said.out + (said.err if status else "")

    return command


@pytest.fixture
def ask(run: Run) -> Ask:
    def one(device: str) -> dict[str, Any]:
        status, said = run(device, "--json")
        assert status == 0, said
        data: dict[str, Any] = json.loads(said)
        return data

    return one


def test_a_device_in_service_on_one_screen(node: Node, run: Run) -> None:
    node.traffic(5, 1000, 0)
    status, said = run(FIVE)
    assert status == 0
    lines = said.splitlines()
    assert lines[0] == f"{FIVE} has its peer on wg0, as the row wants it"
    assert lines[:3] == lines[-3:], "the verdict is the first block and the last"
    assert lines[1].startswith("It is connected from 192.0.2.1:1024, handshake 15 s ago.")
    assert f"key        {text(5)}" in lines
    assert "psk        the row has one" in lines
    assert "yes its status is active, or issued with the QR code alive: active" in lines
    assert "yes it is not deleted" in lines
    assert "           10.200.0.5/32, a preshared key, keepalive off, rx 3.00 MiB tx 1.00 MiB" in lines
    assert not any(line.startswith("baseline ") for line in lines)
    verbose = run(FIVE, "-v")[1].splitlines()
    assert any(
        line.startswith("baseline   rx 3.00 MiB tx 1.00 MiB, present, last moved 2026-09-21 ") for line in verbose
    )
    assert "not posted rx 1000 B tx 0 B" in verbose
    assert "plan       nothing to do" in lines
    assert "total      3.00 MiB  1.00 MiB" in lines
    assert lines[-5].strip() == "peer_added  Peer added on wg0 with 10.200.0.5/32"
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    assert encode_key(psk(5)) not in said


def test_the_same_for_machines(node: Node, ask: Ask) -> None:
    node.traffic(5, 1000, 0)
    data = ask(FIVE)
    assert data["public_key"] == text(5)
    assert data["preshared_key"] is True
    assert [rule["holds"] for rule in data["rules"]] == [True] * 4
    (actual,) = data["peers"]
    assert (actual["interface"], actual["allowed_ips"], actual["preshared_key"]) == ("wg0", ["10.200.0.5/32"], True)
    assert (actual["counters"]["rx"], actual["baseline"]["counters"]["rx"], actual["unposted"]["rx"]) == (
        3 * 2**20 + 1000, 3 * 2**20, 1000,
    )  # fmt: skip
    assert data["bytes"]["total"] == {"rx": 3 * 2**20, "tx": 2**20}
    assert (data["plan"], data["transitions"], data["rejected"], data["frozen"]) == ([], [], None, False)
    assert data["audit"][0]["action"] == "peer_added"
    assert encode_key(psk(5)) not in json.dumps(data)


@pytest.mark.parametrize(
    ("change", "rules", "verdict"),
    [
        ({"status": "paused"}, [1, 1, 0, 1], "wants no peer (device paused): the next cycle removes it from wg0"),
        ({"status": "issued", "qr_expires_at": "2026-09-20 00:00:00", "first_handshake_at": None,
          "last_handshake_at": None}, [1, 1, 0, 1], "wants no peer (device expired): the next cycle removes it from wg0"),
        ({"contract_id": "0009"}, [0, 0, 1, 1],
         "wants no peer (contract 0009 does not exist): the next cycle removes it from wg0"),
        ({"deleted_at": "2026-09-01 00:00:00"}, [1, 1, 1, 0],
         "wants no peer (device deleted): the next cycle removes it from wg0"),
        ({"wg_ip": "10.200.0.9"}, [1, 1, 1, 1], "wants a peer: the next cycle updates it on wg0"),
        ({"wg_iface": "wg1", "wg_ip": "10.251.0.7"}, [1, 1, 1, 1],
         "wants a peer: the next cycle removes it from wg0, and the next cycle adds it on wg1"),
        ({"wg_ip": "10.200.0.5"}, [1, 1, 1, 1],
         "asks for a peer but is rejected, duplicate_address: address 10.200.0.5 is 0001-DEV-005's."
         " Its live peer on wg0 is left as it is"),
        ({"wg_ip": "10.9.9.9"}, [1, 1, 1, 1],
         "asks for a peer but is rejected, address_outside: address 10.9.9.9 is outside the networks of wg0."
         " Its live peer on wg0 is left as it is"),
        ({"public_key": "junk"}, [1, 1, 1, 1],
         "asks for a peer but is rejected, bad_key: public_key has 3 bytes, not 32."
         " Its live peer on wg0 is left as it is"),
        ({"wg_iface": "wg7"}, [1, 1, 1, 1],
         "asks for a peer but is rejected, unknown_interface: interface 'wg7' is not configured."
         " Its live peer on wg0 is left as it is"),
    ],
)  # fmt: skip
def test_verdicts(node: Node, ask: Ask, change: dict[str, Any], rules: list[int], verdict: str) -> None:
    node.db.update(7, **change)
    data = ask("0001-DEV-007")
    assert data["verdict"] == verdict
    assert [rule["holds"] for rule in data["rules"]] == [bool(one) for one in rules]


def test_what_the_verdict_says_comes_true(node: Node, ask: Ask) -> None:
    node.db.update(7, status="paused")
    node.cycle()
    assert ask("0001-DEV-007")["verdict"] == "wants no peer (device paused)"
    node.db.update(7, status="active")
    assert ask("0001-DEV-007")["verdict"] == "wants a peer: the next cycle adds it on wg0"
    node.cycle()
    assert ask("0001-DEV-007")["verdict"] == "has its peer on wg0, as the row wants it"


def test_a_qr_code_and_the_time_it_has(node: Node, run: Run, ask: Ask) -> None:
    end = node.now + 2 * 3600 + 65
    node.issued(8, end)
    node.cycle()
    assert f"activation ends {local(end)}, in 2 h" in run("8")[1]
    assert ask("8")["activation_seconds_left"] == 2 * 3600 + 50
    node.tick(2 * 3600 + 60)
    (due,) = ask("8")["transitions"]
    assert (due["transition"], due["at"]) == ("expire", f"{local(end).replace(' ', 'T')}+09:00")
    assert f"due        expired (activation deadline passed), as of {local(end)[11:16]}" in run("8")[1]
    assert ask("8")["verdict"] == "wants no peer (device expired): the next cycle removes it from wg0"
    node.cycle()
    assert f"activation ended {local(end)}, " in run("8")[1]


def test_what_waits_for_an_unreadable_key_is_told(node: Node, ask: Ask) -> None:
    node.db.update(5, public_key="junk")
    node.db.update(6, public_key=text(16), wg_ip=address(16))
    del node.db.devices[7]
    assert ask("0001-DEV-005")["frozen"] is True
    (old, new) = ask("0001-DEV-006")["plan"]
    assert (old["action"], old["reason"], old["when"]) == ("remove", "has a new key", "next")
    assert (new["action"], new["when"]) == ("add", "next")


def test_the_guard_withholds(node: Node, ask: Ask, run: Run) -> None:
    for number in range(8, 14):
        node.device(number)
    node.cycle()
    for number in range(5, 14):
        node.db.update(number, status="paused")
    data = ask(FIVE)
    assert data["verdict"].endswith("the next cycle removes it from wg0, but the guard withholds that (wgsyncd plan)")
    assert data["plan"][0]["when"] == "withheld"
    assert "plan       remove on wg0: device paused, but the guard withholds that (wgsyncd plan)" in run(FIVE)[1]


def test_who_holds_its_address(node: Node, run: Run, ask: Ask) -> None:
    node.wg.add_behind("wg0", peer(99, address(9)))
    node.device(9)
    data = ask("0001-DEV-009")
    assert data["addresses_held_by"] == {"10.200.0.9": "a foreign peer"}
    assert data["verdict"].startswith("asks for a peer but is rejected, duplicate_address: ")
    assert "kernel     has no peer of the device, a foreign peer holds 10.200.0.9" in run("9")[1]


def test_without_the_kernel_the_rest_is_told(node: Node, run: Run, ask: Ask) -> None:
    node.wg.broken["wg0"] = errno.EPERM
    status, said = run(FIVE)
    assert status == 0
    assert said.splitlines()[0].startswith(f"{FIVE} wants a peer, but the kernel cannot be asked: wg0: EPERM: ")
    assert "total      3.00 MiB  1.00 MiB" in said
    assert ask(FIVE)["kernel_error"].startswith("wg0: EPERM: ")


def test_without_the_audit_rows_the_rest_is_told(reports: FakeReports, run: Run, ask: Ask) -> None:
    reports.no_audit = True
    assert run(FIVE)[1].splitlines()[-5].startswith("audit rows cannot be read: 1142: ")
    data = ask(FIVE)
    assert data["audit"] is None
    assert data["audit_error"].startswith("1142")


# -- which device


def test_by_row_address_and_key(ask: Ask) -> None:
    assert {ask(name)["row"] for name in (FIVE, "0001-dev-005", "5", address(5), f"{address(5)}/32", text(5))} == {5}


def test_nobody(node: Node, run: Run) -> None:
    status, said = run("0001-DEV-05")
    assert (status, said.splitlines()) == (
        1, ["wgsyncd: no device is called '0001-DEV-05'; alike: 0001-DEV-005, 0001-DEV-007, 0001-DEV-006"],
    )  # fmt: skip
    assert run("zzz") == (1, "wgsyncd: no device is called 'zzz'\n")
    assert run("fd00::77") == (1, "wgsyncd: no row and no peer of this node has the address fd00::77\n")
    assert text(50) not in run(text(50))[1], "who knows whose key that is"


def test_a_device_whose_row_is_gone(node: Node, reports: FakeReports, run: Run) -> None:
    """As after a restore of an older dump: the audit trail knows when, why and whose. Else its bytes are known."""
    node.delete(5)
    node.cycle()
    status, said = run("0001-dev-005")
    assert status == 1
    assert said.startswith("wgsyncd: no row is called '0001-dev-005' any more. wgsyncd noted at ")
    assert ": Peer removed from wg0 (10.200.0.5/32): row is gone, contract 0001. Was that a mistake? Restore" in said
    node.db.logs.clear()
    assert run(FIVE)[1].strip().endswith("wgsyncd counted bytes of it: wgsyncd usage 0001-DEV-005")
    reports.no_audit = True
    assert "wgsyncd usage 0001-DEV-005" in run(FIVE)[1]


def test_a_peer_in_no_row(node: Node, run: Run) -> None:
    node.wg.add_behind("wg1", peer(99, "10.251.0.99"))
    for name in (text(99), "10.251.0.99"):
        status, said = run(name)
        assert status == 1
        assert said.startswith("wgsyncd: no row has this, but wg1 has a peer ")
        assert said.endswith("… with 10.251.0.99/32. wgsyncd leaves it as it is: see `wgsyncd adopt`\n")


def test_two_with_one_address(node: Node, run: Run) -> None:
    node.db.update(7, wg_ip=address(5))
    assert run(address(5)) == (1, "wgsyncd: 2 devices have this: 0001-DEV-005, 0001-DEV-007\n")


def test_what_a_row_holds_by_mistake_is_not_repeated(node: Node, run: Run) -> None:
    node.db.update(7, wg_ip=encode_key(psk(1)), device_id="\x1b[31m7", wg_iface="wg0\n")
    for said in (run("7")[1], run("7", "--json")[1], on_a_terminal(lambda: run("7"))):
        assert encode_key(psk(1))[:20] not in said
        assert "\x1b[31m7" not in said
        assert text(7) in said


def test_colours_on_a_terminal_only(run: Run) -> None:
    assert "\x1b[32myes it is not deleted\x1b[0m" in on_a_terminal(lambda: run(FIVE))
    assert "\x1b" not in run(FIVE)[1]


def test_a_device_of_another_node(node: Node, ask: Ask, tmp_path: Path) -> None:
    ignoring = CONFIG.replace('"r640"', '"r640"\nignored_interfaces = ["osaka0"]')
    (tmp_path / "wgsyncd.toml").write_text(ignoring)
    node.db.update(5, wg_iface="osaka0")
    node.store._ignored = frozenset(("osaka0",))
    assert [row.id for row in node.store.snapshot().rows] == [6, 7]
    assert ask(FIVE)["other_node"] and ask("5")["other_node"]
