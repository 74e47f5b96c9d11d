"""The daemon runs for months, so it does not load libraries that it never uses. Each costs memory on every node."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# The value says who would load the library, and what it would be good for.
NEVER = {
    "rich": "structlog, for coloured traces; commands use it for their tables",
    "pygments": "rich, for coloured traces",
    "cryptography": "PyMySQL, for a login that is refused; the store of NexaVPN, if preshared keys are configured",
    "_ssl": "asyncio, prometheus_client and drivers, for TLS; it loads OpenSSL. A login at MariaDB by TLS needs it",
    "_hashlib": "hashlib, for OpenSSL's hashes in place of Python's own",
    "http.client": "prometheus_client, to push metrics",
    "multiprocessing": "APScheduler, for a pool of processes",
    "pickle": "structlog, for one error",
    "nacl": "PyMySQL, for one kind of login, when it takes place",
    "pygal": "`usage --svg`",
    "xml": "the page, when somebody opens it",
    "pyroute2": "the creation of an interface",
    "wgsyncd.demo": "`demo`",
    "wgsyncd.cli.doctor": "`doctor`",
    "wgsyncd.cli.output": "commands that print tables",
    "wgsyncd.cli.client": "commands that ask the daemon",
}
# The other control plane's driver is not needed either.
OTHER = {"mikyun": ("psycopg", "wgsyncd.stores.nexavpn.store"), "nexavpn": ("pymysql", "wgsyncd.stores.mikyun.store")}
CONFIG = {
    "mikyun": '[mikyun.database]\nsocket = "{0}/nobody"\npassword_file = "{0}/password"\n',
    "nexavpn": '[nexavpn.database]\nhosts = ["{0}/nobody"]\n[nexavpn.policies]\nenforce = false\n',
}
PROGRAM = """\
import sys
from wgsyncd.cli.main import main
status = main(sys.argv[1:])
import json
print(json.dumps(sorted(sys.modules)))
sys.exit(status)
"""


@pytest.mark.parametrize("control_plane", OTHER)
def test_the_daemon_loads_nothing_that_it_never_uses(control_plane: str, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o600)
    config = tmp_path / "wgsyncd.toml"
    config.write_text(
        f'control_plane = "{control_plane}"\n{CONFIG[control_plane].format(tmp_path)}'
        f'[node]\nname = "{tmp_path.name}"\n[metrics]\nlisten = ""\n[interfaces.imports0]\nnetworks = ["10.0.0.0/8"]\n'
    )
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state"),
                   "NOTIFY_SOCKET": str(tmp_path / "notify")}  # fmt: skip
    argv = [sys.executable, "-c", PROGRAM, "run", "--config", str(config)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, (tmp_path / "log").open("w+") as log:
        notices.bind(str(tmp_path / "notify"))
        notices.settimeout(60)
        daemon = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            while not notices.recv(65536).startswith(b"STATUS="):  # after the first cycle
                pass
        finally:
            daemon.send_signal(signal.SIGTERM)
            out, _ = daemon.communicate(timeout=60)
        log.seek(0)
        assert daemon.returncode == 0, log.read()
    loaded = json.loads(out)
    assert f"wgsyncd.stores.{control_plane}.store" in loaded
    unwanted = {*NEVER, *OTHER[control_plane]}
    assert not {one for one in loaded for name in unwanted if f"{one}.".startswith(f"{name}.")}
