"""The daemon and its command run as on a real server, and all their output is kept."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import wgsyncd
from tests.wait import until
from wgsyncd.demo import processes
from wgsyncd.demo.testbed import Testbed

PATIENCE = 300.0 if os.environ.get("WGSYNCD_VM") else 60.0  # seconds, because an emulated machine is that slow
CHECKOUT = Path(wgsyncd.__file__).resolve().parent.parent
T = TypeVar("T")
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_PORT = 9586


def wait(condition: Any, what: str) -> Any:
    """Waits with :func:`tests.wait.until` for as long as this machine needs."""
    return until(condition, PATIENCE, what)


class Ear:
    """Collects all output of this run, and knows every secret that the run made."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.secrets: set[str] = set()
        self.heard: dict[str, int] = {}  # the key is the source, the value is a number of characters

    def keep(self, *texts: str | None) -> None:
        """Remembers secrets: keys, preshared keys and passwords."""
        self.secrets |= {text for text in texts if text}

    def hear(self, source: str, text: str) -> None:
        """Adds a text that others may read."""
        self.heard[source] = self.heard.get(source, 0) + len(text)
        with self.file.open("a", encoding="utf-8", errors="replace") as file:
            file.write(text + "\n")


class Notices:
    """Plays systemd's side of NOTIFY_SOCKET.

    It reads at once as systemd does, because a full queue would block the sender.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.all = path, list[str]()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while text := self._socket.recv(8192).decode():
            self.all.append(text)

    def has(self, line: str, since: int = 0) -> bool:
        """Returns whether the daemon sent a line.

        With ``…`` at its end, `line` is only a part of the line that was sent.
        """
        said = [one for text in self.all[since:] for one in text.splitlines()]
        return any(line[:-1] in one for one in said) if line.endswith("…") else line in said

    def close(self) -> None:
        """Ends the reader with an empty datagram."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()


class Daemon:
    """Runs one `wgsyncd run` after the other on one configuration file."""

    def __init__(self, world: Testbed, ear: Ear, directory: Path) -> None:
        self.directory = directory
        self._world, self._ear = world, ear
        self.directory.mkdir()
        self.config, self.log = self.directory / "wgsyncd.toml", self.directory / "log"
        self.log.touch()
        self.notices = Notices(self.directory / "notify")
        self.process: subprocess.Popen[bytes] | None = None
        self.may_crash = False
        self.prefix: tuple[str, ...] = ()  # a command that runs the daemon

    @property
    def environment(self) -> dict[str, str]:
        """Returns the environment of the daemon and of its command."""
        return {"RUNTIME_DIRECTORY": str(self.directory), "STATE_DIRECTORY": str(self.directory / "state"),
                "NOTIFY_SOCKET": str(self.notices.path),
                "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip

    def start(
        self, env: Mapping[str, str] | None = None, *, ready: bool = True, argv: Iterable[str] = ("-m", "wgsyncd")
    ) -> Daemon:
        """Starts the daemon, and waits for READY=1 if `ready`.

        ``argv`` are the arguments of this interpreter before the command.
        """
        since = len(self.notices.all)
        command = [*self.prefix, sys.executable, *argv, "run", "--config", str(self.config)]
        self.process = self._world.server.start(*command, log=self.log, **{**self.environment, **(env or {})})
        if ready:
            process = self.process
            # READY comes before the first cycle, and the line of the status after it.
            told = ("READY=1", "STATUS=…")
            wait(
                lambda: process.poll() is not None or all(self.notices.has(one, since) for one in told),
                "READY=1 and the first cycle",
            )
            assert process.poll() is None, self.log.read_text()
        return self

    @property
    def pid(self) -> int:
        """Returns the id of the daemon's process."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Sends the daemon a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Waits for the end of the daemon, at most `seconds`. Returns its exit status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self) -> None:
        """Ends the daemon with SIGTERM and asserts that it ends well."""
        self.signal(signal.SIGTERM)
        assert self.wait() == 0, self.log.read_text()

    def kill(self) -> None:
        """Kills the daemon, as a crash would."""
        if self.process is not None:
            processes.end(self.process, signal.SIGKILL)

    def lines(self, **having: object) -> list[dict[str, Any]]:
        """Returns the log lines that have these fields with these values."""
        said = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [one for one in said if all(one.get(key) == value for key, value in having.items())]

    def metrics(self) -> dict[str, float]:
        """Returns /metrics by name and labels, as they are in the text."""
        text = self.get("/metrics")
        self._ear.hear("metrics", text)
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines())
                if not name.startswith("#")}  # fmt: skip

    def get(self, path: str) -> str:
        """Makes a GET in the server's network namespace and returns the body, also the body of an error."""

        def ask() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}{path}", timeout=PATIENCE) as answer:
                    return str(answer.read().decode())
            except urllib.error.HTTPError as error:
                with error:
                    return error.read().decode()

        return in_network(self._world.server.holder.pid, ask)

    def cycles(self, task: str = "reconcile") -> int:
        """Returns how often the task has run since the start."""
        return int(self.metrics()[f'wgsyncd_task_runs_total{{task="{task}"}}'])

    def reconcile(self, times: int = 1) -> None:
        """Makes the daemon reconcile, and waits until it has done so `times` times."""
        spent = (
            # this sum grows at the end of a run, the number of runs at its start
            'wgsyncd_task_duration_seconds_sum{task="reconcile"}'
        )
        for _ in range(times):
            before, cycles = self.metrics()[spent], self.cycles()
            self.signal(signal.SIGUSR1)
            wait(lambda c=cycles, b=before: self.cycles() > c and self.metrics()[spent] > b, "a reconcile")

    def cli(
        self, *args: str, code: int | None = 0, shows: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs one of the commands.

        ``code`` is the exit status that it must have, or None for any. ``shows`` is the one public key that it must
        print in full, once.
        """
        config = () if args[0] in ("sync", "reload") else ("--config", str(self.config))
        argv = [sys.executable, "-m", "wgsyncd", args[0], *config, *args[1:]]
        done = subprocess.run(
            self._world.server.inside(argv), capture_output=True, text=True, check=False, timeout=PATIENCE,
            env={**os.environ, **self.environment, **(env or {})},
        )  # fmt: skip
        said = done.stdout + done.stderr
        if shows is not None:
            assert said.count(shows) == 1
            said = said.replace(shows, "")
        self._ear.hear("cli", said)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def proposed(self, command: str) -> str:
        """Returns a command of ours as this daemon proposes it: its configuration file is not the default one."""
        return f"wgsyncd {command} --config {self.config}"

    def status(self) -> dict[str, Any]:
        """Returns the result of `wgsyncd status --json`."""
        data: dict[str, Any] = json.loads(self.cli("status", "--json", code=None).stdout)
        return data

    def close(self) -> None:
        """Ends the daemon and keeps its output."""
        self.kill()
        self.notices.close()
        self._ear.hear("log", self.log.read_text(errors="replace"))
        self._ear.hear("notices", "\n".join(self.notices.all))


def in_network(pid: int, work: Callable[[], T]) -> T:
    """Runs `work` in the network namespace of a process. A socket that `work` creates stays in that namespace."""

    def inside() -> T:
        with open(f"/proc/{pid}/ns/net", "rb") as namespace:  # setns(2) applies to this thread only
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return work()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(inside).result()
