"""Runs code whose standard output is a terminal, and returns what it prints."""

from __future__ import annotations

import os
import pty
import sys
import threading
from collections.abc import Callable
from unittest import mock


def on_a_terminal(work: Callable[[], object], columns: int = 100, stream: str = "stdout", **env: str) -> str:
    """Call ``work`` in this process with a stream on a terminal. Returns what the terminal got.

    ``stream``: "stdout" or "stderr". ``columns``: the width. ``env``: added to the environment.
    """
    said = bytearray()
    master, slave = pty.openpty()

    def read() -> None:
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # EIO: the other end is closed
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
