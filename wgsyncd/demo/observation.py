"""Values for what the database's client reads, what wg(8) shows, and how a scenario ended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from wgsyncd.demo.testbed import WgPeer


class Bytes(NamedTuple):
    """Bytes that the server received from a customer and sent to the customer."""

    rx: int
    tx: int

    def __str__(self) -> str:
        return f"rx {self.rx:,} tx {self.tx:,}"


class Accounted(Protocol):
    """A row of a device."""

    @property
    def total(self) -> Bytes:
        """All bytes that were accounted for the device."""


R = TypeVar("R", bound=Accounted)


class Row(Struct, frozen=True):
    """A row of customer_devices. Its fields are columns. Times are texts as the mariadb client prints them."""

    device_id: str
    status: str
    wg_iface: str
    wg_ip: str
    first_handshake_at: str | None
    last_handshake_at: str | None
    activated_at: str | None
    rx_bytes_total: int
    tx_bytes_total: int
    rx_bytes_24h: int
    tx_bytes_24h: int

    @property
    def total(self) -> Bytes:
        """All bytes that were accounted for the device."""
        return Bytes(self.rx_bytes_total, self.tx_bytes_total)


@dataclass(frozen=True, slots=True)
class Sample(Generic[R]):
    """The rows, the peers and the audit trail at one moment. ``at``: monotonic seconds."""

    at: float
    rows: dict[str, R]  # by device
    peers: dict[tuple[str, str], WgPeer]  # by interface or gateway, and public key
    audit: list[tuple[str, str]]  # the action and the target of each audit row

    def holders(self, *public_keys: str) -> list[str]:
        """The interface or gateway of each peer with one of these keys."""
        return [interface for interface, key in self.peers if key in public_keys]

    def has_peer(self, public_key: str) -> bool:
        return bool(self.holders(public_key))

    def where(self, public_key: str) -> str:
        """The place and the addresses of a peer, for people."""
        found = [f"{one} {peer.allowed_ips}" for (one, key), peer in self.peers.items() if key == public_key]
        return ", ".join(found) or "no peer"

    def counted(self, public_key: str) -> Bytes:
        """The bytes that `wg` counts for a key now. Zero if there is no such peer."""
        found = (Bytes(peer.rx, peer.tx) for (_, key), peer in self.peers.items() if key == public_key)
        return next(found, Bytes(0, 0))

    def identities(self) -> dict[tuple[str, str], tuple[str, str | None]]:
        """The addresses and the endpoint of each peer. A peer that was removed and set again has others."""
        return {which: (peer.allowed_ips, peer.endpoint) for which, peer in self.peers.items()}

    def has_audit(self, action: str, target: str = "") -> bool:
        """Whether there is an audit row with this action and target. Without a target, any target counts."""
        return any(action == found and target in ("", of) for found, of in self.audit)

    @property
    def last_audit(self) -> str:
        """The newest audit row, for people."""
        return " ".join(self.audit[-1]) if self.audit else "nothing audited"


class Outcome(NamedTuple):
    """What a scenario sees in the kernel and in the table, and whether both are as expected."""

    kernel: str
    table: str
    ok: bool
    note: str = ""  # what people read in place of the expectation: why it cannot be shown here


Check = Callable[[Sample[R]], Outcome]


class ScenarioReport(Struct, frozen=True, kw_only=True):
    """How a scenario ended: what was expected, and what was seen in the kernel and in the table."""

    name: str
    expected: str
    kernel: str
    table: str
    ok: bool
    note: str  # why the scenario cannot be shown here, or ""


class DemoReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd demo --json`."""

    ok: bool
    kind: Literal["kernel", "userspace"]  # of WireGuard
    seconds: float
    scenarios: list[ScenarioReport]
