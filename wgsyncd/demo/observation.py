"""Values for what can be seen from outside: rows by the mariadb client, peers by wg(8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wgsyncd.demo.testbed import WgPeer


class Bytes(NamedTuple):
    """Bytes that the server received from a customer and sent to the customer."""

    rx: int
    tx: int

    def __str__(self) -> str:
        return f"rx {self.rx:,} tx {self.tx:,}"

    def plus(self, other: Bytes) -> Bytes:
        """The sum of both, side by side."""
        return Bytes(self.rx + other.rx, self.tx + other.tx)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of customer_devices, with texts as the mariadb client prints them."""

    device: str
    status: str
    interface: str
    address: str
    public_key: str
    first_handshake_at: str | None
    last_handshake_at: str | None
    activated_at: str | None
    total: Bytes
    last_24h: Bytes


ROWS = """SELECT device_id, status, wg_iface, wg_ip, public_key, first_handshake_at, last_handshake_at, activated_at,
    rx_bytes_total, tx_bytes_total, rx_bytes_24h, tx_bytes_24h FROM customer_devices ORDER BY id"""


def row(one: dict[str, str | None]) -> Row:
    """The row that one line of the answer to :data:`ROWS` describes."""
    device, status, interface, address, key, first, last, activated, *counters = one.values()
    rx, tx, rx_24h, tx_24h = (int(counter or 0) for counter in counters)
    texts = (str(device), str(status), str(interface), str(address), str(key))
    return Row(*texts, first, last, activated, Bytes(rx, tx), Bytes(rx_24h, tx_24h))


class Log(NamedTuple):
    """A row of admin_logs."""

    action: str
    target: str
    message: str


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows, the peers and the audit trail at one moment. ``at``: monotonic seconds."""

    at: float
    rows: dict[str, Row]  # by device
    peers: dict[str, dict[str, WgPeer]]  # by interface and public key
    logs: tuple[Log, ...]

    def find(self, public_key: str) -> tuple[str, WgPeer] | None:
        """The interface that has a peer with this key, and the peer. None if there is no such peer."""
        for interface, peers in self.peers.items():
            if public_key in peers:
                return interface, peers[public_key]
        return None

    def where(self, public_key: str) -> str:
        """A peer's interface and addresses, for people."""
        found = self.find(public_key)
        return f"{found[0]} {found[1].allowed_ips}" if found else "no peer"

    def counted(self, public_key: str) -> Bytes:
        """The bytes that `wg` counts for a key now. Zero if there is no such peer."""
        found = self.find(public_key)
        return Bytes(found[1].rx, found[1].tx) if found else Bytes(0, 0)

    def identities(self) -> dict[str, tuple[str, str, str | None]]:
        """Key: interface, addresses and endpoint of its peer. A peer that was removed and set again has others."""
        return {
            key: (interface, peer.allowed_ips, peer.endpoint)
            for interface, peers in self.peers.items() for key, peer in peers.items()
        }  # fmt: skip

    def logged(self, action: str, target: str = "") -> bool:
        """Whether admin_logs has a row with this action and target. Without a target, any target counts."""
        return any(log.action == action and target in ("", log.target) for log in self.logs)

    @property
    def last_log(self) -> str:
        """The newest audit row, for people."""
        return f"{self.logs[-1].action} {self.logs[-1].target}" if self.logs else "nothing audited"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen in the kernel and in the table, and whether both are as expected."""

    kernel: str
    table: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Result:
    """How a scenario ended: what was expected, and what was seen in the kernel and in the table."""

    name: str
    expected: str
    kernel: str
    table: str
    ok: bool
