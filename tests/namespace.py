"""Gives the test process a network namespace of its own, and makes WireGuard interfaces in it."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.wait import until

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # linux/mount.h
_SOCKETS = Path("/run/wireguard")
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int | bytes | None) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@contextmanager
def own_network() -> Iterator[None]:
    """Put this thread and its children into a new network namespace, which has nothing but a loopback.

    /run/wireguard is empty there, so that interfaces and sockets of other runs are not visible. It calls the C library,
    because Python 3.11 has no os.unshare yet.
    """
    _SOCKETS.mkdir(mode=0o755, exist_ok=True)
    directory = os.getcwd()
    before = [os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY) for kind in ("net", "mnt")]
    try:
        _call("unshare", _CLONE_NEWNET | _CLONE_NEWNS)
        try:
            _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
            _call("mount", b"none", bytes(_SOCKETS), b"tmpfs", 0, None)
            yield
        finally:
            for opened, kind in zip(before, (_CLONE_NEWNET, _CLONE_NEWNS), strict=True):
                _call("setns", opened, kind)
            os.chdir(directory)  # setns(2) has changed it to /
    finally:
        for opened in before:
            os.close(opened)


def run(*command: str, text: str = "") -> str:
    """Run a command and return its output. AssertionError with its stderr if it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command[:3])}: {done.stderr}"
    return done.stdout


def _answers(path: Path) -> bool:
    """Whether a process listens on the socket. The file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@contextmanager
def wireguard_go(name: str) -> Iterator[None]:
    """A userspace interface of wireguard-go. Its process is ended afterwards."""
    process = subprocess.Popen(["wireguard-go", "-f", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(_SOCKETS / f"{name}.sock") or process.poll(), 20, f"socket of {name}")
        assert process.poll() is None, "wireguard-go ended at once"
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def kernel_link(name: str) -> Iterator[None]:
    """A WireGuard interface of the kernel, deleted afterwards."""
    run("ip", "link", "add", name, "type", "wireguard")
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)  # the test may have deleted it


def delete_link(name: str) -> None:
    """Delete an interface (`ip link del`), and wait until its userspace process has noticed."""
    run("ip", "link", "del", name)
    until(lambda: not (_SOCKETS / f"{name}.sock").exists(), 20, f"{name} gone")
