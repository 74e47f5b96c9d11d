"""One node in memory: agent, kernel, database and spool, with a clock that only tests move.

The node also keeps the true number of bytes of each row, for comparison with the accounted bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes import Crash, FakeSpool, FakeWireGuard
from tests.fakestore import FakeStore
from tests.samples import NETWORKS, NOW, address, calendar, key, psk, text
from tests.tables import FakeDatabase
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Settings
from wgsyncd.core.model import NO_PRESHARED_KEY, Counters, PeerConfig, PublicKey, RowKey, encode_key
from wgsyncd.core.network import parse_host
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.state_cache import Until, never
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import StoreError
from wgsyncd.ports import Clock, Plane

CONFIG = (
    '[node]\nname = "r640"\n'
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

    ``true``: the bytes that must be accounted for each row, by row id. ``now`` and ``mono``: the clocks, in seconds.
    """

    def __init__(
        self, extra: str = "", *, database: FakeDatabase | None = None, node: str = "r640", zone: str = "Asia/Tokyo"
    ) -> None:
        self.settings: Settings = parse(CONFIG.replace('"r640"', f'"{node}"\nzone = "{zone}"') + extra)
        self.now, self.mono = NOW, 1000.0
        self.wg = FakeWireGuard(*NETWORKS)
        self.store = FakeStore(self.settings, database)
        self.db = self.store.db
        self.spool = FakeSpool()
        self.planes: tuple[Plane[Any, Any], ...] = ()
        self.true: dict[int, Counters] = {}
        self.start()

    def start(self) -> None:
        """Start a new process with the kernel, database and spool that the last process left."""
        self.wg.crash_after = None
        self.status, self.state = DaemonStatus(), AgentState()
        self.agent = self._agent()

    def reload(self) -> None:
        """Give the same process a new agent, as after a reload of the configuration."""
        self.agent = self._agent()

    def _agent(self) -> Agent:
        clock = Clock(lambda: self.now, lambda: self.mono)
        return Agent(self.settings, self.wg, self.store, self.spool, self.status, clock, self.state, self.planes)

    @property
    def calendar(self) -> UsageCalendar:
        return UsageCalendar(self.now, int(self.settings.usage.bucket_width), self.settings.node.zone)

    def tick(self, seconds: float = 15) -> None:
        self.now += seconds
        self.mono += seconds

    # -- the admin

    def device(self, number: int, **columns: Any) -> None:
        """Insert an active device with key and address ``number``. ``columns`` replace the values of its row."""
        interface = columns.get("wg_iface", "wg0")
        plain = {"wg_iface": interface, "wg_ip": address(number, interface), "public_key": text(number),
                 "status": "active", "first_handshake_at": "2026-01-02 00:00:00",
                 "last_handshake_at": "2026-01-02 00:00:00"}  # fmt: skip
        self.db.insert(number, **(plain | columns))
        self.true[number] = Counters(0, 0)

    def issued(self, number: int, end: float, **columns: Any) -> None:
        """Insert an issued device whose QR code ends at ``end`` (UNIX seconds)."""
        self.device(number, status="issued", qr_expires_at=self.calendar.format_local(end), first_handshake_at=None,
                    last_handshake_at=None, **columns)  # fmt: skip

    # -- the device

    def traffic(self, number: int, rx: int, tx: int = 0, *, interface: str = "wg0", peer: int | None = None) -> None:
        """Let row ``number`` move bytes over the peer with key ``peer`` (default: its own key)."""
        self.wg.traffic(interface, key(number if peer is None else peer), rx, tx)
        old = self.true[number]
        self.true[number] = Counters(old.rx + rx, old.tx + tx)

    def shake(self, number: int, *, interface: str = "wg0", at: float | None = None) -> None:
        self.wg.handshake(interface, key(number), int((self.now if at is None else at) * 1e9))

    # -- the daemon

    def cycle(self, *, fails: bool = False) -> Decision | None:
        """Let 15 s pass, then reconcile. A StoreError must come if ``fails`` is true, and must not come otherwise."""
        self.tick()
        try:
            decision = self.agent.reconcile()
        except StoreError:
            assert fails
            return None
        assert not fails
        return decision

    def account(self, until: Until = never, *, fails: bool = False) -> None:
        self.tick()
        try:
            self.agent.account(until)
        except StoreError:
            assert fails
            return
        assert not fails

    def survive(self) -> bool:
        """Reconcile, with any failure allowed. A dead process is started again. Returns whether it succeeded."""
        self.tick()
        try:
            self.agent.reconcile()
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
        """How many changes the kernel got, and how many transactions the database got."""
        return sum(self.wg.writes.values()), self.store.commits

    # -- what came of it

    @property
    def booked(self) -> dict[int, Counters]:
        return {n: Counters(d["rx_bytes_total"], d["tx_bytes_total"]) for n, d in self.db.devices.items()}

    @property
    def actions(self) -> list[tuple[str, str]]:
        return [(one.action, one.target_id) for one in self.db.logs]

    def wanted(self) -> dict[str, dict[PublicKey, PeerConfig]]:
        """The peers that the rows ask for, by interface and key. It assumes valid rows without conflicts."""
        peers: dict[str, dict[PublicKey, PeerConfig]] = {name: {} for name in NETWORKS}
        for row in self.store.snapshot().rows:
            if row.inactive_reason(self.now) is None and row.public_key is not None:
                number = key_number(row.public_key)
                secret = psk_of(row.preshared_key)
                peers[row.interface][key(number)] = PeerConfig(key(number), secret, (parse_host(row.address),))
        return peers

    def kernel(self) -> dict[str, dict[PublicKey, PeerConfig]]:
        return {name: self.wg.peers(name) for name in NETWORKS}

    def kernel_of(self, interface: str) -> dict[PublicKey, PeerConfig]:
        return self.wg.peers(interface)

    def right(self) -> None:
        """Assert that the kernel has the desired peers, and that every byte is posted to its columns."""
        assert self.kernel() == self.wanted()
        assert self.booked == self.true
        assert self.store.refresh(self.calendar) == (0, 0), "24 h and month are what buckets and days say"


_NUMBERS: dict[RowKey, int] = {form: n for n in range(2000) for form in (text(n), key(n))}
_SECRETS: dict[RowKey, bytes] = {form: psk(n) for n in range(20) for form in (encode_key(psk(n)), psk(n))}


def key_number(public_key: RowKey) -> int:
    return _NUMBERS[public_key]


def psk_of(written: RowKey) -> bytes:
    return _SECRETS[written] if written else NO_PRESHARED_KEY
