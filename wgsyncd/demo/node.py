"""A machine of the demo that runs wgsyncd: its files, its commands and its daemon."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from wgsyncd.demo import processes
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import Namespace


class Node:
    """Runs wgsyncd in the namespace of a server.

    ``directory`` has the configuration, the state and the control socket. ``log`` gets the output of all commands.
    ``pace`` multiplies all waiting times.
    """

    def __init__(self, directory: Path, namespace: Namespace, log: Path, pace: float) -> None:
        self.directory, self.namespace, self.log = directory, namespace, log
        self.config = directory / "wgsyncd.toml"
        self.daemon: subprocess.Popen[bytes]  # once start() was called
        self._pace = pace

    def start(self) -> None:
        """Start `wgsyncd run` with a real configuration file."""
        self.daemon = self._command("run")

    def start_with_page(self) -> str:
        """Start the daemon and wait until it is ready. Returns the address of its page.

        The page is on the machine's own loopback, and the daemon gets its socket as from systemd.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            host, port = listener.getsockname()
            get = f'exec 3<&{listener.fileno()} && LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
            self.daemon = self._command("run", before=("sh", "-c", get, "sh"), inherited=(listener.fileno(),))
        processes.await_socket(self.directory / "control.sock", self.daemon, "wgsyncd", seconds=30 * self._pace)
        return f"http://{host}:{port}/"

    def finish(self, *words: str) -> None:
        """Run a command of wgsyncd to its end. CommandFailed if it fails."""
        if self._command(*words).wait(20 * self._pace):
            raise CommandFailed(f"wgsyncd {words[0]}: see {self.log}")

    def _command(
        self, *words: str, before: Sequence[str] = (), inherited: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        argv = [*before, sys.executable, "-m", "wgsyncd", *words, "--config", str(self.config)]
        settings = {
            "RUNTIME_DIRECTORY": str(self.directory), "STATE_DIRECTORY": f"{self.directory}/state",
            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }  # fmt: skip
        return self.namespace.start_with(inherited, argv, self.log, settings)
