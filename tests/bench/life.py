"""The daemon's memory, the time of its start, and its work at rest are measured."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.bench.machine import AnyStage
from tests.bench.stage import Stage
from tests.bench.timing import seconds
from tests.wait import until

MIB = 1024.0
LISTEN = "127.0.0.1:9586"
PATIENCE = 120.0  # seconds for one task of the daemon
IMPORTS = "import wgsyncd.cli.main, wgsyncd.engine.agent, wgsyncd.daemon.daemon, wgsyncd.stores.spool, wgsyncd.stores.mikyun.store, wgsyncd.daemon.systemd, wgsyncd.dataplane.wireguard.local"


class Running:
    """Runs `wgsyncd run` on a stage, and waits for its first complete reconcile."""

    def __init__(self, stage: AnyStage, schedule: str = "") -> None:
        folder = stage.folder / "daemon"
        folder.mkdir(exist_ok=True)
        config = folder / "wgsyncd.toml"
        config.write_text(stage.config(schedule=schedule, metrics=f'listen = "{LISTEN}"'))
        path = folder / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices, (folder / "log").open("wb") as log:
            notices.bind(str(path))
            environment = {**os.environ, "RUNTIME_DIRECTORY": str(folder), "STATE_DIRECTORY": str(folder / "state"),
                           "NOTIFY_SOCKET": str(path)}  # fmt: skip
            began = time.perf_counter()
            self.process = subprocess.Popen([sys.executable, "-m", "wgsyncd", "run", "--config", str(config)],
                                            stderr=log, env=environment)  # fmt: skip
            notices.settimeout(1)
            said = b""
            while not said.startswith(b"STATUS="):  # after the first cycle
                with contextlib.suppress(TimeoutError):
                    said = notices.recv(65536)
                assert self.process.poll() is None, (self.process.returncode, (folder / "log").read_text())
            self.took = time.perf_counter() - began

    def memory(self) -> tuple[float, float]:
        """Returns the resident memory now and at its peak, in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return _number("VmRSS", text) / MIB, _number("VmHWM", text) / MIB

    def processor(self) -> float:
        """Returns the processor time of all its threads so far, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wakeups(self) -> int:
        """Returns how often any of its threads gave up the processor to wait."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/status")
        return sum(_number("voluntary_ctxt_switches", task.read_text()) for task in tasks)

    def done(self, task: str) -> float:
        """Returns when the task last succeeded, in UNIX seconds, or 0 if it never did."""
        with urllib.request.urlopen(f"http://{LISTEN}/metrics", timeout=PATIENCE) as answer:
            text = answer.read().decode()
        found = re.search(rf'^wgsyncd_task_last_success_timestamp_seconds{{task="{task}"}} (\S+)$', text, re.M)
        return float(found[1]) if found else 0.0

    def wait_for(self, task: str, since: float = 0.0) -> None:
        """Waits until the task succeeds later than `since`."""
        until(lambda: self.done(task) > since, PATIENCE, f"{task} done", every=0.1)

    def stop(self) -> None:
        """Ends the daemon with SIGTERM and asserts that it ends well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


def _number(name: str, status: str) -> int:
    """Returns a number from the text of a status file in /proc."""
    found = re.search(rf"^{name}:\s*(\d+)", status, re.M)
    assert found, name
    return int(found[1])


def memory(stage: Stage) -> tuple[float, float]:
    """Returns MiB at the end and at the peak, of a daemon that fills an empty interface and reconciles three times
    more.
    """
    stage.fill_table()
    stage.empty_interface()
    return memory_used(stage)


def memory_used(stage: AnyStage) -> tuple[float, float]:
    """Returns the same, on a stage whose interface is empty."""
    daemon = Running(stage)
    for _ in range(3):
        before = daemon.done("reconcile")
        daemon.process.send_signal(signal.SIGUSR1)
        daemon.wait_for("reconcile", before)
    used = daemon.memory()
    daemon.stop()
    return used


def start(stage: Stage, repeat: int) -> dict[str, float]:
    """Returns the seconds from exec to the first complete reconcile, with all peers in place.

    The other values are the seconds of the interpreter and of the imports.
    """
    ready, bare, imports = [], [], []
    for _ in range(repeat):
        daemon = Running(stage)
        ready.append(daemon.took)
        daemon.stop()
        bare.append(seconds(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)))
        imports.append(seconds(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True)))
    middle = repeat // 2
    interpreter = sorted(bare)[middle]
    importing = sorted(imports)[middle] - interpreter
    return {"interpreter": interpreter, "imports": importing, "beyond": sorted(ready)[middle] - interpreter - importing}


def idle(stage: Stage, span: float) -> dict[str, float]:
    """Returns the share of one core in percent and the waits per second, with default schedules and no events.

    `span` is the time of the measurement in seconds.
    """
    daemon = Running(stage)
    daemon.wait_for("account")
    used, waits, began = daemon.processor(), daemon.wakeups(), time.monotonic()
    time.sleep(span)  # this time is measured
    took = time.monotonic() - began
    share, rate = (daemon.processor() - used) / took * 100, (daemon.wakeups() - waits) / took
    daemon.stop()
    return {"percent": share, "wakeups_per_second": rate, "span": took}
