"""The bench: a real MariaDB, real interfaces, the real daemon and command, and the eyes that look at them."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import wgsyncd
from tests.wait import until
from wgsyncd.demo import children
from wgsyncd.demo.mariadb import PrivateServer, quote
from wgsyncd.demo.world import Customer, KeyPair, WgKind, WgPeer, World, new_keys

PATIENCE = 300.0 if os.environ.get("WGSYNCD_VM") else 60.0  # seconds; an emulated machine is that slow
CHECKOUT = Path(wgsyncd.__file__).resolve().parent.parent
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_PORT = 9586

both_kinds = pytest.mark.parametrize("kind", ["userspace", pytest.param("kernel", marks=pytest.mark.vm)])

Sql = list[dict[str, str | None]]


def wait(condition: Any, what: str) -> Any:
    """:func:`tests.wait.until` with the patience that this machine needs."""
    return until(condition, PATIENCE, what)


class Ear:
    """Hears all that is written down anywhere in this run, and knows every secret that was made in it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.secrets: set[str] = set()
        self.heard: dict[str, int] = {}  # by source: how much, in characters

    def keep(self, *texts: str | None) -> None:
        """These are secrets: keys, preshared keys, passwords."""
        self.secrets |= {text for text in texts if text}

    def hear(self, source: str, text: str) -> None:
        """This was said where others may read it."""
        self.heard[source] = self.heard.get(source, 0) + len(text)
        with self.file.open("a", encoding="utf-8", errors="replace") as file:
            file.write(text + "\n")


@dataclass(slots=True)
class Device:
    """A row of customer_devices as a test writes it. Keys are random; a customer needs a real pair."""

    device: str
    address: str
    interface: str = "wg0"
    status: str = "active"
    contract: str = "0001"
    keys: KeyPair = field(default_factory=lambda: KeyPair(random_key(), random_key()))
    preshared_key: str | None = None
    name: str | None = None
    qr_expires_at: str = "NOW() + INTERVAL 1 DAY"  # SQL

    def values(self) -> str:
        """As the VALUES of an INSERT."""
        texts = (self.contract, self.device, self.interface, self.address, self.keys.public, self.keys.private,
                 self.preshared_key, self.status, self.name)  # fmt: skip
        return f"({', '.join(map(quote, texts))}, NOW(), {self.qr_expires_at})"


def random_key() -> str:
    """32 random bytes as wg(8) writes them: any of them is a public key."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Notices:
    """systemd's side of NOTIFY_SOCKET: reads at once, as systemd does (a full queue would block the sender)."""

    def __init__(self, path: Path) -> None:
        self.path, self.all = path, list[str]()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while text := self._socket.recv(8192).decode():
            self.all.append(text)

    def has(self, line: str, since: int = 0) -> bool:
        """Whether a line was sent, or (with ``…`` at its end) one that contains its beginning."""
        said = [one for text in self.all[since:] for one in text.splitlines()]
        return any(line[:-1] in one for one in said) if line.endswith("…") else line in said

    def close(self) -> None:
        """End the reader by an empty datagram."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()


class Daemon:
    """One `wgsyncd run` after the other, on one configuration file."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.directory = bench, bench.directory / name
        self.directory.mkdir()
        self.config, self.log = self.directory / "wgsyncd.toml", self.directory / "log"
        self.log.touch()
        self.notices = Notices(self.directory / "notify")
        self.process: subprocess.Popen[bytes] | None = None
        self.may_crash = False
        self.prefix: tuple[str, ...] = ()  # a command that runs the daemon

    @property
    def environment(self) -> dict[str, str]:
        """Of the daemon and of its command."""
        return {"RUNTIME_DIRECTORY": str(self.directory), "NOTIFY_SOCKET": str(self.notices.path),
                "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip

    def start(self, *, ready: bool = True, argv: Iterable[str] = ("-m", "wgsyncd"), **env: str) -> Daemon:
        """Start it, and wait for READY=1. ``argv``: what this interpreter is given before the command."""
        since = len(self.notices.all)
        command = [*self.prefix, sys.executable, *argv, "run", "--config", str(self.config)]
        self.process = self.bench.world.server.start(*command, log=self.log, **{**self.environment, **env})
        if ready:
            process = self.process
            wait(lambda: self.notices.has("READY=1", since) or process.poll() is not None, "READY=1")
            assert process.poll() is None, self.log.read_text()
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send it one."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; the return code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self) -> None:
        """SIGTERM, and a good end."""
        self.signal(signal.SIGTERM)
        assert self.wait() == 0, self.log.read_text()

    def kill(self) -> None:
        """As a crash."""
        if self.process is not None:
            children.end(self.process, signal.SIGKILL)

    def lines(self, **having: object) -> list[dict[str, Any]]:
        """What it logged, as far as it has these fields with these values."""
        said = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [one for one in said if all(one.get(key) == value for key, value in having.items())]

    def metrics(self) -> dict[str, float]:
        """/metrics, by name and labels as they stand there."""
        text = self.get("/metrics")
        self.bench.ear.hear("metrics", text)
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in text.splitlines())
                if not name.startswith("#")}  # fmt: skip

    def get(self, path: str) -> str:
        """GET in the server's network namespace; the body, of an error too."""

        def ask() -> str:
            _enter_network(self.bench.world.server.holder.pid)  # of this thread only
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}{path}", timeout=PATIENCE) as answer:
                    return str(answer.read().decode())
            except urllib.error.HTTPError as error:
                with error:
                    return error.read().decode()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(ask).result()

    def cycles(self, task: str = "reconcile") -> int:
        """How often it ran since start."""
        return int(self.metrics()[f'wgsyncd_task_runs_total{{task="{task}"}}'])

    def reconcile(self, times: int = 1) -> None:
        """Have it compare everything, and wait until it has."""
        for _ in range(times):
            before = self.cycles()
            self.signal(signal.SIGUSR1)
            wait(lambda before=before: self.cycles() > before, "a reconcile")

    def cli(self, *args: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run one of its commands. ``code``: the exit status it must have (None: any)."""
        argv = [sys.executable, "-m", "wgsyncd", args[0], "--config", str(self.config), *args[1:]]
        done = subprocess.run(
            self.bench.world.server.inside(argv), capture_output=True, text=True, check=False, timeout=PATIENCE,
            env={**os.environ, **self.environment},
        )  # fmt: skip
        self.bench.ear.hear("cli", done.stdout + done.stderr)
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def status(self) -> dict[str, Any]:
        """`wgsyncd status --json`."""
        data: dict[str, Any] = json.loads(self.cli("status", "--json").stdout)
        return data

    def close(self) -> None:
        """End it; what it said is kept."""
        self.kill()
        self.notices.close()
        self.bench.ear.hear("log", self.log.read_text(errors="replace"))
        self.bench.ear.hear("notices", "\n".join(self.notices.all))


def _enter_network(pid: int) -> None:
    with open(f"/proc/{pid}/ns/net", "rb") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Bench:
    """Database, world and daemon of one test."""

    def __init__(self, directory: Path, database: PrivateServer, kind: WgKind, ear: Ear) -> None:
        self.directory, self.database, self.ear = directory, database, ear
        self.world = World(kind, log=directory / "world.log")
        self.daemons: list[Daemon] = []
        self.extra: list[subprocess.Popen[bytes]] = []  # to be ended with the bench
        self.daemon: Daemon

    def open(self) -> None:
        """Make it; call :meth:`close` whether this succeeds or not."""
        self.world.open()
        self.ear.keep(*(key for one in self.world.interfaces.values() for key in one.keys))
        self.sql("INSERT INTO contracts (contract_number, contract_id, contract_status, identity_passphrase)"
                 " VALUES (1, '0001', 'active', 'a passphrase'), (2, '0002', 'paused', 'another one')")  # fmt: skip
        self.daemon = self.add_daemon("bench")

    def add_daemon(self, name: str, **changes: object) -> Daemon:
        """A further one, with a configuration of its own; the name is its node's."""
        daemon = Daemon(self, name)
        self.daemons.append(daemon)
        self.configure(daemon, **{"node.name": name, **changes})
        return daemon

    def configure(self, daemon: Daemon | None = None, **changes: object) -> None:
        """Write the configuration. ``changes`` by dotted key, as JSON values (they are TOML too); None leaves out."""
        daemon = daemon or self.daemon
        values: dict[str, object] = {
            "node.name": daemon.directory.name, "database.socket": str(self.database.socket),
            "database.password_file": str(self.database.password_file),
            "interfaces.wg0.networks": ["10.200.0.0/24"], "interfaces.wg0.addresses": ["10.200.0.1/24"],
            "interfaces.wg1.networks": ["10.251.0.0/24"], "interfaces.wg1.addresses": ["10.251.0.1/24"],
            "schedule.account": "1s", "schedule.reconcile": "60s", "schedule.watch": "200ms",
            "audit.language": "en", "log.format": "json", **changes,
        }  # fmt: skip
        sections: dict[str, list[str]] = {}
        for key, value in values.items():
            section, _, name = key.rpartition(".")
            if value is not None:
                sections.setdefault(section, []).append(f"{name} = {json.dumps(value)}")
        text = "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())
        daemon.config.write_text(text + "\n", encoding="utf-8")

    def sql(self, text: str) -> Sql:
        """By the second client, as the administrator."""
        return self.database.sql(text)

    def insert(self, *devices: Device) -> None:
        """Rows, in one statement."""
        for one in devices:
            self.ear.keep(one.keys.private, one.keys.public, one.preshared_key)
        self.sql("INSERT INTO customer_devices (contract_id, device_id, wg_iface, wg_ip, public_key, private_key,"
                 " preshared_key, status, device_name, issued_at, qr_expires_at) VALUES "
                 + ", ".join(one.values() for one in devices))  # fmt: skip

    def make(self, count: int, *, first: int = 10, interface: str = "wg0") -> list[Device]:
        """So many ordinary active devices, inserted."""
        net = "10.200.0" if interface == "wg0" else "10.251.0"
        made = [Device(f"0001-{interface}-{n:03}", f"{net}.{n}", interface) for n in range(first, first + count)]
        self.insert(*made)
        return made

    def logs(self, action: str = "") -> list[tuple[str, str, str]]:
        """admin_logs so far: action, target and message."""
        rows = self.sql("SELECT action_type, target_id, message FROM admin_logs ORDER BY id")
        entries = [(str(r["action_type"]), str(r["target_id"]), str(r["message"])) for r in rows]
        return [one for one in entries if action in ("", one[0])]

    def peers(self, interface: str = "wg0") -> Mapping[str, WgPeer]:
        """What wg(8) says, by public key."""
        return self.world.dump()[interface]

    def await_peers(self, *devices: Device, interface: str = "wg0") -> None:
        """Until the interface has exactly these peers, with these addresses."""
        want = {one.keys.public: one.address.partition("/")[0] + "/32" for one in devices}
        wait(lambda: {k: p.allowed_ips for k, p in self.peers(interface).items()} == want, f"peers of {interface}")

    def customer(self, device: Device) -> Customer:
        """Somebody who holds the device, with a pair of keys (given to the device before it is inserted)."""
        self.world.add_customers([device.device])
        one = self.world.customers[device.device]
        one.configure(self.world.interfaces[device.interface], device.keys, device.address, device.preshared_key)
        return one

    def close(self) -> None:
        """End everything, and hear what was written down."""
        for daemon in self.daemons:
            daemon.close()
        for process in self.extra:
            children.end(process, signal.SIGKILL)
        self.world.close()
        with contextlib.suppress(children.CommandFailed):  # a test ended it
            os.kill(self.database.pid, signal.SIGCONT)
        with contextlib.suppress(children.CommandFailed):  # a test dropped the table
            self.ear.hear("admin_logs", "\n".join(map("\t".join, self.logs())))
        for daemon in self.daemons:
            text = daemon.log.read_text()
            assert daemon.may_crash or not ("Traceback" in text or '"trace"' in text), text


def real_device(device: str, address: str, **rest: Any) -> Device:
    """A device whose key pair is one, for a customer."""
    return Device(device, address, keys=new_keys(), **rest)
