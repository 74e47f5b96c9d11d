"""A private PostgreSQL server with NexaVPN's tables, for tests. It does not touch an installed server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

from wgsyncd.config import resources

NODE_ROLE = "wgsyncd_test"
_SETTINGS = "-c listen_addresses='' -c shared_buffers=16MB -c fsync=off -c unix_socket_permissions=0777"
_ROLES = f"CREATE ROLE {NODE_ROLE} LOGIN IN ROLE wgsyncd_node"


class PrivatePostgres:
    """The server and its data, from installation to removal. As a context manager it does both.

    ``options`` go to the server. ``directory`` also has the server's socket. The user postgres runs the server, because it refuses to run as root.
    """

    def __init__(self, options: str = "", parent: Path | None = None) -> None:
        self.options = options
        self.directory = Path(tempfile.mkdtemp(prefix="wgsyncd-postgres-", dir=parent))
        self.directory.chmod(0o755)
        self._as: tuple[str, ...] = ()
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
            self._as = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")

    def __enter__(self) -> PrivatePostgres:
        try:
            self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--locale=C.UTF-8", "-E", "UTF8")
            self.start()
            with self.admin() as admin:
                for name in ("nexavpn.sql", "wgsyncd.sql", "views.sql"):
                    admin.execute(resources.text(f"sql/nexavpn/{name}").encode())
                admin.execute(_ROLES)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def admin(self, *, autocommit: bool = False) -> psycopg.Connection:
        """A new connection of the administrator. Without ``autocommit`` it is one transaction, if it is a context."""
        return psycopg.connect(host=str(self.directory), user="postgres", dbname="postgres", autocommit=autocommit)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self._run(
            "pg_ctl",
            "-w",
            "-l",
            str(self.directory / "log"),
            "-o",
            f"{_SETTINGS} -k {self.directory} {self.options}",
            "start",
        )

    def begin_standby(self) -> PrivatePostgres:
        """A streaming standby with the data of now, which runs. Its caller closes it."""
        standby = PrivatePostgres(self.options)
        try:
            source = ("-h", str(self.directory), "-U", "postgres", "-c", "fast", "-X", "stream", "--no-sync")
            standby._run("pg_basebackup", *source, "--write-recovery-conf")
            standby.start()
        except BaseException:
            standby.close()
            raise
        return standby

    def promote(self) -> None:
        """Make this standby a primary, and wait until it takes writes."""
        self._run("pg_ctl", "-w", "promote")

    def stop(self, how: str = "immediate") -> None:
        """Stop the server. "immediate" ends it as a crash does."""
        self._run("pg_ctl", "-m", how, "stop")

    def close(self) -> None:
        """Stop the server, if it runs, and remove its data."""
        if (self.directory / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _run(self, program: str, *options: str) -> None:
        (path, *_) = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
        done = subprocess.run(
            [*self._as, path, "-D", self.directory / "data", *options], cwd=self.directory, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        if done.returncode:
            log = self.directory / "log"
            told = done.stdout or (log.read_text(encoding="utf-8") if log.exists() else "")
            raise RuntimeError(f"{program} failed: {told[-2000:]}")
