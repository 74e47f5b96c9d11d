"""systemd accepts the unit files. The tests start nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = REPOSITORY / "systemd"
UNIT = UNITS / "wgsyncd.service"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert shutil.which("systemd-analyze"), "NOT TESTED: needs systemd-analyze of Debian's systemd"
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def settings(path: Path, section: str) -> dict[str, list[str]]:
    """Returns all values of each key, because a unit may repeat its keys."""
    found: dict[str, list[str]] = {}
    here = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            here = line.strip("[]")
        elif here == section and line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_memory_and_cores_are_bounded() -> None:
    """An answer without end takes no more memory than this. A core would hold preshared keys."""
    service = settings(UNIT, "Service")
    assert (service["MemoryMax"], service["LimitCORE"], service["TasksMax"]) == (["1G"], ["1"], ["128"])


@pytest.mark.parametrize("drop_in", ["", "tcp.conf"])
def test_systemd_finds_nothing_wrong(tmp_path: Path, drop_in: str) -> None:
    """systemd-analyze also looks for the program, so a copy of the unit names one that exists."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/wgsyncd", shutil.which("true") or ""))
    if drop_in:
        (tmp_path / f"{UNIT.name}.d").mkdir()
        shutil.copy(UNITS / drop_in, tmp_path / f"{UNIT.name}.d")
    for one in (unit, Path(shutil.copy(UNITS / "wgsyncd.socket", tmp_path))):
        done = analyze("verify", "--man=no", str(one))
        said = [line for line in done.stderr.splitlines() if "wgsyncd" in line or str(tmp_path) in line]
        assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize(("drop_in", "most"), [("", 1.1), ("tcp.conf", 1.4)])
def test_exposure(tmp_path: Path, drop_in: str, most: float) -> None:
    """The result is the same on systemd 252 and 257. The manual systemd-analyze(1) explains the scale."""
    unit = Path(shutil.copy(UNIT, tmp_path))
    if drop_in:
        (tmp_path / f"{UNIT.name}.d").mkdir()
        shutil.copy(UNITS / drop_in, tmp_path / f"{UNIT.name}.d")
    # The threshold is the exposure times ten.
    done = analyze("security", "--no-pager", "--offline=true", f"--threshold={most * 10:.0f}", str(unit))
    assert done.returncode == 0, done.stdout[-300:]


def test_what_was_promised() -> None:
    service = settings(UNIT, "Service")
    assert service["Type"] == ["notify"]
    assert int(service["TimeoutStopSec"][0]) > 10
    assert service["RestartPreventExitStatus"] == ["2 3 78"]
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ["CAP_NET_ADMIN"]
    assert settings(UNIT, "Unit")["StartLimitIntervalSec"] == ["0"]


def test_traps_are_avoided() -> None:
    """Each of these settings breaks something that shows only later. The unit's comments name it."""
    service = settings(UNIT, "Service")
    for trap in ("ProcSubset", "PrivateUsers", "SocketBindDeny", "ConfigurationDirectory", "DynamicUser"):
        assert trap not in service
    unit = UNIT.read_text().splitlines()
    assert not [line for line in unit if re.match(r"[^#].*\s#", line)], "systemd has no comments after values"


def test_a_reload_can_fail() -> None:
    """Type=notify-reload (systemd 253) waits too.

    But it takes the READY=1 after a rejected configuration for success.
    """
    service = settings(UNIT, "Service")
    assert service["ExecReload"] == ["/usr/bin/wgsyncd reload"]


def test_unit_and_configuration_name_the_same_things() -> None:
    shipped = tomllib.loads((REPOSITORY / "etc" / "wgsyncd.toml").read_text())
    unit = UNIT.read_text()
    assert "/etc/wgsyncd/db-password" in unit
    assert settings(UNITS / "wgsyncd.socket", "Socket")["ListenStream"] == [shipped["metrics"]["listen"]]
    timeout = float(shipped["mikyun"]["database"]["timeout"].removesuffix("s"))
    assert timeout * 5 < int(settings(UNIT, "Service")["WatchdogSec"][0])
    for interface in shipped["interfaces"]:
        assert f"wg-quick@{interface}.service" in settings(UNIT, "Unit")["After"][0]


def test_user_of_the_unit_is_made() -> None:
    user = settings(UNIT, "Service")["User"][0]
    lines = [line.split() for line in (UNITS / "wgsyncd.sysusers.conf").read_text().splitlines() if line[0] != "#"]
    assert [line[:2] for line in lines] == [["u", user], ["g", f"{user}-notify"]]
    made = (UNITS / "wgsyncd.tmpfiles.conf").read_text().splitlines()[-1].split()
    assert made == ["d", "/run/wgsyncd-notify", "2750", user, f"{user}-notify", "-"]
