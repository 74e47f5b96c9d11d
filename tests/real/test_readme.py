"""README.md leads from nothing to a device's bytes in the table.

installed.py runs its first commands, and this module runs the last ones.
"""

from __future__ import annotations

from tests.pages import README, blocks
from tests.real.installed import CONFIG, Node


def test_from_nothing_to_bytes(installed: Node) -> None:
    installed.configure(text=installed.quick_start)
    installed.systemctl("start")
    installed.await_ready()
    installed.connect()
    said = installed.follow(README, "result")
    installed.systemctl("stop")
    installed.configure(text=CONFIG)
    assert_bytes_arrived(said)
    assert installed.followed[README] == set(blocks(README)), "every block was run"


def assert_bytes_arrived(said: str) -> None:
    """Asserts that a page's last block printed the bytes of three pings through the tunnel and back."""
    compared, _, row, *usage = said.splitlines()
    assert compared == "compared everything"
    device, status, handshake, rx, tx = row.split("\t")
    assert (device, status) == ("0001-DEV-001", "active")
    assert handshake != "NULL"
    assert min(int(rx), int(tx)) >= 3 * 64, "three pings"
    assert "0001-DEV-001" in "\n".join(usage)
