"""Memory of large tables returns to the system after use, and nobody else reads it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import os
from wgsyncd.daemon import memory
def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
memory.trim_heap()
large = b"x" * (20 << 20)
del large  # from now on glibc by itself keeps room for such
before = resident()
tables = [bytes([n]) * (8 << 20) for n in range(8)]
later = b"x" * 100_000  # above them
del tables
print(resident() - before)
"""


def test_large_blocks_go_back_to_the_system() -> None:
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True, check=True, env=where)
    assert int(done.stdout) < 4, "MiB that stay, of 64; untold all of them would"


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
