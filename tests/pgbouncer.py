"""A private PgBouncer in front of a private PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.postgres import PrivatePostgres
from tests.wait import until

PORT = 6432  # of the socket's name: the pooler listens to no network
_CONFIGURATION = """
[databases]
* = host={server}
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = trust
auth_file = {directory}/users
pool_mode = {mode}
"""


@contextmanager
def pooler(server: PrivatePostgres, mode: str, role: str, more: str = "") -> Iterator[str]:
    """Yields the directory of the pooler's socket. ``mode``: of the pool. ``role`` may enter. ``more``: settings."""
    directory = Path(tempfile.mkdtemp(prefix="wgsyncd-pgbouncer-"))
    directory.chmod(0o755)
    values = {"server": server.directory, "port": PORT, "directory": directory, "mode": mode}
    (directory / "ini").write_text(_CONFIGURATION.format(**values) + more, encoding="utf-8")
    (directory / "users").write_text(f'"{role}" ""\n', encoding="utf-8")
    command = ["pgbouncer", "-q", str(directory / "ini")]
    if os.geteuid() == 0:  # it refuses to run as root
        shutil.chown(directory, "postgres", "postgres")
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
    )  # fmt: skip
    try:
        until(lambda: _accepts(directory / f".s.PGSQL.{PORT}"), 30, "a connection to PgBouncer")
        yield str(directory)
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(directory)


def _accepts(path: Path) -> bool:
    """Returns whether somebody accepts connections. The file of a socket is there some time before."""
    with socket.socket(socket.AF_UNIX) as trial, suppress(OSError):
        trial.connect(str(path))
        return True
    return False
