"""The machine goes down under traffic and comes up without the database, and no byte is lost.

The database and wg-quick are the daemon's neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.real.installed import SELDOM, UNIT, Node
from tests.wait import until

NEIGHBOURS = ("mariadb.service", "wg-quick@wg0.service")


@dataclass(frozen=True, slots=True)
class Night:
    """Holds the values before the shutdown and after the boot."""

    node: Node
    posted: tuple[int, int]  # the bytes in the row at the shutdown
    owed: tuple[int, ...]  # counted bytes minus the row's bytes at the shutdown
    came_up: str  # STATUS after the boot
    peers: str  # the peers after the boot
    ready: str


@pytest.fixture(scope="module")
def night(installed: Node) -> Iterator[Night]:
    """Shuts the machine down and boots it again. Yields the values."""
    run = installed.system.run
    installed.configure()
    run("systemctl", "enable", UNIT)
    installed.systemctl("restart")
    installed.await_ready()
    installed.connect()
    nothing = installed.settled()
    installed.configure(text=SELDOM)
    installed.systemctl("restart")
    installed.await_ready()
    installed.traffic()
    installed.hush()
    posted, owed = installed.posted(), tuple(now - then for now, then in zip(installed.owed(), nothing, strict=True))
    run("mkdir", "-p", "/var/log/journal")
    run("journalctl", "--flush")
    run("systemctl", "disable", "mariadb")
    installed.system.power_off()
    installed.system.boot("multi-user.target")
    until(lambda: "database does not serve" in installed.show("StatusText"), 20, "STATUS names the database")
    night = Night(installed, posted, owed, installed.show("StatusText"), installed.peers(), installed.get("/readyz"))
    run("systemctl", "enable", "--now", "mariadb")
    yield night
    run("systemctl", "disable", "--now", UNIT)
    installed.configure()


def test_the_neighbours_outlive_it(night: Night) -> None:
    """systemd stops both neighbours only after the daemon has stopped."""
    lines = night.node.system.run("journalctl", "--no-pager", "--boot=-1", "--output=json", "_PID=1")
    events = [json.loads(line) for line in lines.splitlines()]
    jobs = [(one.get("UNIT"), one.get("JOB_TYPE"), one["MESSAGE"]) for one in events]

    def last(unit: str, message: str) -> int:
        return max(i for i, (whose, _, said) in enumerate(jobs) if whose == unit and said.startswith(message))

    stopped = last("wgsyncd.service", "Stopped")
    for unit in NEIGHBOURS:
        assert stopped < last(unit, "Stopping"), unit


def test_no_byte_is_lost(night: Night) -> None:
    assert min(night.owed) >= 20 * 1000, "nobody had looked when it went down"
    night.node.await_ready()
    assert night.node.posted() == tuple(map(sum, zip(night.posted, night.owed, strict=True)))


def test_it_came_up_without_the_database(night: Night) -> None:
    """The daemon sends READY, so the boot continues. STATUS gives the reason, and later the daemon works by itself."""
    assert night.came_up.startswith("database does not serve (")
    assert night.peers == "", "wg0 is new, and nobody is let in before the rows were read"
    assert night.ready == ""
    night.node.await_ready()
    assert night.node.key in night.node.peers()


def test_the_spool_has_a_place_of_its_own(installed: Node) -> None:
    """The hardened unit may write there as its own user. A restart loses nothing that the spool holds."""
    installed.configure()
    installed.systemctl("restart")
    installed.await_ready()
    installed.connect()
    nothing = installed.settled()
    installed.database.stop()
    try:
        installed.traffic()
        until(lambda: "wgsyncd_spool_pending_counters 1.0" in installed.get("/metrics"), 20, "it is in the spool")
        assert installed.system.run("stat", "--format=%U %a", "/var/lib/wgsyncd").strip() == "wgsyncd 700"
        installed.systemctl("restart")
        until(lambda: "wgsyncd_spool_pending_counters 1.0" in installed.get("/metrics"), 20, "it still is")
    finally:
        installed.database.start()
    installed.await_ready()
    until(lambda: installed.owed() == nothing, 30, "it is posted")
    installed.systemctl("stop")
