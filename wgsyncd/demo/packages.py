"""Finds the Debian packages that the demo needs and that are missing, and installs them if asked."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from wgsyncd.config.resources import install_command
from wgsyncd.demo.testbed import WgKind, kernel_has_wireguard
from wgsyncd.errors import UserError


class Needed(NamedTuple):
    """What a demo needs. ``commands``: those that it uses, by Debian package. ``modules``: Python's, of an extra."""

    commands: Mapping[str, tuple[str, ...]]
    modules: tuple[str, ...] = ()
    extra: str = ""


_ALWAYS = {
    "iproute2": ("ip",),
    "util-linux": ("unshare", "nsenter", "setpriv"),
    "wireguard-tools": ("wg",),
    "wireguard-go": ("wireguard-go",),  # only where the kernel has no WireGuard
}
# The -core packages of MariaDB have the programs but no service, so that no second server starts on the machine.
MARIADB = Needed(
    _ALWAYS | {"mariadb-server-core": ("mariadbd", "mariadb-install-db"), "mariadb-client-core": ("mariadb",)}
)
POSTGRESQL = Needed(
    _ALWAYS | {"postgresql": ("initdb", "postgres", "psql"), "nftables": ("nft",)},
    modules=("psycopg", "cryptography"),
    extra="nexavpn",
)
# postgresql-common(7): the package postgresql makes a cluster and starts it, unless such a file forbids it.
_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/wgsyncd-demo.conf")


def ensure(needed: Needed, *, install: bool) -> WgKind:
    """Check that the demo can run here, and install missing packages with apt-get if that is wanted.

    It is wanted if ``install`` is true or somebody at the terminal answers yes. Returns the kind of WireGuard that is
    here. UserError: the demo cannot run here.
    """
    if os.geteuid() != 0:
        raise UserError(
            "the demo makes network namespaces and interfaces of its own: run it as root (sudo wgsyncd demo)"
        )
    if modules := [name for name in needed.modules if find_spec(name) is None]:
        raise UserError(f"{', '.join(modules)}: not installed: {install_command(needed.extra)}")
    if absent := _missing(needed.commands):
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *absent]
        if not install and not _asked(absent):
            raise UserError(f"packages are missing: {' '.join(command)}   (or the demo with --install)")
        with _no_cluster() if "postgresql" in absent else contextlib.nullcontext():
            _apt(command)
        if absent := _missing(needed.commands):
            raise UserError(f"still not here after the installation: {', '.join(absent)}")
    if kernel_has_wireguard():
        return "kernel"
    if not Path("/dev/net/tun").exists():
        raise UserError(
            "neither WireGuard in the kernel nor /dev/net/tun for wireguard-go: modprobe wireguard (or tun)"
        )
    return "userspace"


def program(name: str) -> str | None:
    """The path of a command, or None. Debian keeps PostgreSQL's outside PATH, in a folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(found[-1]) if found else shutil.which(name)


def _missing(needed: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The packages that the demo needs and this machine does not have."""
    absent = [package for package, commands in needed.items() if not all(map(program, commands))]
    can_try = not {"iproute2", "util-linux"} & set(absent)
    if "wireguard-go" in absent and (kernel_has_wireguard() if can_try else Path("/sys/module/wireguard").exists()):
        absent.remove("wireguard-go")
    return absent


def _asked(absent: list[str]) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"The demo needs: {', '.join(absent)}. Install with apt-get now? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextlib.contextmanager
def _no_cluster() -> Iterator[None]:
    """Forbid Debian's packages to make a cluster of PostgreSQL and to start it."""
    made = [one for one in _NO_CLUSTER.parents if not one.exists()]
    _NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    _NO_CLUSTER.write_text("create_main_cluster = false\n", encoding="ascii")
    try:
        yield
    finally:
        _NO_CLUSTER.unlink()
        for one in made:
            with contextlib.suppress(OSError):  # the package has files there
                one.rmdir()


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
