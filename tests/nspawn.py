"""Boots a systemd in systemd-nspawn(1), on an overlay over this machine's own root.

So nothing has to be installed in it, and nothing of this machine changes. It needs root. The configurations of wgsyncd
and WireGuard on this machine and the databases of MariaDB and PostgreSQL are hidden inside.

Two variables select another Debian release. $WGSYNCD_ROOT is the directory of its installation (debootstrap).
$WGSYNCD_PACKAGE is the package that etc/debian/build made there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.wait import until

REPOSITORY = Path(__file__).resolve().parents[1]
NEEDED = {"systemd-nspawn": "systemd-container", "nsenter": "util-linux", "mount": "mount", "umount": "mount"}
"""The programs that this module uses, and the Debian packages that have them."""
# Paths of this machine that are hidden inside. A container image has policy-rc.d, which forbids packages to restart
# services. Apt's lists name newer versions of installed packages, which nothing inside can fetch.
_HIDDEN = ("etc/systemd/system", "etc/wireguard", "etc/wgsyncd", "var/lib/wgsyncd", "var/lib/mysql",
           "etc/postgresql", "var/lib/postgresql", "var/log/journal",
           "usr/lib/wgsyncd", "usr/bin/wgsyncd", "usr/sbin/wgsyncd", "usr/local/sbin/wgsyncd",
           "usr/sbin/policy-rc.d", "var/lib/apt/lists")  # fmt: skip


class Booted:
    """Owns a booted system and its overlay, until the end of the ``with``."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="wgsyncd-nspawn-"))
        self.root = self.directory / "root"
        self.leader = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Booted:
        try:
            self._mount()
            self.boot("basic.target")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mount(self) -> None:
        # The layers are on a file system of their own: overlayfs does not define an upper directory inside the lower one.
        _run("mount", "-t", "tmpfs", "-o", "size=1g,mode=755", "wgsyncd-nspawn", str(self.directory))
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir()
        tmp = self.directory / "upper" / "var" / "tmp"
        tmp.mkdir(parents=True)
        tmp.chmod(0o1777)
        os.setxattr(tmp, "trusted.overlay.opaque", b"y")  # this machine's own is not seen
        lower = os.environ.get("WGSYNCD_ROOT", "/")
        layers = f"lowerdir={lower},upperdir={self.directory}/upper,workdir={self.directory}/work"
        _run("mount", "-t", "overlay", "-o", layers, "wgsyncd-nspawn", str(self.root))
        for old in _HIDDEN:
            path = self.root / old
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        (self.root / "etc/wireguard").mkdir(mode=0o700)  # Debian's wireguard-tools has it

    def boot(self, target: str) -> None:
        """Start the system up to the unit ``target``. It can be started again after :meth:`power_off`."""
        with (self.directory / "console").open("ab") as console:
            self._process = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--boot", f"--directory={self.root}",
                 f"--machine=wgsyncd-{secrets.token_hex(4)}", "--private-network", "--register=no", "--keep-unit",
                 "--link-journal=no", "--console=pipe", "--resolv-conf=off", "--timezone=off", "--bind=/dev/net/tun",
                 "--", f"--unit={target}"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "0"},
            )  # fmt: skip
        until(self._find_leader, 60, f"systemd is started: {self.console()}")
        state = ("running", "degraded")
        until(lambda: self.run("systemctl", "is-system-running", check=False).strip() in state, 90, "systemd is up")
        self.run("ip", "link", "set", "lo", "up")

    def _find_leader(self) -> bool:
        """Look for the first process of the system. Returns whether it was found.

        It is a descendant of systemd-nspawn, and its process id inside is 1.
        """
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended: {self.console()}")
        for pid in _descendants(self._process.pid):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                inside = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1]
                if inside == "1" and Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    self.leader = pid
        return self.leader != 0

    def console(self) -> str:
        """The last 2000 characters that the system printed."""
        return (self.directory / "console").read_text(errors="replace")[-2000:]

    def run(self, *argv: str, check: bool = True, stdin: str = "", timeout: float = 240) -> str:
        """Run a command inside as root. Returns its output. AssertionError with the output if the command fails."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", *argv],
            input=stdin, capture_output=True, text=True, timeout=timeout, check=False, errors="replace",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{shlex.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def write(self, path: str, text: str, *, mode: int = 0o644, group: str = "") -> None:
        """Write a file inside. Its owner is root. Its group is root or ``group``, a name that is known inside."""
        where = self.root / path[1:]
        where.parent.mkdir(parents=True, exist_ok=True)
        where.unlink(missing_ok=True)
        where.touch(mode=0o600)
        where.write_text(text)
        where.chmod(mode)
        if group:
            self.run("chgrp", group, path)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """The named properties of a unit, as `systemctl show` prints them."""
        lines = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names)).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, unit: str, *options: str) -> str:
        """The lines that a unit has logged to the journal."""
        return self.run("journalctl", "--no-pager", f"--unit={unit}", *options)

    def power_off(self) -> None:
        """Power off as `systemctl poweroff` does: every unit is stopped in order. Files stay for the next boot."""
        assert self._process is not None
        if self._process.poll() is None and self.leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.leader, signal.SIGRTMIN + 4)  # systemd(1)
                # Without the unified hierarchy, systemd may miss that a service's last process is gone. It then waits for 90 s.
                self._process.wait(150)
        self.leader = 0

    def close(self) -> None:
        """Power off, and remove the overlay with all its files."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.power_off()
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()
        for path in (self.root, self.directory):
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True, check=False)
        with contextlib.suppress(OSError):
            self.directory.rmdir()


def _descendants(pid: int) -> Sequence[int]:
    found = []
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, children.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{shlex.join(argv)}: {done.stderr}")
