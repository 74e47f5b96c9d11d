"""The bench has a real MariaDB, real interfaces, the real daemon and command, and reads all of them."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.real.running import PATIENCE, Daemon, Ear, in_network, wait
from wgsyncd.demo import processes
from wgsyncd.demo.mariadb import PrivateServer, quote
from wgsyncd.demo.testbed import Customer, KeyPair, Testbed, WgKind, WgPeer, new_keys

__all__ = ["PATIENCE", "Bench", "Device", "Ear", "both_kinds", "in_network", "random_key", "real_device", "untouched",
           "wait"]  # fmt: skip

T = TypeVar("T")

both_kinds = pytest.mark.parametrize("kind", ["userspace", pytest.param("kernel", marks=pytest.mark.vm)])

Sql = list[dict[str, str | None]]


@dataclass(slots=True)
class Device:
    """Describes a row of customer_devices as a test writes it. Keys are random, and a customer needs a real pair."""

    device: str
    address: str
    interface: str = "wg0"
    status: str = "active"
    contract: str = "0001"
    keys: KeyPair = field(default_factory=lambda: KeyPair(random_key(), random_key()))
    preshared_key: str | None = None
    name: str | None = None
    qr_expires_at: str = "NOW() + INTERVAL 1 DAY"  # this is SQL

    def values(self) -> str:
        """Returns the row as the VALUES of an INSERT."""
        texts = (self.contract, self.device, self.interface, self.address, self.keys.public, self.keys.private,
                 self.preshared_key, self.status, self.name)  # fmt: skip
        return f"({', '.join(map(quote, texts))}, NOW(), {self.qr_expires_at})"


def random_key() -> str:
    """Returns 32 random bytes as wg(8) writes them. Any 32 bytes are a public key."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Bench:
    """Holds database, world and daemon of one test."""

    def __init__(self, directory: Path, database: PrivateServer, kind: WgKind, ear: Ear) -> None:
        self.directory, self.database, self.ear = directory, database, ear
        self.world = Testbed(kind, log=directory / "world.log")
        self.daemons: list[Daemon] = []
        self.customers: dict[str, Customer] = {}  # by device
        self.daemon: Daemon

    def open(self) -> None:
        """Creates everything. Call :meth:`close` whether this succeeds or not."""
        self.world.open()
        self.ear.keep(*(key for one in self.world.interfaces.values() for key in one.keys))
        self.sql("INSERT INTO contracts (contract_number, contract_id, contract_status, identity_passphrase)"
                 " VALUES (1, '0001', 'active', 'a passphrase'), (2, '0002', 'paused', 'another one')")  # fmt: skip
        self.daemon = self.add_daemon("bench")

    def add_daemon(self, name: str, changes: Mapping[str, object] | None = None) -> Daemon:
        """Adds a daemon with a configuration of its own. `name` is the name of its node."""
        daemon = Daemon(self.world, self.ear, self.directory / name)
        self.daemons.append(daemon)
        self.configure(changes, daemon)
        return daemon

    def configure(self, changes: Mapping[str, object] | None = None, daemon: Daemon | None = None) -> None:
        """Writes the configuration.

        ``changes`` has dotted keys and JSON values, which are TOML too. None leaves a key out.
        """
        daemon = daemon or self.daemon
        values: dict[str, object] = {
            "node.name": daemon.directory.name, "node.zone": "Asia/Tokyo",
            "mikyun.database.socket": str(self.database.socket),
            "mikyun.database.password_file": str(self.database.password_file),
            "interfaces.wg0.networks": ["10.200.0.0/24"], "interfaces.wg0.addresses": ["10.200.0.1/24"],
            "interfaces.wg1.networks": ["10.251.0.0/24"], "interfaces.wg1.addresses": ["10.251.0.1/24"],
            "schedule.poll_interval": "1s", "schedule.resync_interval": "60s", "schedule.watch_interval": "200ms",
            "mikyun.language": "en", "log.format": "json", **(changes or {}),
        }  # fmt: skip
        sections: dict[str, list[str]] = {}
        for key, value in values.items():
            section, _, name = key.rpartition(".")
            if value is not None:
                sections.setdefault(section, []).append(f"{name} = {json.dumps(value)}")
        text = "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())
        daemon.config.write_text(text + "\n", encoding="utf-8")

    def sql(self, text: str) -> Sql:
        """Runs statements with the second client, as the administrator."""
        return self.database.sql(text)

    def make_tables_of_version_2(self) -> None:
        """Replaces wgsyncd's tables by empty ones of version 2."""
        for table in self.sql("SHOW TABLES LIKE 'wgsyncd\\_%'"):
            (name,) = table.values()
            self.sql(f"DROP {'VIEW' if name == 'wgsyncd_audit' else 'TABLE'} {name}")
        self.sql(Path(__file__).with_name("tables_of_version_2.sql").read_text(encoding="utf-8"))

    def insert(self, *devices: Device) -> None:
        """Inserts rows in one statement."""
        for one in devices:
            self.ear.keep(one.keys.private, one.keys.public, one.preshared_key)
        self.sql("INSERT INTO customer_devices (contract_id, device_id, wg_iface, wg_ip, public_key, private_key,"
                 " preshared_key, status, device_name, issued_at, qr_expires_at) VALUES "
                 + ", ".join(one.values() for one in devices))  # fmt: skip

    def make(self, count: int, *, first: int = 10, interface: str = "wg0") -> list[Device]:
        """Inserts `count` ordinary active devices and returns them."""
        net = "10.200.0" if interface == "wg0" else "10.251.0"
        made = [Device(f"0001-{interface}-{n:03}", f"{net}.{n}", interface) for n in range(first, first + count)]
        self.insert(*made)
        return made

    def logs(self, action: str = "") -> list[tuple[str, str, str]]:
        """Returns the rows of admin_logs so far: action, target and message."""
        rows = self.sql("SELECT action_type, target_id, message FROM admin_logs ORDER BY id")
        entries = [(str(r["action_type"]), str(r["target_id"]), str(r["message"])) for r in rows]
        return [one for one in entries if action in ("", one[0])]

    def peers(self, interface: str = "wg0") -> Mapping[str, WgPeer]:
        """Returns the peers that wg(8) shows, by public key."""
        return self.world.dump()[interface]

    def await_peers(self, *devices: Device, interface: str = "wg0") -> None:
        """Waits until the interface has exactly these peers with these addresses."""
        want = {one.keys.public: one.address.partition("/")[0] + "/32" for one in devices}
        wait(lambda: {k: p.allowed_ips for k, p in self.peers(interface).items()} == want, f"peers of {interface}")

    def beside(self, look: Callable[[], T]) -> tuple[T, Mapping[str, WgPeer]]:
        """Returns the result of ``look`` and the peers that wg(8) shows on wg0 at the same time.

        It tries again if a packet came in between. A keepalive comes some ten seconds after any traffic.
        """

        def still() -> tuple[T, Mapping[str, WgPeer]] | None:
            before, found = self.peers(), look()
            return (found, before) if self.peers() == before else None

        pair: tuple[T, Mapping[str, WgPeer]] = wait(still, "a look between two packets")
        return pair

    def customer(self, device: Device) -> Customer:
        """Returns a customer with the device. The device must have a real key pair before it is inserted."""
        self.customers[device.device] = one = self.world.add_customer()
        one.configure(self.world.interfaces[device.interface], device.keys, device.address, device.preshared_key)
        return one

    def remake(self, name: str) -> None:
        """Creates an interface again after it was deleted."""
        former = self.world.interfaces[name].process
        if former is not None:
            former.wait(PATIENCE)  # Its end would take away the socket of the next one.
        self.world.make_interface(name)

    def close(self) -> None:
        """Ends everything, and gives the logs to the ear."""
        for daemon in self.daemons:
            daemon.close()
        self.world.close()
        with contextlib.suppress(processes.CommandFailed):  # a test ended the database
            os.kill(self.database.pid, signal.SIGCONT)
        with contextlib.suppress(processes.CommandFailed):  # a test dropped the table
            self.ear.hear("admin_logs", "\n".join(map("\t".join, self.logs())))
        for daemon in self.daemons:
            text = daemon.log.read_text()
            assert daemon.may_crash or not ("Traceback" in text or '"trace"' in text), text


def untouched(before: Mapping[str, WgPeer], after: Mapping[str, WgPeer]) -> bool:
    """Returns whether the peers are still the same: none was removed, set again or added.

    Counters and handshakes may have grown, because they grow without wgsyncd.
    """

    def went_on(old: WgPeer, new: WgPeer) -> bool:
        same = new._replace(latest_handshake=old.latest_handshake, rx=old.rx, tx=old.tx) == old
        return same and new.latest_handshake >= old.latest_handshake and new.rx >= old.rx and new.tx >= old.tx

    return before.keys() == after.keys() and all(went_on(old, after[key]) for key, old in before.items())


def real_device(device: str, address: str, **rest: Any) -> Device:
    """Returns a device with a real key pair, for a customer."""
    return Device(device, address, keys=new_keys(), **rest)
