"""The contracts and devices that the application's tables hold when the demo begins."""

from __future__ import annotations

from dataclasses import dataclass

from wgsyncd.demo.mariadb import quote
from wgsyncd.demo.testbed import KeyPair, new_keys, new_preshared_key

CONTRACTS = {"0001": "active", "0002": "active", "0003": "active", "0004": "paused"}


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device as its row is when the demo begins.

    ``has_client``: a customer with a WireGuard client holds the device. ``wants_peer``: the row asks for a valid peer.
    """

    device: str
    interface: str
    address: str
    status: str = "active"
    has_client: bool = False
    preshared: bool = False
    wants_peer: bool = True

    @property
    def contract(self) -> str:
        """The id of the device's contract."""
        return self.device.partition("-")[0]


SCANS = DeviceSpec("0001-DEV-001", "wg0", "10.200.0.11", "issued", has_client=True, preshared=True)
REKEYED = DeviceSpec("0001-DEV-002", "wg1", "10.251.0.12", has_client=True)
MOVED = DeviceSpec("0002-DEV-001", "wg0", "10.200.0.21", has_client=True)
UNSCANNED = DeviceSpec("0002-DEV-002", "wg0", "10.200.0.22", "issued")
BROKEN = DeviceSpec("0003-DEV-001", "wg1", "10.251.0.31")
OUTSIDE = DeviceSpec("0003-DEV-002", "wg0", "192.168.7.7", wants_peer=False)
DEVICES = (
    SCANS, REKEYED, MOVED, UNSCANNED, BROKEN, OUTSIDE,
    DeviceSpec("0003-DEV-003", "wg0", "10.200.0.33"),
    DeviceSpec("0004-DEV-001", "wg0", "10.200.0.51", wants_peer=False),
    DeviceSpec("0001-DEV-003", "wg0", "10.200.0.13", "paused", wants_peer=False),
    DeviceSpec("0001-DEV-004", "wg1", "10.251.0.14", "revoked", wants_peer=False),
    DeviceSpec("0002-DEV-003", "wg0", "10.200.0.23", "expired", wants_peer=False),
    DeviceSpec("0002-DEV-004", "wg0", "10.200.0.24", "deleted", wants_peer=False),
)  # fmt: skip


@dataclass(slots=True)
class Device:
    """A device with its keys, as its client has them. A scenario may change the keys."""

    spec: DeviceSpec
    keys: KeyPair
    preshared_key: str | None


def make_devices() -> dict[str, Device]:
    """All devices by device id, each with new keys."""
    return {spec.device: Device(spec, new_keys(), new_preshared_key() if spec.preshared else None) for spec in DEVICES}


def opening(devices: dict[str, Device], now: str) -> str:
    """The INSERT statements for the contracts and for ``devices``. ``now``: a DATETIME in the configured zone."""
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
    spec = device.spec
    texts = (spec.contract, spec.device, spec.interface, spec.address, device.keys.public, device.keys.private,
             device.preshared_key)  # fmt: skip
    parent = int(spec.device.endswith("-001"))
    times = f"{quote(now)}, {quote(now)} + INTERVAL 1 DAY"
    return f"({', '.join(map(quote, texts))}, {parent}, {quote(spec.status)}, {times})"
