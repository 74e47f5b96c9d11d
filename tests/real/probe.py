"""Runs in the unit's sandbox instead of the daemon and tries what the daemon must not do.

test_sandbox.py starts it. It prints as JSON how each attempt ended: "done" or the name of the errno. It uses the
standard library only, because Debian's Python runs it.
"""

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_INIT_MODULE, _UNSHARE, _PTRACE, _CLONE_NEWUSER, _CLONE_NEWNET = 175, 272, 101, 0x10000000, 0x40000000  # x86-64
_PTRACE_ATTACH = 16


def call(number: int, *arguments: object) -> None:
    """Makes one system call. Raises OSError if the kernel refuses it."""
    if _libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def write(path: str) -> None:
    """Creates a file and removes it again."""
    with open(path, "x") as file:
        file.write("x")
    os.unlink(path)


def run_from(directory: str) -> None:
    """Runs a program that it wrote into the directory."""
    path = os.path.join(directory, "program")
    try:
        with open(path, "w") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(path, 0o700)
        subprocess.run([path], check=True)
    finally:
        os.unlink(path)


def listen(port: int) -> None:
    """Listens on a port of localhost."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", port))


def read(path: str) -> None:
    """Opens a file and reads one byte."""
    with open(path, "rb") as file:
        file.read(1)


def shape() -> None:
    """Makes and removes what shaping needs of tc, as far as every kernel of the tests has it."""
    link = f"shape{os.getppid() % 10**6}"
    commands = [f"ip link add {link} type ifb", f"ip link set {link} up",
                f"tc qdisc add dev {link} root handle 7767: htb default 0",
                f"tc class add dev {link} parent 7767: classid 7767:1 htb rate 8mbit",
                f"tc qdisc add dev {link} parent 7767:1 handle 1: pfifo limit 5",
                f"tc class change dev {link} parent 7767: classid 7767:1 htb rate 4mbit",
                f"tc qdisc add dev {link} clsact", f"ip link del {link}"]  # fmt: skip
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True)


def hear_of_links() -> None:
    """Joins the kernel's group of news of links."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as one:
        one.bind((0, 1))


def kernel_setting() -> None:
    """Sets a kernel setting to its present value."""
    path = "/proc/sys/net/ipv4/ip_forward"
    with open(path) as file:
        value = file.read()
    with open(path, "w") as file:
        file.write(value)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "write /etc": lambda: write("/etc/probe"),
    "write /etc/wgsyncd": lambda: write("/etc/wgsyncd/probe"),
    "write /usr": lambda: write("/usr/lib/wgsyncd/probe"),
    "write /var": lambda: write("/var/probe"),
    "read /home": lambda: read("/home/somebody/letter"),
    "read /root": lambda: os.listdir("/root"),
    "load a module": lambda: call(_INIT_MODULE, b"", 0, b""),
    "see other processes": lambda: os.listdir("/proc/1"),
    "end other processes": lambda: os.kill(int(os.environ["VICTIM"]), signal.SIGCONT),
    "trace other processes": lambda: call(_PTRACE, _PTRACE_ATTACH, int(os.environ["VICTIM"]), 0, 0),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "set a kernel setting": kernel_setting,
    "new user namespace": lambda: call(_UNSHARE, _CLONE_NEWUSER),
    "new network namespace": lambda: call(_UNSHARE, _CLONE_NEWNET),
    "open an IP socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
    "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
    "low port": lambda: listen(81),
    "writable code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "run from /run/wgsyncd": lambda: run_from("/run/wgsyncd"),
    "run from /var/lib/wgsyncd": lambda: run_from("/var/lib/wgsyncd"),
    "run from /tmp": lambda: run_from("/tmp"),
    "give a file away": lambda: os.chown("/run/wgsyncd", 0, 0),
    "become root": lambda: os.setuid(0),
    "open a device": lambda: os.close(os.open("/dev/net/tun", os.O_RDWR)),
    "read the password": lambda: read("/etc/wgsyncd/db-password"),  # systemd gives the service a copy
    # The daemon needs these.
    "write /run/wgsyncd": lambda: write("/run/wgsyncd/probe"),
    "write /var/lib/wgsyncd": lambda: write("/var/lib/wgsyncd/probe"),
    "read the configuration": lambda: read("/etc/wgsyncd/wgsyncd.toml"),
    "read the copy of the password": lambda: read(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere") + "/db-password"),
    "limit bandwidth": shape,
    "hear of links": hear_of_links,
    "set an interface up": lambda: subprocess.run(["ip", "link", "set", "wg0", "up"], check=True),
    "reach the database": lambda: socket.socket(socket.AF_UNIX).connect("/run/mysqld/mysqld.sock"),
}


def outcome(attempt: Callable[[], object]) -> str:
    """Returns how the attempt ended. A child runs it, because some attempts change their own process."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            attempt()
            said = "done"
        except OSError as error:
            said = errno.errorcode[error.errno or 0]
        except subprocess.CalledProcessError as error:
            said = f"exit {error.returncode}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        said = answer.read().decode()
    os.wait()
    return said


if __name__ == "__main__":
    found = {what: outcome(attempt) for what, attempt in ATTEMPTS.items()}
    with open("/proc/self/status") as status:
        found["capabilities"] = next(line.split()[1] for line in status if line.startswith("CapEff"))
    print(json.dumps(found))
