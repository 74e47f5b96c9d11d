"""One node in memory: agent, kernel, database and spool, with a clock that only tests move.

The node also keeps the true number of bytes of each row, for comparison with the accounted bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from tests.fakemachine import FakeMachine
from tests.fakes import Crash, FakeWireGuard
from tests.fakespool import FakeSpool
from tests.hooked_ports import try_digest
from tests.memorystore import MemoryStore
from tests.plane import Shaping
from tests.samples import NETWORKS, NOW, address, calendar, device_name, key, key_number, peer, psk_of, text
from tests.variants import MIKYUN, Variant, with_ipv6
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Counters, PeerConfig, PublicKey
from wgsyncd.core.network import as_networks, parse_host
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.state_cache import Until, never
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import StoreError
from wgsyncd.ports import Clock, Plane

CONFIG = (
    '[node]\nname = "r640"\nzone = "Asia/Tokyo"\n'
    + "".join(
        f'[interfaces.{name}]\nnetworks = ["{net}"]\naddresses = ["{net.replace(".0/24", ".1/24")}"]\n'
        for name, net in NETWORKS.items()
    )
    + '[mikyun]\nlanguage = "en"\n'
)
"""The configuration of a node. A test that appends text to it begins inside the table mikyun."""


def local(seconds: float) -> str:
    """UNIX seconds as the text of a DATETIME column, in Tokyo's time."""
    return calendar(seconds).format_local(seconds)


class Node:
    """A server with wg0 and wg1, and what admins, devices and the daemon do on it.

    ``true``: the bytes that must be accounted for each device, by its number. ``now`` and ``mono``: the clocks, in
    seconds. ``machine``: without one, nobody claims the node. ``variant``: of nodes that are made without one.
    """

    variant: ClassVar[Variant] = MIKYUN

    def __init__(
        self, extra: str = "", *, database: Any = None, node: str = "r640", zone: str = "Asia/Tokyo",
        variant: Variant | None = None,
    ) -> None:  # fmt: skip
        variant = variant or self.variant
        config = with_ipv6(CONFIG) if variant.ipv6 else CONFIG
        text = config.replace('"r640"', f'"{node}"').replace('"Asia/Tokyo"', f'"{zone}"')
        self.settings: Settings = parse(text + extra)
        self.now, self.mono = NOW, 1000.0
        self.wg, self.admin = self._kernel(), variant.admin(database)
        self.store = self._store()
        self.db = self.admin.db
        self.spool = FakeSpool(node)
        self.plane = Shaping(self.wg) if variant.plane else None
        self.planes: tuple[Plane, ...] = (self.plane,) if self.plane is not None else ()
        self.machine: FakeMachine | None = None
        self.true: dict[int, Counters] = {}
        self._numbers: dict[Any, int] = {}  # by row id and by device name
        self.start()

    def _kernel(self) -> FakeWireGuard:
        return FakeWireGuard(*NETWORKS)

    def _store(self) -> MemoryStore[Any]:
        return self.admin.store(self.settings)

    def start(self) -> None:
        """Start a new process with the kernel, database and spool that the last process left."""
        self.wg.crash_after = None
        self.status, self.state = DaemonStatus(), AgentState(wait=self.tick)
        if isinstance(self.spool, FakeSpool):
            self.spool.open(self.settings.node.name)
        self.agent = self._agent()

    def reload(self) -> None:
        """Give the same process a new agent, as after a reload of the configuration."""
        self.agent = self._agent()

    def _agent(self) -> Agent:
        ports, clock = (self.wg, self.store, self.spool), Clock(lambda: self.now, lambda: self.mono)
        return Agent(self.settings, *ports, self.status, clock, self.state, self.planes, self.machine)

    @property
    def calendar(self) -> UsageCalendar:
        return UsageCalendar(self.now, int(self.settings.usage.bucket_width), self.settings.node.zone)

    def tick(self, seconds: float = 15) -> None:
        self.now += seconds
        self.mono += seconds

    def device(self, number: int, *, seen: bool = True, **fields: Any) -> None:
        """Insert an active device with key and address ``number``. ``fields`` replace its values: see Admin.

        ``seen``: the device had a handshake before.
        """
        interface = fields.get("interface", fields.get("wg_iface", "wg0"))
        plain = {"interface": interface, "address": address(number, interface), "public_key": text(number)}
        self.admin.insert(number, seen=seen, **(plain | fields))
        self._numbers[self.admin.id(number)] = self._numbers[fields.get("device_id", device_name(number))] = number
        self.true[number] = Counters(0, 0)

    def issued(self, number: int, end: float, **fields: Any) -> None:
        """Insert an issued device whose QR code ends at ``end`` (UNIX seconds)."""
        self.device(number, seen=False, status="issued", qr_expires_at=self.calendar.format_local(end), **fields)

    def change(self, number: int, **fields: Any) -> None:
        """Change fields of a device."""
        self.admin.change(number, **fields)

    def delete(self, number: int) -> None:
        """Delete a device's row. Nothing is accounted for it any more."""
        del self.db.devices[self.admin.id(number)]
        self.true.pop(number, None)

    def truncate(self) -> dict[Any, Any]:
        """Delete all rows. Returns them: :meth:`restore` brings them back."""
        rows = dict(self.db.devices)
        self.db.devices.clear()
        return rows

    def restore(self, rows: dict[Any, Any]) -> None:
        self.db.devices |= rows

    def lock(self, *numbers: int) -> None:
        """Let another transaction lock the rows of these devices, and no others."""
        self.store.locked = {self.admin.id(number) for number in numbers}

    def unlock(self) -> None:
        self.lock()

    def refuse(self, *numbers: int, why: str = "1264: Out of range value for column 'rx_bytes_total'") -> None:
        """Let the server refuse to change the rows of these devices, and no others."""
        self.store.refused = {self.admin.id(number): why for number in numbers}

    def traffic(self, number: int, rx: int, tx: int = 0, *, interface: str = "wg0", peer: int | None = None) -> None:
        """Let row ``number`` move bytes over the peer with key ``peer`` (default: its own key)."""
        self.wg.traffic(interface, key(number if peer is None else peer), rx, tx)
        old = self.true[number]
        self.true[number] = Counters(old.rx + rx, old.tx + tx)

    def shake(self, number: int, *, interface: str = "wg0", at: float | None = None) -> None:
        self.wg.handshake(interface, key(number), int((self.now if at is None else at) * 1e9))

    def cycle(self, *, fails: bool = False) -> Decision | None:
        """Let 15 s pass, then reconcile. A StoreError must come if ``fails`` is true, and must not come otherwise."""
        self.tick()
        try:
            decision = self.agent.reconcile(digest=try_digest(self.store))
        except StoreError:
            assert fails
            return None
        assert not fails
        return decision

    def account(self, until: Until = never, *, fails: bool = False) -> None:
        self.tick()
        try:
            self.agent.account(until)
            assert not fails
        except StoreError:
            assert fails

    def survive(self) -> bool:
        """Reconcile, with any failure allowed. A dead process is started again. Returns whether it succeeded."""
        self.tick()
        try:
            self.agent.reconcile(digest=try_digest(self.store))
        except StoreError:
            return False
        except Crash:
            self.start()
            return False
        return True

    def account_during(self, happens: Callable[[], object], *, fails: bool = False) -> None:
        """Account. ``happens`` is called once after the first transaction, and something urgent is reported then."""
        happened = False

        def until() -> bool:
            nonlocal happened
            if happened:
                return False
            happened = True
            happens()
            return True

        self.account(until, fails=fails)
        assert happened, "it has more than one transaction"

    def away(self, *looks: tuple[int, int]) -> None:
        """Take the database away. ``looks``: pairs of a row id and its bytes, each followed by a failing account."""
        self.store.down = True
        for number, rx in looks:
            self.traffic(number, rx)
            self.account(fails=True)

    def back(self) -> None:
        """Bring the database back and reconcile."""
        self.store.down = False
        self.cycle()

    def reboot(self) -> None:
        """Boot the machine again: all interfaces are empty, and the process is new."""
        self.wg.reboot()
        self.start()

    def quiet(self, cycles: int = 2) -> None:
        """Assert that nothing differs any more: cycles write neither to the kernel nor to the database."""
        before = self.written
        for _ in range(cycles):
            self.cycle()
            self.account()
        assert self.written == before

    @property
    def written(self) -> tuple[int, int]:
        """How many changes the kernel and the second data plane got, and how many transactions the database got."""
        changes = sum(self.wg.writes.values()) + (self.plane.writes if self.plane is not None else 0)
        return changes, self.store.commits

    @property
    def numbers(self) -> list[int]:
        """The numbers of all devices that have a row, in the order of their ids."""
        return [self._number(device) for device in sorted(self.db.devices)]

    @property
    def posted(self) -> dict[int, Counters]:
        return {number: self.admin.posted(number) for number in self.numbers}

    def windows(self, number: int) -> tuple[Counters, Counters]:
        """The bytes of a device in the last 24 hours and in this month."""
        return self.admin.windows(number, self.calendar)

    @property
    def days(self) -> dict[tuple[int, str], Counters]:
        """The bytes by number and day."""
        return {(self._number(device), day): sums for (device, day), sums in self.db.days.items()}

    @property
    def buckets(self) -> dict[tuple[int, int], Counters]:
        """The bytes by number and bucket."""
        return {(self._number(device), bucket): sums for (device, bucket), sums in self.db.buckets.items()}

    def _number(self, device: Any) -> int:
        number: int = self._numbers.get(device, device)
        return number

    @property
    def actions(self) -> list[tuple[str, str]]:
        return [(one.action, one.target) for one in self.admin.audit()]

    @property
    def audit_texts(self) -> list[str]:
        return [one.text for one in self.admin.audit()]

    def wanted(self) -> dict[str, dict[PublicKey, PeerConfig]]:
        """The peers that the rows ask for, by interface and key. It assumes valid rows without conflicts."""
        peers: dict[str, dict[PublicKey, PeerConfig]] = {name: {} for name in NETWORKS}
        for row in self.store.snapshot().rows:
            if row.inactive_reason(self.now) is None and row.public_key is not None:
                number = key_number(row.public_key)
                secret = psk_of(row.preshared_key)
                peers[row.interface][key(number)] = PeerConfig(
                    key(number), secret, as_networks(map(parse_host, row.addresses))
                )
        return peers

    def peer(self, number: int, *addresses: str) -> PeerConfig:
        """The peer of a device with this number, by default with its own address on wg0."""
        return peer(number, *(one for text in addresses or (address(number),) for one in self.admin.addresses(text)))

    def kernel(self) -> dict[str, dict[PublicKey, PeerConfig]]:
        return {name: self.wg.peers(name) for name in NETWORKS}

    def kernel_of(self, interface: str) -> dict[PublicKey, PeerConfig]:
        return self.wg.peers(interface)

    def right(self) -> None:
        """Assert that the kernel has the desired peers, and that every byte is posted to its columns."""
        assert self.kernel() == self.wanted()
        assert self.posted == self.true
        assert self.store.refresh(self.calendar) == (0, 0), "24 h and month are what buckets and days say"
        if self.plane is not None:
            assert self.plane.classes() == self.plane.live(), "each peer has a class, and nothing else has one"
