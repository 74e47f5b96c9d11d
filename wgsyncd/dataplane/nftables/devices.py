"""From a decision about peers to the devices whose peers are live after it."""

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from wgsyncd.core.model import DeviceRow, PublicKey
from wgsyncd.core.network import Network, Networks, as_networks
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.validate import DesiredPeer
from wgsyncd.core.policies.model import Device

_NOTHING: Mapping[PublicKey, DesiredPeer] = {}


class LiveDevices(NamedTuple):
    """Who has a peer once a decision is applied."""

    devices: tuple[Device, ...]
    kept: Networks  # the allowed IPs of peers that are always kept
    is_partial: bool  # some interface could not be read


def live_devices(
    decision: Decision, rows: Iterable[DeviceRow], always_keep: Set[PublicKey], tunnels: Set[str]
) -> LiveDevices:
    """The devices whose peers stay or come. Peers that stay unchanged although their row is rejected are frozen.

    A peer that no row and no record knows is no device, so nothing lets it through.
    """
    changes = {(one.interface, one.public_key): one for one in decision.plan.changes}
    named = _Named(rows)
    devices: list[Device] = []
    kept: list[Network] = []
    for interface, state in decision.actual.items():
        wants = decision.desired.peers.get(interface, _NOTHING)
        foreign = frozenset(decision.plan.foreign.get(interface, ()))
        for key, found in state.peers.items():
            change = changes.get((interface, key))
            config = found.config if change is None else change.desired
            if key in always_keep:
                kept += found.config.allowed_ips
            elif config is not None and key not in foreign:
                want = wants.get(key)
                row = want.row if want is not None else named.row(key)
                name, owner = (row.device, row.owner) if row is not None else ("", "")
                hosts = _hosts(config.allowed_ips)
                new = tuple(host for host in hosts if host not in found.config.allowed_ips) if change else ()
                devices.append(Device(name, owner, hosts, interface, key, is_frozen=want is None, new_hosts=new))
        for key, want in wants.items():
            if key not in state.peers and (interface, key) in changes:
                hosts = _hosts(want.config.allowed_ips)
                devices.append(
                    Device(want.row.device, want.row.owner, hosts, interface, key, stays=False, new_hosts=hosts)
                )
    # Frozen peers come first, so that no other device takes their address.
    devices.sort(key=lambda device: not device.is_frozen)
    return LiveDevices(tuple(devices), as_networks(kept), bool(tunnels - decision.actual.keys()))


class _Named:
    """Finds the row of a key. Only frozen peers need one, so the table is made late."""

    def __init__(self, rows: Iterable[DeviceRow]) -> None:
        self._rows = rows
        self._known: dict[PublicKey | None, DeviceRow] | None = None

    def row(self, key: PublicKey) -> DeviceRow | None:
        if self._known is None:
            self._known = {row.key: row for row in self._rows}
        return self._known.get(key)


def _hosts(networks: Networks) -> Networks:
    return tuple(net for net in networks if net.prefixlen == 8 * len(net.packed))
