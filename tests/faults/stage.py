"""The faults hit a private MariaDB on a small disk, a server with customers, the daemon and a clock."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from tests.faults.clock import Clock
from tests.faults.oracle import Bytes
from tests.faults.proxy import Proxy
from tests.faults.traffic import Flow, Traffic, outlet
from tests.faults.web import Web
from tests.real.running import Daemon, Ear, in_network
from wgsyncd.demo import processes
from wgsyncd.demo.mariadb import PrivateServer, quote
from wgsyncd.demo.testbed import Customer, KeyPair, Namespace, Testbed, WgKind, new_keys

DISK = 160  # MiB, for the database
SERVER = ("--loose-innodb-buffer-pool-size-max=256m", "--log-bin=log", "--sync-binlog=0", "--max-binlog-size=1048576",
          "--binlog-expire-logs-seconds=120")  # fmt: skip
NETS = {"wg0": "10.200.0", "wg1": "10.251.0"}
OPEN: dict[str, object] = {"always_allowed": 100, "max_share": 1.0}  # a guard that lets everybody go
DAEMON = ("-m", "tests.faults.daemon")  # the interpreter's arguments before the command
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(slots=True)
class Device:
    """Holds a row of customer_devices and the customer with that device."""

    name: str
    row: int
    interface: str
    address: str
    keys: KeyPair
    wire: str  # the server's end of the wire to the customer
    customer: Customer
    rate: tuple[int, int]  # bytes per second, up and down
    preshared_key: str | None = None
    wired: bool = True


class Stage:
    """Holds everything that the faults hit.

    Make it, :meth:`open` it, and :meth:`close` it whether that succeeds or not.
    """

    def __init__(self, directory: Path, kind: WgKind, count: int, seed: int, pace: float) -> None:
        self.directory, self.kind, self.pace, self._count, self._seed = directory, kind, pace, count, seed
        self.disk = directory / "disk"
        self.disk.mkdir()
        processes.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "wgsyncd-faults", str(self.disk)])
        self.database = PrivateServer(options=SERVER, parent=self.disk)
        self.world = Testbed(kind, log=directory / "world.log")
        self.clock = Clock(directory / "clock")
        self.ear = Ear(directory / "heard")
        self.daemons: list[Daemon] = []
        self.devices: list[Device] = []
        self.proxy: Proxy
        self.traffic: Traffic
        self.web: Web
        self.node = "faults"
        self.copy_name = ""  # the node of the copied server, if it has a name of its own
        self.names = {name: name for name in NETS}  # the interfaces' present names
        self.guard: dict[str, object] = OPEN
        self.twin: Daemon
        self._booted = 0.0  # by CLOCK_BOOTTIME
        self._dump: tuple[float, dict[tuple[str, str], Bytes]] | None = None

    @property
    def state(self) -> Path:
        """Returns the daemons' state directory."""
        return self.directory / "state"

    def open(self) -> None:
        """Makes everything. No daemon runs yet."""
        self.database.install()
        self.database.start()
        self.database.load()
        self.database.sql("ALTER TABLE wgsyncd_nodes ALTER adopted SET DEFAULT 1")
        self.database.create_account()
        self.world.open()
        self.proxy = Proxy(self.directory / "proxy", self.database.socket, self.is_daemon, lambda: self.database.pid)
        self.web = Web(self.database, 2.0 * max(1.0, self.pace / 2))
        self.traffic = Traffic(in_network(self.world.server.holder.pid, outlet), self._seed)
        self._add_devices()
        self.state.mkdir()
        for name in ("daemon", "rival"):
            self.daemons.append(Daemon(self.world, self.ear, self.directory / name))
        self.twin = self._copy()
        self.configure()
        self.traffic.start()

    def _copy(self) -> Daemon:
        """Returns the daemon of a copy of the server: another network and boot, and the same machine id and node."""
        machine = self._copied = Namespace()
        boot = self.directory / "boot_of_the_copy"
        boot.write_text(f"{uuid.uuid4()}\n")
        machine.run("mount", "--bind", str(boot), _BOOT_ID)
        machine.ip("link set lo up")
        for name in NETS:
            machine.make_wireguard(self.kind, name, log=self.directory / "world.log")
        return Daemon(cast("Testbed", SimpleNamespace(server=machine)), self.ear, self.directory / "copy")

    def _add_devices(self) -> None:
        names = [f"0001-{n}" for n in range(self._count)]
        for n, name in enumerate(names):
            interface = "wg0" if n % 2 else "wg1"
            customer = self.world.add_customer()
            device = Device(name, n + 1, interface, f"{NETS[interface]}.{10 + n}", new_keys(), customer.wire, customer,
                            (20_000 + 40_000 * n, 120_000 - 20_000 * n))  # fmt: skip
            self.devices.append(device)
            self.traffic.flows[name] = Flow(in_network(customer.namespace.holder.pid, outlet))
        rows = ", ".join(
            f"({d.row}, '0001', {quote(d.name)}, '{d.interface}', '{d.address}', '{d.keys.public}',"
            f" '{d.keys.private}', 'active', NOW())"
            for d in self.devices
        )
        self.database.sql(
            "INSERT INTO contracts (contract_number, contract_id, contract_status) VALUES (1, '0001', 'active');"
            "INSERT INTO customer_devices (id, contract_id, device_id, wg_iface, wg_ip, public_key, private_key, status,"
            f" issued_at) VALUES {rows}"
        )

    def configure(self) -> None:
        """Writes the configuration of all daemons, with the present names and the present guard."""
        slow = max(1.0, self.pace / 2)
        for port, daemon in enumerate(self.everybody, 9586):
            values: dict[str, dict[str, object]] = {
                "node": {"name": self.copy_name or self.node if daemon is self.twin else self.node, "zone": "Asia/Tokyo"},
                "mikyun.database": {"socket": str(self.proxy.path), "password_file": str(self.database.password_file),
                                    "timeout": f"{min(2 * slow, 20)}s"},
                **{f"interfaces.{self.names[name]}": {"store_name": name, "networks": [f"{net}.0/24"],
                                                      "addresses": [f"{net}.1/24"]} for name, net in NETS.items()},
                "guard": self.guard,
                "schedule": {"poll_interval": f"{slow}s", "resync_interval": f"{2 * slow}s",
                             "watch_interval": f"{0.2 * slow}s"},
                "mikyun": {"language": "en"}, "log": {"format": "json"}, "metrics": {"listen": f"127.0.0.1:{port}"},
            }  # fmt: skip
            lines = [f"[{section}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
                     for section, table in values.items()]  # fmt: skip
            daemon.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def name_copy(self, node: str = "") -> None:
        """Gives the copied server a node name of its own, or the same one again."""
        self.copy_name = node
        self.configure()

    def rename(self, name: str, new: str) -> None:
        """Renames an interface, and the socket of a userspace one. Its index and its peers stay."""
        old, self.names[name] = self.names[name], new
        self.world.interfaces[new] = self.world.interfaces.pop(old)
        self.world.server.ip(f"link set {old} down", f"link set {old} name {new}", f"link set {new} up")
        if self.kind == "userspace":
            self.socket(old).rename(self.socket(new))

    def socket(self, name: str) -> Path:
        """Returns the path of a userspace interface's socket, as this process sees it."""
        return Path("/proc", str(self.world.server.holder.pid), "root", "run", "wireguard", f"{name}.sock")

    # -- the daemons

    @property
    def everybody(self) -> list[Daemon]:
        """Returns all daemons, the one of the copied server too."""
        return [*self.daemons, *([self.twin] if hasattr(self, "twin") else [])]

    def start(self, daemon: Daemon) -> None:
        """Starts a daemon and does not wait for it."""
        daemon.start(self.environment(daemon), ready=False, argv=DAEMON)

    def environment(self, daemon: Daemon) -> dict[str, str]:
        """Returns what a daemon's environment has besides its own."""
        # Two daemons of a server have the same directory. The copied server has its own, and it did not boot lately.
        if daemon is self.twin:
            return {**self.clock.environment, "BOOTED": "0"}
        return {**self.clock.environment, "BOOTED": str(self._booted), "STATE_DIRECTORY": str(self.state)}

    def is_daemon(self, pid: int) -> bool:
        """Returns whether a process is one of our daemons and alive."""
        return any(d.process is not None and d.process.pid == pid and d.process.poll() is None for d in self.daemons)

    # -- what wg(8) shows

    def counters(self, *, fresh: bool = False) -> dict[tuple[str, str], Bytes]:
        """Returns the counters of every actual peer, by interface and key.

        They are recent, or just read if `fresh`.
        """
        now = time.monotonic()
        if fresh or self._dump is None or now - self._dump[0] > 0.02 * self.pace**2:
            self._dump = now, self._read()
        return self._dump[1]

    def _read(self) -> dict[tuple[str, str], Bytes]:
        while True:
            with contextlib.suppress(processes.CommandFailed):  # an interface went away while it was read
                dump = self.world.dump()
                return {(name, key): Bytes(p.rx, p.tx) for name, peers in dump.items() for key, p in peers.items()}
            time.sleep(0.02)

    def actual(self, device: Device) -> Bytes | None:
        """Returns the counters of the device's peer as its row describes it, or None if there is no such peer."""
        return self.counters().get((device.interface, device.keys.public))

    # -- wires and interfaces

    def wire(self, devices: Sequence[Device], up: bool) -> None:
        """Cuts or mends the outer wires.

        With cut wires no counter moves: nothing is received, and a packet that cannot be sent is not counted.
        """
        for device in devices:
            device.wired = up
        word = "up" if up else "down"
        self.world.server.run("ip", "-batch", "-", stdin="".join(f"link set {d.wire} {word}\n" for d in devices))

    def talk(self, device: Device, on: bool) -> None:
        """Starts the traffic of a customer with the device's present configuration, or stops it."""
        flow = self.traffic.flows[device.name]
        if on:
            flow.inner, flow.gateway = device.address, self.world.interfaces[device.interface].address
        slow = max(1.0, self.pace)
        flow.up, flow.down = (int(device.rate[0] / slow), int(device.rate[1] / slow)) if on else (0, 0)

    def introduce(self, device: Device) -> None:
        """Gives the customer the device's present configuration."""
        server = self.world.interfaces[device.interface]
        device.customer.configure(server, device.keys, device.address, device.preshared_key)

    def unmake(self, name: str, how: str) -> None:
        """Removes an interface."""
        carrier = self.world.interfaces[name].process
        if carrier is None or how == "delete":
            self.world.server.run("ip", "link", "del", name)
        else:
            carrier.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        if carrier is not None:
            processes.end(carrier, signal.SIGKILL, 10) if how == "kill" else carrier.wait(60)

    def make(self, name: str, index: int | None = None) -> None:
        """Creates the interface again. The kernel's WireGuard gets the number ``index``."""
        self.world.make_interface(name, *(() if index is None else ("index", str(index))))

    def index(self, name: str) -> int:
        """Returns the interface's number."""
        return int(json.loads(self.world.server.run("ip", "-json", "link", "show", name))[0]["ifindex"])

    def new_boot(self) -> None:
        """Gives the machine another boot id, for all processes in the server's namespaces, and a short uptime."""
        file = self.directory / "boot_id"
        file.write_text(f"{uuid.uuid4()}\n")
        self.world.server.run("sh", "-c", f"umount {_BOOT_ID} 2>/dev/null; mount --bind {file} {_BOOT_ID}")
        self._booted = time.clock_gettime(time.CLOCK_BOOTTIME)

    def close(self) -> None:
        """Ends everything."""
        with contextlib.ExitStack() as stack:
            stack.callback(processes.run, ["umount", "-l", str(self.disk)], check=False)
            stack.callback(self.database.close)
            with contextlib.suppress(processes.CommandFailed):
                stack.callback(os.kill, self.database.pid, signal.SIGCONT)
            stack.callback(self.world.close)
            for one in ("web", "proxy", "traffic"):
                if hasattr(self, one):
                    stack.callback(getattr(self, one).close)
            if hasattr(self, "_copied"):
                stack.callback(self._copied.close)
            for daemon in self.everybody:
                stack.callback(daemon.close)


def labelled(name: str, **labels: str) -> str:
    """Returns a metric's name with its labels, as an exposition shows it."""
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def by_device(devices: Sequence[Device], counters: Mapping[tuple[str, str], Bytes]) -> dict[str, Bytes]:
    """Returns the present counters of each device that has a peer."""
    found = {device.name: counters.get((device.interface, device.keys.public)) for device in devices}
    return {name: one for name, one in found.items() if one is not None}
