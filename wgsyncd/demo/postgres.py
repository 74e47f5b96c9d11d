"""Runs a private PostgreSQL server with its data, socket and log in one directory.

It does not touch an installed server. All SQL goes through the `psql` command, because that client does not share code
with the daemon's driver. PostgreSQL refuses to run as root, so its user is postgres, as with Debian's packages.
"""

import json
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from wgsyncd.config import resources
from wgsyncd.demo import packages, processes
from wgsyncd.demo.processes import DIE_WITH_PARENT, CommandFailed

DATABASE = "nexavpn"
ADMIN = "postgres"
PATIENCE = 180.0  # seconds: an emulated machine needs half a minute where another one needs three seconds

_AS_ADMIN = ("setpriv", f"--reuid={ADMIN}", f"--regid={ADMIN}", "--clear-groups")
_SETTINGS = ("listen_addresses=", "shared_buffers=16MB", "fsync=off", "unix_socket_permissions=0777")
# pg_hba.conf: the admin is known by the user at the socket, as with Debian's packages. Everybody else has a password.
_ACCESS = f"local all {ADMIN} peer\nlocal all all scram-sha-256\n"


class PrivatePostgres:
    """A private server and its data, from installation to removal. As a context manager it does both.

    A new directory below ``parent`` holds everything. The user postgres must be able to enter it. Start the server from
    the main thread (see :data:`wgsyncd.demo.processes.DIE_WITH_PARENT`).
    """

    def __init__(self, *, parent: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="wgsyncd-postgres-", dir=parent))
        self.directory.chmod(0o755)
        shutil.chown(self.directory, ADMIN, ADMIN)
        self.log = self.directory / "postgres.log"
        self._data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PrivatePostgres":
        try:
            options = ("--auth=peer", "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8", "--pgdata", str(self._data))
            processes.run([*_AS_ADMIN, _program("initdb"), *options], timeout=PATIENCE)
            (self._data / "pg_hba.conf").write_text(_ACCESS, encoding="ascii")
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server and wait until it answers. CommandFailed with the end of its log if it does not."""
        settings = [word for one in _SETTINGS for word in ("-c", one)]
        argv = [_program("postgres"), "-D", str(self._data), "-k", str(self.directory), *settings]
        # Another user cancels the parent's death signal (prctl(2)), so it is set once more.
        self._process = processes.start([*_AS_ADMIN, *DIE_WITH_PARENT, *argv], log=self.log)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.sql("SELECT 1", database="postgres")
            except CommandFailed as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    last = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
                    raise CommandFailed(f"postgres: {error}\n{last}") from None
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End the server at once, without a checkpoint. It recovers at the next start, as after a crash."""
        if self._process is not None:
            processes.end(self._process, signal.SIGQUIT, patience=PATIENCE)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def load(self) -> None:
        """Create :data:`DATABASE` with the tables of the application."""
        self.sql(f"CREATE DATABASE {DATABASE}", database="postgres")
        self.sql(resources.text("sql/nexavpn/nexavpn.sql"))

    def sql(self, text: str, *, database: str = DATABASE) -> str:
        """Run statements as the administrator. Returns what they print. CommandFailed has the message of PostgreSQL."""
        return _psql([*_AS_ADMIN, _program("psql")], f"host={self.directory} user={ADMIN} dbname={database}", text)

    def transact(self, *statements: str) -> None:
        """Run statements as the administrator, in one transaction."""
        self.sql("\n".join(["BEGIN;", *statements, "COMMIT;"]))

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query, each by the names of its columns."""
        found = self.sql(f"SELECT coalesce(json_agg(one), '[]') FROM ({query}) one")  # noqa: S608
        return list(json.loads(found))

    def set_password(self, role: str, file: Path) -> None:
        """Give a role a new password. ``file`` gets it, and only our user may read it (mode 0600)."""
        password = secrets.token_urlsafe(24)
        file.touch(0o600)
        file.write_text(password + "\n", encoding="ascii")
        self.sql(f"ALTER ROLE {role} PASSWORD '{password}'")  # on stdin, so no list of processes shows it

    def sql_of(self, role: str, password_file: Path, text: str) -> str:
        """Run statements as somebody who has the password of a role. See :meth:`sql`."""
        libpq = password_file.with_name("pgpass")  # libpq's own form, PostgreSQL's manual, "The Password File"
        libpq.touch(0o600)
        libpq.write_text(f"*:*:*:{role}:{password_file.read_text(encoding='ascii')}", encoding="ascii")
        address = f"host={self.directory} user={role} dbname={DATABASE} passfile={libpq}"
        return _psql([_program("psql")], address, text)


def quote(value: str | None) -> str:
    """A text as an SQL literal, None as NULL."""
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def _program(name: str) -> str:
    found = packages.program(name)
    if found is None:
        raise CommandFailed(f"{name}: not installed")
    return found


def _psql(command: list[str], address: str, text: str) -> str:
    options = ("--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--file=-")
    try:
        return processes.run([*command, *options, address], stdin=text, timeout=PATIENCE)
    except CommandFailed as error:  # the lines after the message repeat the statement, which may hold a key
        message = str(error).partition("ERROR:  ")[2] or str(error).rpartition("error: ")[2]
        raise CommandFailed(message.partition("\n")[0]) from None
