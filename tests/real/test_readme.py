"""The README's way from nothing to a device's bytes in the table: the system under test was made by its commands (see
installed.py), with the configuration as it is shipped; here are the last of them."""

from __future__ import annotations

from tests.nspawn import REPOSITORY
from tests.real.installed import CONFIG, DEVICE, UNIT, Node, from_readme


def test_from_nothing_to_bytes(installed: Node) -> None:
    shipped = (REPOSITORY / "etc" / "wgsyncd.toml").read_text()
    installed.configure(text=shipped.replace(shipped[shipped.index("[interfaces.wg1]") : shipped.index("[peers]")], ""))
    installed.systemctl("start")
    installed.await_ready()
    installed.connect()
    said = installed.shell(from_readme("look"))
    installed.systemctl("stop")
    installed.configure(text=CONFIG)
    compared, _, row, *usage = said.splitlines()
    assert compared == "compared everything"
    device, status, handshake, rx, tx = row.split("\t")
    assert (device, status) == ("0001-DEV-001", "active")
    assert handshake != "NULL"
    assert min(int(rx), int(tx)) >= 3 * 64, "three pings"
    assert "0001-DEV-001" in "\n".join(usage), (DEVICE, UNIT)
