"""One wgsyncd per node: a lock file that also says who holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from wgsyncd.errors import Refused


def path() -> Path:
    """The lock file: in systemd's RuntimeDirectory= where there is one, else in /run/wgsyncd."""
    return Path(os.environ.get("RUNTIME_DIRECTORY", "/run/wgsyncd").partition(":")[0]) / "lock"


def acquire(file: Path) -> int:
    """Hold the lock until the process ends (the kernel gives it back, however it ends); the descriptor. Refused where
    another process holds it, or the file cannot be made."""
    try:
        file.parent.mkdir(mode=0o755, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Refused(f"{file}: the lock file cannot be made: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise Refused(f"another wgsyncd runs for this node: pid {pid or 'unknown'} holds {file}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


def holder(file: Path) -> int | None:
    """The pid of the daemon that holds the lock, or None if none does. Refused where that cannot be seen."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{file}: cannot tell whether wgsyncd runs: {error.strerror}; run this as root") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None
