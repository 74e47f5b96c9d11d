"""The faults hit a private database on a small disk, a server with customers, the daemon and a clock."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.books import Books
from tests.faults.clock import Clock
from tests.faults.metrics_poller import PORT
from tests.faults.oracle import Bytes
from tests.faults.proxy import Proxy
from tests.faults.traffic import Flow, Traffic, outlet
from tests.faults.web import Web
from tests.real.running import Daemon, Ear, in_network
from wgsyncd.demo import processes
from wgsyncd.demo.testbed import Customer, KeyPair, Testbed, WgKind, new_keys

NODE = "faults"  # the node's first name
_PATIENCE = 30  # nominal seconds in which wg(8) must show the peers once
DISK = 160  # MiB, for the database
NETS = {"wg0": "10.200.0", "wg1": "10.251.0"}
OPEN: dict[str, object] = {"always_allowed": 100, "max_share": 1.0}  # a guard that lets everybody go
DAEMON = ("-m", "tests.faults.daemon")  # the interpreter's arguments before the command
BOOT_ID = "/proc/sys/kernel/random/boot_id"


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

    books: Books
    control_plane: str

    def __init__(self, directory: Path, kind: WgKind, count: int, seed: int, pace: float) -> None:
        self.directory, self.kind, self.pace, self._count, self._seed = directory, kind, pace, count, seed
        self.disk = directory / "disk"
        self.disk.mkdir()
        processes.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "wgsyncd-faults", str(self.disk)])
        self.database = self._private_server()
        self.world = Testbed(kind, log=directory / "world.log")
        self.clock = Clock(directory / "clock")
        self.ear = Ear(directory / "heard")
        self.daemons: list[Daemon] = []
        self.devices: list[Device] = []
        self.proxy: Proxy
        self.traffic: Traffic
        self.web: Web
        self.node = NODE
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
        self._open_database()
        self.world.open()
        self.traffic = Traffic(in_network(self.world.server.holder.pid, outlet), self._seed)
        self._add_devices()
        self.state.mkdir()
        for name in ("daemon", "rival"):
            self.daemons.append(Daemon(self.world, self.ear, self.directory / name))
        self._add_copy()
        self.configure()
        self.traffic.start()

    def _private_server(self) -> Any:
        """The server that :attr:`database` is."""
        raise NotImplementedError

    def _open_database(self) -> None:
        """Installs and starts the server, and makes the web application."""
        raise NotImplementedError

    def _add_copy(self) -> None:
        """Makes the daemon of a copy of the server, if the control plane has this fault."""

    def _device_name(self, number: int) -> str:
        """The name of a device in the table."""
        raise NotImplementedError

    def _insert_devices(self) -> None:
        """Writes the rows of all devices."""
        raise NotImplementedError

    def _store(self, daemon: Daemon, timeout: str) -> dict[str, dict[str, object]]:
        """The configuration's sections about the database."""
        raise NotImplementedError

    def hang(self, on: bool) -> None:
        """Stops the database server with SIGSTOP, or lets it go on."""
        os.kill(self.database.pid, signal.SIGSTOP if on else signal.SIGCONT)

    def _wake(self) -> None:
        with contextlib.suppress(processes.CommandFailed, OSError):
            self.hang(False)

    def _add_devices(self) -> None:
        for n in range(self._count):
            name = self._device_name(n)
            interface = "wg0" if n % 2 else "wg1"
            customer = self.world.add_customer()
            device = Device(name, n + 1, interface, f"{NETS[interface]}.{10 + n}", new_keys(), customer.wire, customer,
                            (20_000 + 40_000 * n, 120_000 - 20_000 * n))  # fmt: skip
            self.devices.append(device)
            self.traffic.flows[name] = Flow(in_network(customer.namespace.holder.pid, outlet))
        self._insert_devices()

    def configure(self) -> None:
        """Writes the configuration of all daemons, with the present names and the present guard."""
        slow = max(1.0, self.pace / 2)
        for port, daemon in enumerate(self.everybody, PORT):
            values: dict[str, dict[str, object]] = {
                "node": {"name": self.node_of(daemon), "zone": "Asia/Tokyo"},
                **self._store(daemon, f"{min(2 * slow, 20)}s"),
                **{f"interfaces.{self.names[name]}": {"store_name": name, "networks": [f"{NETS[name]}.0/24"],
                                                      "addresses": [f"{NETS[name]}.1/24"]}
                   for name in self.served(daemon)},
                "guard": self.guard,
                "schedule": {"poll_interval": f"{slow}s", "resync_interval": f"{2 * slow}s",
                             "watch_interval": f"{0.2 * slow}s"},
                "log": {"format": "json"}, "metrics": {"listen": f"127.0.0.1:{port}"},
            }  # fmt: skip
            lines = [f"control_plane = {json.dumps(self.control_plane)}"]
            lines += [f"[{section}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
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
    def kept(self) -> list[Daemon]:
        """Returns the daemons that are started again whenever they end: one of each node."""
        return self.daemons[:1]

    def node_of(self, daemon: Daemon) -> str:
        """Returns the name of the node that a daemon runs."""
        return self.node if daemon in self.daemons else self.copy_name or self.node

    def served(self, _: Daemon) -> list[str]:
        """Returns the interfaces of a daemon, by the names in the table."""
        return list(NETS)

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
        if daemon not in self.daemons:
            return {**self.clock.environment, "BOOTED": "0"}
        return {**self.clock.environment, "BOOTED": str(self._booted), "STATE_DIRECTORY": str(self.state)}

    def is_daemon(self, pid: int) -> bool:
        """Returns whether a process is one of our daemons and alive."""
        return any(d.process is not None and d.process.pid == pid and d.process.poll() is None for d in self.everybody)

    # -- what wg(8) shows

    def counters(self, *, fresh: bool = False) -> dict[tuple[str, str], Bytes]:
        """Returns the counters of every actual peer, by interface and key: recent ones, or just read if `fresh`."""
        now = time.monotonic()
        if fresh or self._dump is None or now - self._dump[0] > 0.02 * self.pace**2:
            self._dump = now, self._read()
        return self._dump[1]

    def _read(self) -> dict[tuple[str, str], Bytes]:
        end = time.monotonic() + _PATIENCE * self.pace
        while time.monotonic() < end:
            with contextlib.suppress(processes.CommandFailed):  # an interface went away while it was read
                dump = self.world.dump()
                return {(name, key): Bytes(p.rx, p.tx) for name, peers in dump.items() for key, p in peers.items()}
            time.sleep(0.02)
        raise processes.CommandFailed(f"wg(8) showed no peers for {_PATIENCE} s")

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
        self.world.server.run("sh", "-c", f"umount {BOOT_ID} 2>/dev/null; mount --bind {file} {BOOT_ID}")
        self._booted = time.clock_gettime(time.CLOCK_BOOTTIME)

    def close(self) -> None:
        """Ends everything."""
        with contextlib.ExitStack() as stack:
            stack.callback(processes.run, ["umount", "-l", str(self.disk)], check=False)
            stack.callback(self.database.close)
            stack.callback(self._wake)
            stack.callback(self.world.close)
            for one in ("web", "proxy", "traffic"):
                if hasattr(self, one):
                    stack.callback(getattr(self, one).close)
            if hasattr(self, "_copied"):
                stack.callback(self._copied.close)
            for daemon in self.everybody:
                stack.callback(daemon.close)
