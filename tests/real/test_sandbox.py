"""A probe in the daemon's place shows what the unit's sandbox allows, under every setting of the unit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.real.installed import Node
from tests.real.probe import ATTEMPTS
from tests.wait import until

NEEDED = {"write /run/wgsyncd", "write /var/lib/wgsyncd", "read the configuration", "read the copy of the password",
          "limit bandwidth", "hear of links", "set an interface up", "reach the database"}  # fmt: skip
# The container itself refuses these to root, or has no such process. A run outside can prove nothing about them.
REFUSED_ANYWAY = {"load a module", "set the clock"}
PROBE = """
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
Environment=VICTIM={victim}
ExecStart=
ExecStart=/usr/bin/python3 -I /usr/share/wgsyncd/probe.py
ExecReload=
StandardOutput=file:/run/probe-{name}
"""
OPEN = "[Service]\nRuntimeDirectory=wgsyncd\nStateDirectory=wgsyncd\n"


@pytest.fixture(scope="module")
def probed(installed: Node) -> Iterator[dict[str, dict[str, str]]]:
    """Yields the results by place: "inside" the unit, and "outside" of it as root without any setting."""
    system = installed.system
    installed.configure()
    system.run("systemctl", "stop", "wgsyncd")
    system.write("/usr/share/wgsyncd/probe.py", (Path(__file__).parent / "probe.py").read_text())
    system.write("/etc/wgsyncd/db-password", "secret", mode=0o600)
    system.write("/home/somebody/letter", "read by everybody")
    (system.root / "home/somebody").chmod(0o755)
    system.run("systemd-run", "--unit=victim", "--property=Type=exec", "sleep", "infinity")
    victim = system.show("victim", "MainPID")["MainPID"]
    unit = (system.root / "usr/lib/systemd/system/wgsyncd.service").read_text()
    found = {}
    for name, text in (("inside", unit), ("outside", OPEN)):
        system.write(f"/etc/systemd/system/probe-{name}.service", text)
        system.write(f"/etc/systemd/system/probe-{name}.service.d/probe.conf", PROBE.format(name=name, victim=victim))
        system.run("systemctl", "daemon-reload")
        system.run("systemctl", "start", f"probe-{name}")
        found[name] = json.loads(until(partial(system.run, "cat", f"/run/probe-{name}"), 10, "it has told"))
    yield found
    system.run("systemctl", "stop", "victim")
    (system.root / "etc/wgsyncd/db-password").unlink()
    for name in found:
        (system.root / f"etc/systemd/system/probe-{name}.service").unlink()
    # The probe outside ran as root and changed the owner of the directories.
    system.run("chown", "-R", "wgsyncd:wgsyncd", "/var/lib/wgsyncd")
    system.run("systemctl", "daemon-reload")


@pytest.mark.parametrize("what", ATTEMPTS)
def test_nothing_but_what_it_needs(probed: dict[str, dict[str, str]], what: str) -> None:
    inside, outside = probed["inside"][what], probed["outside"][what]
    if what in NEEDED:
        assert inside == "done"
        return
    assert inside in ("EPERM", "EACCES", "EROFS", "ENOENT", "ENXIO", "EAFNOSUPPORT")
    if what not in REFUSED_ANYWAY:
        assert outside == "done", "without the sandbox it can be done: the attempt means something"


def test_no_other_capability(probed: dict[str, dict[str, str]]) -> None:
    assert int(probed["inside"]["capabilities"], 16) == 1 << 12  # CAP_NET_ADMIN, see capabilities(7)
