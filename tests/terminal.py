"""What a command prints where its standard output is a terminal."""

from __future__ import annotations

import os
import pty
import sys
import threading
from collections.abc import Callable
from unittest import mock


def on_a_terminal(work: Callable[[], object], columns: int = 100, stream: str = "stdout", **env: str) -> str:
    """Do something in this process with standard output, or standard error, on a terminal; what it got to see."""
    said = bytearray()
    master, slave = pty.openpty()

    def read() -> None:
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # EIO: the other side is closed
                return
            said.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    environment = {"TERM": "xterm-256color", "COLUMNS": str(columns), **env}
    with mock.patch.dict(os.environ, environment), os.fdopen(slave, "w", encoding="utf-8") as out:
        if "NO_COLOR" not in env:
            os.environ.pop("NO_COLOR", None)
        with mock.patch.object(sys, stream, out):
            work()
    reader.join()
    os.close(master)
    return said.decode().replace("\r\n", "\n")
