"""`wgsyncd adopt` shows what the first cycle would do with rows and with peers made by others."""

from __future__ import annotations

import errno
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.node import CONFIG, Node
from tests.samples import NOW, address, key, nets, peer, text
from tests.shell.conftest import Run
from wgsyncd import log
from wgsyncd.cli import wiring
from wgsyncd.cli.doctor import files
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Settings
from wgsyncd.engine.agent import Agent

LINK = 250  # a link between sites that an admin made: no row has its key


@pytest.fixture
def node(config: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Returns a node before the first cycle, with each case that `adopt` tells apart.

    Device 5 is live as its row says and was never counted. 6 has another address, 7 is paused and 8 has no peer. The
    row of 9 is rejected. LINK belongs to no row.
    """
    made = Node()
    made.device(5, first_handshake_at=None, last_handshake_at=None)
    made.device(6)
    made.device(7, status="paused")
    made.device(8)
    made.device(9, preshared_key="nonsense")
    for number, at in ((5, 5), (6, 66), (7, 7), (9, 9), (LINK, LINK)):
        made.wg.add_behind("wg0", peer(number, address(at)))
    made.shake(LINK, at=NOW - 100)

    def agent(_: Settings) -> Agent:
        log.configure("warning", "sentence")
        return made.agent

    monkeypatch.setattr(wiring, "open_agent", agent)
    return made


def ask(run: Run) -> dict[str, Any]:
    status, lines = run("adopt", "--json")
    assert status == 2
    data: dict[str, Any] = json.loads(lines[0])
    return data


def test_how_each_peer_stands(node: Node, run: Run) -> None:
    before, written = node.kernel(), node.written
    [wg0, wg1] = ask(run)["interfaces"]
    found = {one["device"]: (one["match"], one["action"]) for one in wg0["peers"]}
    assert found == {
        "0001-DEV-005": ("matches", "stays"),
        "0001-DEV-006": ("differs", "changed"),
        "0001-DEV-007": ("unwanted", "removed"),
        "0001-DEV-009": ("frozen", "stays"),
        None: ("foreign", "removed"),
    }
    assert wg0["missing"] == ["0001-DEV-008"]
    assert (wg0["counters_posted"], wg0["counters_started_from"]) == (1, 1)
    assert wg1["peers"] == []
    assert (node.kernel(), node.written) == (before, written), "nothing was touched"


def test_a_section_of_a_paused_device_is_not_kept(
    node: Node, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next boot, the section would let a customer in whose row wants no peer."""
    node.wg.remove_behind("wg0", key(7))
    sections = (f"[Peer]\nPublicKey = {text(number)}\n" for number in (5, 7, LINK))
    (tmp_path / "wg0.conf").write_text("".join(sections))
    monkeypatch.setattr(files, "wg_quick_files", partial(files.wg_quick_files, directory=tmp_path))
    [finding] = ask(run)["wg_quick"]
    assert "has 3 [Peer] sections" in finding["message"] and "keep the 1 of peers in no row" in finding["message"]


def test_the_text(node: Node, run: Run) -> None:
    status, lines = run("adopt")
    assert status == 2
    said = "\n".join(lines)
    assert "wg0: the kernel's, 5 live peers" in lines
    assert "     1  as their rows want them: a start sends nothing for them" in lines
    assert f"~ 0001-DEV-006  {address(66)}/32" in said
    assert f"address {address(66)}/32 -> {address(6)}/32" in said
    assert "device paused" in said
    assert "1 go with `wgsyncd adopt --accept`, 0 stay as configured" in said
    assert "last handshake 2026-" in said
    for number in (5, 6, 7, 9):
        assert text(number) not in said, "only the keys that an admin has to copy are printed"


def paste(node: Node, run: Run, config: Path) -> None:
    """Puts the lines that `adopt` prints into the configuration, as an admin does."""
    printed = re.search(r"^    always_keep = \[$.*?^    \]$", "\n".join(run("adopt")[1]), re.MULTILINE | re.DOTALL)
    assert printed
    config.write_text(f"{CONFIG}[peers]\n{printed[0]}\n")
    node.settings = parse(config.read_text())
    node.start()


def test_what_it_prints_keeps_them(node: Node, run: Run, config: Path) -> None:
    paste(node, run, config)
    wg0 = ask(run)["interfaces"][0]
    [link] = [one for one in wg0["peers"] if one["match"] == "foreign"]
    assert link["action"] == "stays"
    node.cycle()
    assert key(LINK) in node.kernel_of("wg0")
    assert key(7) not in node.kernel_of("wg0"), "what a row revokes goes"
    status, lines = run("adopt")
    assert (status, lines[-1]) == (
        0,
        "Nothing was changed. A start would remove no peer: systemctl enable --now wgsyncd",
    )


def test_the_list_is_whole(node: Node, run: Run, config: Path) -> None:
    """The block replaces the list of the configuration, so it contains the keys that are kept already."""
    paste(node, run, config)
    node.wg.add_behind("wg0", peer(251, address(251)))
    assert ask(run)["always_keep"] == [text(LINK), text(251)]
    paste(node, run, config)
    node.cycle()
    assert {key(LINK), key(251)} <= node.kernel_of("wg0").keys()


def test_removals_that_wait(node: Node, run: Run) -> None:
    """The guard withholds them."""
    for number in range(230, 250):
        node.wg.add_behind("wg0", peer(number, address(number)))
    foreign = [one for one in ask(run)["interfaces"][0]["peers"] if one["match"] == "foreign"]
    assert {one["action"] for one in foreign} == {"waits"}
    said = "\n".join(run("adopt")[1])
    assert "(withheld by the guard)" in said and "go with `wgsyncd adopt --accept` and an approval, 0 stay" in said


def test_removals_of_lost_rows_that_wait_are_not_said_to_happen(node: Node, run: Run) -> None:
    for number in range(10, 30):
        node.device(number)
    node.cycle()
    node.truncate()
    said = "\n".join(run("adopt")[1])
    assert " of rows that want no peer: a start removes 0, 24 wait\n" in said


def test_the_guard_keeps_adopted_peers_and_what_it_says_helps(node: Node, run: Run) -> None:
    """No row can be restored for a peer that never had one."""
    node.db.update(7, status="active")
    for number in range(230, 250):
        node.wg.add_behind("wg0", peer(number, address(number)))
    node.cycle()
    lines = run("adopt", "--accept")[1]
    assert lines[-2].startswith("NOTHING WAS REMOVED") and lines[-1].endswith("wgsyncd adopt --undo")
    node.cycle()
    assert key(230) in node.kernel_of("wg0")
    (guard,) = [line for line in run("plan")[1] if line.startswith("guard: ")]
    assert "A mistake? Keep these peers: wgsyncd adopt --undo. Meant? wgsyncd approve " in guard
    assert "A mistake? Keep these peers: wgsyncd adopt --undo" in "\n".join(run("status")[1])
    allow = guard.rpartition("wgsyncd ")[2].split()
    assert run("adopt", "--undo")[0] == 0
    assert "withheld" not in "\n".join(run("plan")[1])
    assert run("adopt", "--accept")[0] == 0 and run(*allow)[0] == 0
    node.cycle()
    assert key(230) not in node.kernel_of("wg0")


def test_after_the_first_cycle_all_stands_right(node: Node, run: Run) -> None:
    node.cycle()
    status, lines = run("adopt")
    assert status == 0
    assert node.kernel_of("wg0")[key(6)].allowed_ips == nets(f"{address(6)}/32")
    assert lines[-1].startswith("Nothing was changed.")


def test_an_interface_that_cannot_be_seen(node: Node, run: Run) -> None:
    node.wg.broken["wg1"] = errno.EPERM
    status, lines = run("adopt")
    assert status == 1
    assert any(line.startswith("wg1 cannot be read: ") for line in lines)


def test_until_the_node_is_adopted_no_peer_without_a_row_goes(node: Node, run: Run) -> None:
    node.db.adopted_from_the_start = False
    assert run("adopt")[1][-1] == "The others stay, too, until you let wgsyncd remove them: wgsyncd adopt --accept"
    node.cycle()
    assert key(LINK) in node.kernel_of("wg0")
    status, lines = run("adopt", "--accept")
    assert status == 0
    assert "This node is adopted. From now on, wgsyncd removes peers without a row." in lines
    node.cycle()
    assert key(LINK) not in node.kernel_of("wg0")
    assert run("adopt")[1][-1] == "Nothing was changed. A start would remove no peer: systemctl enable --now wgsyncd"
