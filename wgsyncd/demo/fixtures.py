"""Who is there when the demo begins: contracts and devices in the web application's tables."""

from __future__ import annotations

from dataclasses import dataclass

from wgsyncd.demo.mariadb import quote
from wgsyncd.demo.testbed import KeyPair, new_keys, new_preshared_key

CONTRACTS = {"0001": "active", "0002": "active", "0003": "active", "0004": "paused", "M010": "active"}


@dataclass(frozen=True, slots=True)
class Part:
    """A device as its row begins. ``played``: a customer with a WireGuard client holds it."""

    device: str
    interface: str
    address: str
    status: str = "active"
    played: bool = False
    preshared: bool = False
    wants_peer: bool = True

    @property
    def contract(self) -> str:
        """The contract it belongs to."""
        return self.device.partition("-")[0]


SCANS = Part("0001-DEV-001", "wg0", "10.200.0.11", "issued", played=True)
PRESHARED = Part("0001-DEV-002", "wg0", "10.200.0.12", "issued", played=True, preshared=True)
REKEYED = Part("0001-DEV-003", "wg1", "10.251.0.13", played=True)
MOVED = Part("0002-DEV-001", "wg0", "10.200.0.21", played=True)
SWAPPED = Part("0002-DEV-002", "wg0", "10.200.0.22", played=True)
SWAPPED_WITH = Part("0002-DEV-003", "wg0", "10.200.0.23")
OF_PAUSED_CONTRACT = (Part("0003-DEV-001", "wg0", "10.200.0.31"), Part("0003-DEV-002", "wg1", "10.251.0.32"))
PAUSED = Part("M010-DEV-001", "wg1", "10.251.0.41", played=True)
REVOKED = Part("M010-DEV-002", "wg0", "10.200.0.42")
UNSCANNED = Part("M010-DEV-003", "wg0", "10.200.0.43", "issued")
BROKEN = Part("M010-DEV-004", "wg1", "10.251.0.44")
IDLE = Part("M010-DEV-005", "wg1", "10.251.0.45", played=True)
OUTSIDE = Part("M010-DEV-006", "wg0", "192.168.7.7", wants_peer=False)
PARTS = (
    SCANS, PRESHARED, REKEYED, MOVED, SWAPPED, SWAPPED_WITH, *OF_PAUSED_CONTRACT, PAUSED, REVOKED, UNSCANNED, BROKEN,
    IDLE, OUTSIDE,
    Part("0004-DEV-001", "wg0", "10.200.0.51", wants_peer=False),
    Part("0001-DEV-004", "wg0", "10.200.0.14", "paused", wants_peer=False),
    Part("0001-DEV-005", "wg1", "10.251.0.15", "revoked", wants_peer=False),
    Part("0002-DEV-004", "wg0", "10.200.0.24", "expired", wants_peer=False),
    Part("0002-DEV-005", "wg0", "10.200.0.25", "deleted", wants_peer=False),
)  # fmt: skip


@dataclass(slots=True)
class Device:
    """What a device knows of itself; the admin may change it in the course of the play."""

    part: Part
    keys: KeyPair
    preshared_key: str | None


def make_devices() -> dict[str, Device]:
    """Every part with keys of its own, by device."""
    return {
        part.device: Device(part, new_keys(), new_preshared_key() if part.preshared else None) for part in PARTS
    }  # fmt: skip


def opening(devices: dict[str, Device], now: str) -> str:
    """The INSERT statements of the first scene. ``now``: a DATETIME in the configured zone."""
    contracts = ",\n".join(
        f"({number}, {quote(contract)}, {quote(status)}, 'demo passphrase')"
        for number, (contract, status) in enumerate(CONTRACTS.items(), 1)
    )
    rows = ",\n".join(_row(device, now) for device in devices.values())
    return (
        "INSERT INTO contracts (contract_number, contract_id, contract_status, identity_passphrase) VALUES\n"
        f"{contracts};\n"
        "INSERT INTO customer_devices (contract_id, device_id, wg_iface, wg_ip, public_key, private_key, preshared_key,"
        f" is_parent, status, issued_at, qr_expires_at) VALUES\n{rows};\n"
    )


def _row(device: Device, now: str) -> str:
    part = device.part
    texts = (part.contract, part.device, part.interface, part.address, device.keys.public, device.keys.private,
             device.preshared_key)  # fmt: skip
    parent = int(part.device.endswith("-001"))
    times = f"{quote(now)}, {quote(now)} + INTERVAL 1 DAY"
    return f"({', '.join(map(quote, texts))}, {parent}, {quote(part.status)}, {times})"
