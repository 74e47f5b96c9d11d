"""Checks of the daemon as the system sees it: process, rights, unit, metrics port and clock."""

import contextlib
import http.client
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from wgsyncd.cli.doctor.files import Who
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import NTP, Finding, fault, ok, warning
from wgsyncd.core.words import counted
from wgsyncd.daemon import lock

UNIT = "wgsyncd"
_CAP_NET_ADMIN = 12  # capabilities(7)
_SHOWN = ("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "ExecMainStatus", "MainPID", "NRestarts",
          "NeedDaemonReload", "User", "StatusText", "FragmentPath", "DropInPaths")  # fmt: skip
_START = "systemctl enable --now wgsyncd"
_INSTALL = "apt-get install --reinstall ./wgsyncd_*.deb  # the package, see man wgsyncd-install"
_LOADED = {
    "loaded": _START,
    "masked": "systemctl unmask wgsyncd && systemctl enable --now wgsyncd",
}  # what starts the unit, by LoadState


def check(settings: Settings | None, pid: int | None, unseen: str, unit: Mapping[str, str] | None) -> Iterator[Finding]:
    """Every check of the daemon. ``pid`` is the lock holder's. ``unseen`` says why nobody knows the holder."""
    yield warning("daemon", unseen, "sudo wgsyncd doctor") if unseen else _daemon(pid, unit)
    if pid is not None:
        yield _capability(pid)
    yield from _unit(unit, pid)
    if settings is not None:
        yield _metrics(settings, pid)
    yield _clock()


def pair(settings: Settings, interface_of: Callable[[str], str | None]) -> Iterator[Finding]:
    """Which node of a pair this one is. ``interface_of`` tells which interface has an address, or raises OSError."""
    address = settings.node.active_address
    if not address:
        return
    try:
        name = interface_of(address)
    except OSError as error:
        yield warning("pair", f"the kernel does not say whether {address} is here: {error.strerror}", "ip address show")
        return
    if name == "lo":
        told = f"{address} is on lo, where it stays: both nodes of the pair take themselves for active"
        yield warning("pair", told, f"ip address delete {address} dev lo")
    else:
        yield ok("pair", f"active: {name} has {address}" if name else f"standby: no interface has {address}")


def show() -> dict[str, str] | None:
    """What systemd says about the unit. None if systemd did not start this system."""
    if not Path("/run/systemd/system").is_dir():
        return None
    text = _ask(["systemctl", "show", UNIT, *(f"--property={name}" for name in _SHOWN)])
    return dict(line.partition("=")[::2] for line in text.splitlines()) if text else None


def copied_secrets(unit: Mapping[str, str] | None) -> frozenset[str] | None:
    """What the unit's files say with LoadCredential=. None without a unit.

    ``systemctl show`` of systemd 252 does not print this setting.
    """
    if unit is None or unit.get("LoadState") != "loaded":
        return None
    found: list[str] = []
    for file in (unit.get("FragmentPath", ""), *unit.get("DropInPaths", "").split()):
        with contextlib.suppress(OSError):
            text = Path(file).read_text(encoding="utf-8", errors="replace")
            found += re.findall(r"^LoadCredential\s*=\s*(\S+)", text, re.MULTILINE)
    return frozenset(found)


def who(pid: int | None, unit: Mapping[str, str] | None) -> Who | None:
    """The user that the daemon runs as. If no daemon runs, the user of its unit."""
    if pid is not None:
        status = _status(pid)
        if "Uid" in status:
            uid = int(status["Uid"].split()[1])
            gids = {int(status["Gid"].split()[1]), *map(int, status.get("Groups", "").split())}
            return Who(_name(uid), uid, frozenset(gids))
    name = (unit or {}).get("User") or UNIT
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return Who(name, found.pw_uid, frozenset((found.pw_gid,)))


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _ask(argv: Sequence[str]) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _daemon(pid: int | None, unit: Mapping[str, str] | None) -> Finding:
    if pid is None:
        mend = _START if unit is None else _LOADED.get(unit.get("LoadState", ""), _INSTALL)
        return fault("daemon", f"none runs here: nobody holds {lock.path()}", mend)
    return ok("daemon", f"runs, pid {pid}, and holds {lock.path()}")


def _capability(pid: int) -> Finding:
    status = _status(pid)
    if "CapEff" not in status:
        return warning("capability", f"/proc/{pid}/status cannot be read", "sudo wgsyncd doctor")
    if not int(status["CapEff"], 16) >> _CAP_NET_ADMIN & 1:
        return fault(
            "capability", f"pid {pid} is without CAP_NET_ADMIN: the kernel refuses every change",
            "systemctl cat wgsyncd && systemctl revert wgsyncd && systemctl restart wgsyncd",
        )  # fmt: skip
    return ok("capability", f"pid {pid} has CAP_NET_ADMIN")


def _unit(unit: Mapping[str, str] | None, pid: int | None) -> Iterator[Finding]:
    if unit is None:
        yield warning("unit", "this system does not run under systemd, or it does not answer", "systemctl status")
        return
    state = f"{unit.get('ActiveState')} ({unit.get('SubState')})"
    if unit.get("LoadState") != "loaded":
        state = unit.get("LoadState", "")
        yield fault("unit", f"wgsyncd.service is {state}", _LOADED.get(state, _INSTALL))
        return
    logs = "journalctl -u wgsyncd -n 30 --no-pager"
    if unit.get("ActiveState") == "failed":
        why = "a bad configuration" if unit.get("ExecMainStatus") == "2" else unit.get("Result", "")
        yield fault("unit", f"it failed: {why}", f"{logs} && wgsyncd check-config && systemctl restart wgsyncd")
    elif unit.get("ActiveState") != "active":
        yield fault("unit", f"it is {state}", f"systemctl start wgsyncd || {logs}")
    elif pid is not None and unit.get("MainPID") != str(pid):
        yield fault(
            "unit", f"its pid is {unit.get('MainPID')}, but {pid} holds the lock: started by hand?", f"ps -fp {pid}"
        )
    elif unit.get("NeedDaemonReload") == "yes":
        yield warning("unit", "its file has changed since systemd read it", "systemctl daemon-reload")
    elif unit.get("NRestarts", "0") != "0":
        yield warning("unit", f"{state}, but systemd had to restart it {counted(int(unit['NRestarts']), 'time')}", logs)
    else:
        yield ok("unit", f"{state}: {unit.get('StatusText') or 'no status'}")
    if unit.get("UnitFileState") not in ("enabled", "static", "linked-runtime", "enabled-runtime"):
        yield warning("at boot", f"wgsyncd.service is {unit.get('UnitFileState')}", "systemctl enable wgsyncd")


def _metrics(settings: Settings, pid: int | None) -> Finding:
    address = settings.metrics.address
    if address is None:
        return ok("metrics", "off (metrics.listen is empty)")
    path = _unix_socket()
    where = path or settings.metrics.listen
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(address[0], address[0])  # noqa: S104
    try:
        with contextlib.closing(http.client.HTTPConnection(host, address[1], timeout=5)) as connection:
            if path:
                connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.sock.settimeout(5)
                connection.sock.connect(path)
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            said = answer.read(1000).decode("utf-8", "replace").strip()
    except PermissionError:
        return warning("metrics", f"{where} is not for you to ask", "sudo wgsyncd doctor")
    except (OSError, http.client.HTTPException) as error:
        if pid is None:
            return warning("metrics", f"nobody answers on {where}: no wgsyncd runs", "systemctl start wgsyncd")
        return fault("metrics", f"nobody answers on {where}: {error}", "systemctl restart wgsyncd")
    if not (answer.getheader("Server") or "").startswith("wgsyncd/"):
        mend = "systemctl status wgsyncd.socket" if path else f"ss -ltnp 'sport = :{address[1]}'"
        return fault("metrics", f"another program answers on {where}", mend)
    if answer.status != 200:
        return fault("metrics", f"{where} answers, not ready: {said}", "journalctl -u wgsyncd -n 30 --no-pager")
    return ok("metrics", f"{where} answers, ready")


def _unix_socket() -> str:
    """The unix socket that wgsyncd.socket has in place of a port. "" if it has a port, or if there is no such unit."""
    said = _ask(["systemctl", "show", f"{UNIT}.socket", "--property=Listen", "--value"])
    found = re.match(r"(/.*) \(Stream\)$", said.strip())
    return found[1] if found else ""


def _clock() -> Finding:
    said = _ask(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).strip()
    if said == "yes":
        return ok("clock", "NTP keeps it")
    if said == "no":
        return warning("clock", "NTP does not keep it: activation deadlines and windows follow it", NTP)
    return warning("clock", "timedatectl does not say whether NTP keeps it", "timedatectl status")
