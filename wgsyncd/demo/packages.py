"""Finds the Debian packages that the demo needs and that are missing, and installs them if asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from wgsyncd.demo.testbed import WgKind, kernel_has_wireguard
from wgsyncd.errors import UserError

# Package: the commands that the demo uses from it. The -core packages of MariaDB have the programs but no service, so
# that no second server starts on the machine.
_NEEDED = {
    "iproute2": ("ip",),
    "util-linux": ("unshare", "nsenter", "setpriv"),
    "wireguard-tools": ("wg",),
    "mariadb-server-core": ("mariadbd", "mariadb-install-db"),
    "mariadb-client-core": ("mariadb",),
    "wireguard-go": ("wireguard-go",),  # only where the kernel has no WireGuard
}


def ensure(*, install: bool) -> WgKind:
    """Check that the demo can run here, and install missing packages with apt-get if that is wanted.

    It is wanted if ``install`` is true or somebody at the terminal answers yes. Returns the kind of WireGuard that is
    here. UserError: the demo cannot run here.
    """
    if os.geteuid() != 0:
        raise UserError(
            "the demo makes network namespaces and interfaces of its own: run it as root (sudo wgsyncd demo)"
        )
    if absent := _missing():
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *absent]
        if not install and not _asked(absent):
            raise UserError(f"packages are missing: {' '.join(command)}   (or: wgsyncd demo --install)")
        _apt(command)
        if absent := _missing():
            raise UserError(f"still not here after the installation: {', '.join(absent)}")
    if kernel_has_wireguard():
        return "kernel"
    if not Path("/dev/net/tun").exists():
        raise UserError(
            "neither WireGuard in the kernel nor /dev/net/tun for wireguard-go: modprobe wireguard (or tun)"
        )
    return "userspace"


def _missing() -> list[str]:
    """The packages that the demo needs and this machine does not have."""
    absent = [package for package, commands in _NEEDED.items() if not all(map(shutil.which, commands))]
    can_try = not {"iproute2", "util-linux"} & set(absent)
    if "wireguard-go" in absent and (kernel_has_wireguard() if can_try else Path("/sys/module/wireguard").exists()):
        absent.remove("wireguard-go")
    return absent


def _asked(absent: list[str]) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"The demo needs: {', '.join(absent)}. Install with apt-get now? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _apt(command: list[str]) -> None:
    """Run apt-get. Its output goes to stderr, because stdout may be JSON. UserError: apt-get fails or is missing."""
    if not shutil.which("apt-get"):
        raise UserError(f"there is no apt-get here. Install these by other means: {' '.join(command[4:])}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for attempt in (command, ["apt-get", "update"], command):  # the package lists may be old or missing
        done = subprocess.run(attempt, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        if attempt is command and done.returncode == 0:
            return
    raise UserError(f"apt-get could not do it: {' '.join(command)}")
