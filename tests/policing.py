"""Policies, devices and rulesets for tests, and an oracle that judges one address at a time."""

from __future__ import annotations

from collections.abc import Sequence

from tests.samples import key
from wgsyncd.core.model import DeviceId
from wgsyncd.core.network import Network, as_networks, parse_host, parse_network
from wgsyncd.core.policies.model import (
    Access,
    AccessPolicy,
    Device,
    Element,
    Group,
    PolicySettings,
    PolicyTables,
    Ruleset,
    Target,
    tag,
)


def device(number: int, *hosts: str, owner: str = "", interface: str = "wg0", frozen: bool = False, stays: bool = True) -> Device:  # fmt: skip
    """A device with the id ``dev-NUMBER``. Its owner is ``user-NUMBER`` if the test names none."""
    addresses = as_networks(map(parse_host, hosts or (f"10.8.0.{number}",)))
    return Device(
        f"dev-{number}", owner or f"user-{number}", addresses, interface, key(number), is_frozen=frozen, stays=stays
    )


def policy(
    number: DeviceId, effect: str, *destinations: str, to: Sequence[tuple[str, str]] = (("user", "user-2"),),
    priority: int = 100, full: bool = False, active: bool = True, deleted: bool = False,
) -> AccessPolicy:  # fmt: skip
    """A policy for the owner of device 2, if the test names no other targets."""
    targets = tuple(Target(kind, target) for kind, target in to)
    return AccessPolicy(number, f"policy {number}", priority, effect, targets, destinations, full, active, deleted)


def tables(*policies: AccessPolicy, groups: Sequence[Group] = (), dns: Sequence[str] = ()) -> PolicyTables:
    """What the tables say."""
    return PolicyTables(policies, tuple(groups), frozenset(map(parse_host, dns)))


def networks(*texts: str) -> Access:
    """The addresses of these networks."""
    return Access.of(as_networks(map(parse_network, texts)))


def ruleset(*elements: tuple[Device, Access], tunnels: Sequence[str] = ("wg0",)) -> Ruleset:
    """A ruleset with the elements of these devices."""
    return Ruleset(
        tunnels=frozenset(tunnels),
        profiles={access.profile: access for _, access in elements},
        elements={
            host: Element(tag(device.id), access.profile) for device, access in elements for host in device.hosts
        },
    )


def is_allowed(device: Device, address: Network, tables: PolicyTables, settings: PolicySettings) -> bool:
    """The oracle: whether a device may reach one host. It follows the words of the contract, one policy after another."""
    if not any(len(host) == len(address) for host in device.hosts):
        return False
    if any(net.covers(address) for net in settings.always):
        return True
    mine = {("device", device.id), ("user", device.owner)}
    mine |= {("group", group.id) for group in tables.groups if not group.is_deleted and device.owner in group.members}
    covering = []
    for one in tables.policies:
        counts = one.is_active and not one.is_deleted and any(tuple(target) in mine for target in one.targets)
        covers = one.full_tunnel or any(parse_network(text).covers(address) for text in one.destinations)
        if counts and covers:
            covering.append(one)
    if not covering:
        return False
    best = (min if settings.lowest_first else max)(one.priority for one in covering)
    return all(one.effect.strip().lower() == "allow" for one in covering if one.priority == best)
