"""The contracts and devices that the application's tables hold when the demo begins."""

from dataclasses import dataclass

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
    wants_peer: bool = True


SCANS = DeviceSpec("0001-DEV-001", "wg0", "10.200.0.11", "issued", has_client=True)
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
LATECOMER = DeviceSpec("0002-DEV-007", "wg1", "10.251.0.27")  # its row comes during a scenario
