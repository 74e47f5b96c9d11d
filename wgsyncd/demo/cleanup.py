"""What the demo must not leave behind: processes, namespaces, interfaces, mounts, files."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

from wgsyncd.demo import processes as processes_module
from wgsyncd.demo.output import Verdict


def links_and_mounts() -> set[str]:
    """What is mounted in our mount namespace, and interfaces named like ours in the network namespace we came from
    (others come and go there without us)."""
    links = {f"interface {name}" for name in os.listdir("/sys/class/net") if re.fullmatch(r"(wg|c)\d+", name)}
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return links | {f"mount {line.split()[4]}" for line in mounts}


def sweep(mark: str) -> None:
    """Kill what still carries the mark."""
    for process in processes_module.marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(process.split()[0]), signal.SIGKILL)


def verdict(before: set[str], mark: str, directory: Path) -> Verdict:
    """The last story. A namespace without a process or a mount is gone (namespaces(7)): these are looked for."""
    deadline = time.monotonic() + 10
    while (processes := processes_module.marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    things = sorted(links_and_mounts() - before)
    files = [str(directory)] if directory.exists() else []
    expected = "no process, namespace, interface, mount or file"
    kernel, table = ", ".join(processes + things) or "nothing", ", ".join(files) or "no file"
    return Verdict("nothing is left", expected, kernel, table, not (processes or things or files))
