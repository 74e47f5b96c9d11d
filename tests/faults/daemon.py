"""Runs wgsyncd on a machine that booted when $BOOTED says, because a test cannot boot this machine."""

from __future__ import annotations

import os
import sys
import time

from wgsyncd.cli.main import main
from wgsyncd.daemon.machine import LocalMachine


def _uptime(_: LocalMachine) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - float(os.environ["BOOTED"])


LocalMachine.uptime = _uptime  # type: ignore[assignment, method-assign]
sys.exit(main())
