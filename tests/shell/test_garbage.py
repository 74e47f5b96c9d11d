"""Nobody else reads the memory of the daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_HIDDEN = """
import ctypes, sys
from wgsyncd.cli import main
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE, prctl(2)
main.main(["run", "--config", "/does/not/exist"])
print(before, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_no_process_of_the_same_user_may_read_the_daemons_memory() -> None:
    """A process that is not dumpable cannot be traced, its memory cannot be read, and it leaves no core: see proc(5)."""
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", _HIDDEN], stdout=subprocess.PIPE, text=True, check=True, env=where)
    assert done.stdout.splitlines()[-1] == "1 0"
