"""Runs a private MariaDB server with its data, socket and log in one directory.

It does not touch an installed server. All SQL goes through the `mariadb` command, because that client does not share
code with the daemon's driver.
"""

import getpass
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wgsyncd.config import resources
from wgsyncd.demo import processes
from wgsyncd.demo.processes import CommandFailed

DATABASE = "mikyun_cloud"
ACCOUNT = "mikyun"
PATIENCE = 180.0  # seconds: an emulated machine needs half a minute where another one needs three seconds

_SETTINGS = (
    "--innodb-buffer-pool-size=32M",
    "--loose-innodb-buffer-pool-size-max=128M",  # some servers have it, and reserve 8 GiB by default
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=2",  # a commit survives the death of mariadbd, but not of the machine
    "--loose-innodb-use-native-aio=0",  # io_uring and libaio are refused in some containers
    "--aria-pagecache-buffer-size=1M",
    "--key-buffer-size=1M",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--skip-networking",
)
_UNESCAPE = re.compile(r"\\([\\nt0])")


class PrivateServer:
    """A private server and its data, from installation to removal. As a context manager it does both.

    ``options`` go to the installation and to the server. A new directory below ``parent`` (default: the temporary
    directory) holds everything. Start the server from the main thread (see
    :data:`wgsyncd.demo.processes.DIE_WITH_PARENT`).
    """

    def __init__(self, *, options: Sequence[str] = (), parent: Path | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="wgsyncd-mariadb-", dir=parent))
        self.socket = self.directory / "socket"
        self.password_file = self.directory / "password"
        self.log = self.directory / "mariadbd.log"
        self._user = getpass.getuser()  # mariadbd keeps our user, so no other account needs access to the data
        self._options = (f"--user={self._user}", f"--datadir={self.directory / 'data'}", f"--tmpdir={self.directory}",
                         *_SETTINGS, *options)  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "PrivateServer":
        try:
            self.install()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the running server. CommandFailed if it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise CommandFailed("the private MariaDB does not run")
        return self._process.pid

    @property
    def connect_args(self) -> dict[str, Any]:
        """Arguments for pymysql.connect: the administrator, over the socket."""
        return {"unix_socket": str(self.socket), "user": self._user, "charset": "utf8mb4", "ssl_disabled": True}

    def install(self) -> None:
        """Create the data directory: system tables, an administrator, no anonymous account.

        The server knows the administrator by the user at the socket. Without ``--rpm`` the script would give a
        directory of the installed server (of its PAM tool) to our user.
        """
        script = ("mariadb-install-db", "--no-defaults", "--rpm", "--skip-test-db")
        processes.run([*script, f"--auth-root-socket-user={self._user}", *self._options], timeout=PATIENCE)

    def start(self) -> None:
        """Start the server and wait until it answers. CommandFailed with the end of its log if it does not.

        A SIGTERM that comes before the first greeting may be lost: MariaDB 10.11.19 then never ends.
        """
        files = (f"--socket={self.socket}", f"--pid-file={self.directory / 'pid'}")
        self._process = processes.start(["mariadbd", "--no-defaults", *files, *self._options], log=self.log)
        try:
            processes.await_socket(self.socket, self._process, "mariadbd", seconds=PATIENCE, greets=True)
        except CommandFailed as error:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise CommandFailed(f"{error}\n{last}") from None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Shut the server down in an orderly way."""
        if self._process is not None:
            processes.end(self._process, how, patience=PATIENCE)

    def kill(self) -> None:
        """Kill the server, as a crash does."""
        self.stop(signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def sql(self, text: str, *, database: str = DATABASE) -> list[dict[str, str | None]]:
        """Run statements as the administrator. Returns the rows of the last SELECT, each by the names of its columns.

        NULL becomes None. So does the text NULL, because the command prints both alike. CommandFailed has the message
        of MariaDB.
        """
        argv = ["mariadb", "--no-defaults", f"--socket={self.socket}", f"--user={self._user}", "--batch",
                "--default-character-set=utf8mb4", database]  # fmt: skip
        try:
            lines = processes.run(argv, stdin=text, timeout=PATIENCE).split("\n")[:-1]
        except CommandFailed as error:  # the message repeats the statement, which may hold a key: it is left out
            raise CommandFailed("".join(str(error).rpartition("ERROR ")[1:])) from None
        names, *rows = [line.split("\t") for line in lines] or [[]]
        return [dict(zip(names, map(_value, row), strict=True)) for row in rows]

    def load(self) -> None:
        """Create :data:`DATABASE` with the tables of the web application and wgsyncd's own."""
        self.sql(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4", database="")
        self.sql(resources.text("sql/mikyun/mikyun_cloud.sql"))
        self.sql(resources.text("sql/mikyun/wgsyncd.sql"))

    def create_account(self) -> None:
        """Create the daemon's account with exactly the shipped grants.

        Its new password is in :attr:`password_file`, which only our user may read (mode 0600).
        """
        password = secrets.token_urlsafe(24)
        self.password_file.touch(0o600)
        self.password_file.write_text(password + "\n", encoding="ascii")
        for host in ("localhost", "127.0.0.1"):
            account = f"'{ACCOUNT}'@'{host}'"
            self.sql(f"CREATE USER {account} IDENTIFIED BY '{password}'")  # on stdin, so no list of processes shows it
            self.sql(resources.text("sql/mikyun/grants.sql").replace("{account}", account))


def quote(value: str | None) -> str:
    """A text as an SQL literal, None as NULL."""
    return "NULL" if value is None else "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _value(text: str) -> str | None:
    if text == "NULL":
        return None
    return _UNESCAPE.sub(lambda match: {"n": "\n", "t": "\t", "0": "\0"}.get(match[1], match[1]), text)
