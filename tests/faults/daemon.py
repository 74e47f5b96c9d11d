"""Runs wgsyncd on a machine that booted when $BOOTED says, because a test cannot boot this machine."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from wgsyncd.cli.main import main
from wgsyncd.daemon.machine import LocalMachine


def _uptime(_: LocalMachine) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - float(os.environ["BOOTED"])


def _sleep(seconds: Any) -> None:
    threading.Event().wait(seconds)


LocalMachine.uptime = _uptime  # type: ignore[assignment, method-assign]
time.sleep = _sleep  # libfaketime answers EINVAL to clock_nanosleep(2), which Python's own uses
sys.exit(main())
