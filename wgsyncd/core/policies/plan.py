"""The plan of access: which elements go before the peers change, and the ruleset after that.

An address never passes from one device to another in one step. Its element and its flows go first, then the peers
change, then the other device gets its element.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from wgsyncd.core.network import Network, Networks
from wgsyncd.core.peers.guard import NO_MEMORY, AccessMemory, RemovalLimits
from wgsyncd.core.policies.explain import installed_access
from wgsyncd.core.policies.guard import AccessVerdict, judge_access
from wgsyncd.core.policies.model import (
    NO_ACCESS,
    Access,
    Device,
    Element,
    PolicyFault,
    PolicySettings,
    PolicyTables,
    Ruleset,
    tag,
)
from wgsyncd.core.policies.resolve import Resolver, Rule
from wgsyncd.core.policies.routes import stale_profiles
from wgsyncd.core.records import PeerId

NOTHING = Ruleset()


class AccessChange(NamedTuple):
    """What one device gains and loses."""

    device: str
    before: Access
    after: Access
    owner: str = ""
    rules: tuple[Rule, ...] = ()  # that apply to the device now, in the order in which they decide

    @property
    def gained(self) -> Access:
        """The addresses that the device reaches from now on."""
        return self.after.less(self.before)

    @property
    def lost(self) -> Access:
        """The addresses that the device reaches no more."""
        return self.before.less(self.after)


class AccessCounts(NamedTuple):
    """How many devices get their first access, lose all of it, or get other access."""

    gained: int
    lost: int
    changed: int


@dataclass(frozen=True, slots=True)
class AccessPlan:
    """The changes of the ruleset in one cycle, after the guard."""

    wanted: Ruleset  # after the cycle
    withdrawn: frozenset[Network]  # addresses whose element goes before the peers change
    forgotten: frozenset[Network]  # addresses whose flows are forgotten once their element is gone
    new_hosts: frozenset[Network]  # addresses that peers get in this cycle, from another peer or from nobody
    holders: Mapping[Network, PeerId]  # by address: the peer that must have it before its element is made
    changes: tuple[AccessChange, ...]  # of devices that keep their peer or get one
    held: tuple[AccessChange, ...]  # of the devices that keep their access until an admin approves
    faults: tuple[PolicyFault, ...]
    verdict: AccessVerdict
    stale: frozenset[str]  # ids of the devices whose client routes other addresses
    shared: Mapping[Network, tuple[str, ...]]  # by address that reaches nothing: ids of the devices that have it

    @property
    def plan_id(self) -> str:
        """Names the devices that the guard counted."""
        return self.verdict.plan_id

    @property
    def withheld(self) -> frozenset[str]:
        """Ids of the devices that keep their access until an admin approves the plan."""
        return self.verdict.withheld

    @property
    def counts(self) -> AccessCounts:
        """The numbers of the devices of :attr:`changes`."""
        gained = sum(one.before.is_empty for one in self.changes)
        lost = sum(one.after.is_empty for one in self.changes)
        return AccessCounts(gained, lost, len(self.changes) - gained - lost)


def plan_access(
    devices: Sequence[Device], tables: PolicyTables, settings: PolicySettings, limits: RemovalLimits,
    found: Ruleset | None, approved: str | None, *, tunnels: frozenset[str], kept: Networks = (),
    is_partial: bool = False, memory: AccessMemory = NO_MEMORY,
) -> AccessPlan:  # fmt: skip
    """The plan that turns ``found`` into the ruleset that the policies ask for. ``found``: None if there is no table.

    ``approved``: the plan id that an admin approved, or None. ``memory``: the losses that the guard remembers.
    ``kept``: the allowed IPs of peers that are always kept. ``is_partial``: some interface could not be read, so
    elements whose address no device has stay as they are.

    Devices of two interfaces may have one address, and the ruleset cannot tell them apart. So such an address reaches
    nothing, and the guard does not ask.
    """
    resolver, there = Resolver(tables, settings), found or NOTHING
    shared = _shared(devices)
    before = {device.id: installed_access(device, there) or NO_ACCESS for device in devices if not device.is_frozen}
    after = {
        device.id: resolver.access(device) if shared.keys().isdisjoint(device.hosts) else NO_ACCESS
        for device in devices if not device.is_frozen
    }  # fmt: skip
    counted = frozenset(
        device.id
        for device in devices
        if device.stays and not device.is_frozen and before[device.id] != after[device.id]
        and shared.keys().isdisjoint(device.hosts) and not before[device.id].less(resolver.always).is_empty
        and after[device.id].less(resolver.always).is_empty
    )  # fmt: skip
    is_emptied = not any(rule.allows for rule in resolver.rules)
    verdict = judge_access(counted, len(before), limits, memory, approved, is_emptied=is_emptied)
    held = verdict.withheld
    elements: dict[Network, Element] = {}
    profiles: dict[str, Access] = {}
    names: dict[int, str] = {}  # by object: devices share the objects, and a digest for each device takes long
    for device in devices:
        for host in device.hosts:
            if host in shared:
                continue
            element = there.elements.get(host)
            if device.is_frozen or device.id in held:
                if element is not None and (not device.id or element.device == tag(device.id)):
                    elements[host], profiles[element.profile] = element, there.profiles[element.profile]
                    continue
                if device.is_frozen:
                    continue
            access = after[device.id]
            name = names.get(id(access))
            if name is None:
                name = names[id(access)] = access.profile
                profiles[name] = access
            elements[host] = Element(tag(device.id), name)
    if is_partial:
        held_hosts = {host for device in devices for host in device.hosts}
        for host, element in there.elements.items():
            if host not in held_hosts:
                elements[host], profiles[element.profile] = element, there.profiles[element.profile]
    gone = frozenset(
        host for host, element in there.elements.items()
        if host not in elements or elements[host].device != element.device
    )  # fmt: skip
    # A flow of a new address may be left from the device that had it before a crash or a restart.
    fresh = frozenset(elements.keys() - there.elements.keys())
    wanted = Ruleset(
        tunnels=tunnels,
        dns=tables.dns_servers if settings.dns else frozenset(),
        free=Access.of((*settings.free_sources, *kept)),
        sites=Access.of(kept),
        profiles=profiles,
        elements=elements,
        judges_local=settings.judges_local,
        rejects=settings.rejects,
    )
    changes = [
        AccessChange(device.id, before[device.id], after[device.id], device.owner, resolver.applicable(device))
        for device in devices if not device.is_frozen and before[device.id] != after[device.id]
    ]  # fmt: skip
    return AccessPlan(
        wanted, gone, gone | fresh, frozenset(host for device in devices for host in device.new_hosts),
        holders={host: (device.interface, device.key) for device in devices for host in device.hosts},
        changes=tuple(one for one in changes if one.device not in held),
        held=tuple(one for one in changes if one.device in held),
        faults=resolver.faults, verdict=verdict, stale=stale_profiles(devices, tables, resolver),
        shared={host: tuple(sorted(ids)) for host, ids in sorted(shared.items())},
    )  # fmt: skip


def _shared(devices: Iterable[Device]) -> dict[Network, set[str]]:
    """The addresses that several devices have, and the ids of these devices."""
    first: dict[Network, str] = {}
    shared: dict[Network, set[str]] = {}
    for device in devices:
        for host in device.hosts:
            other = first.setdefault(host, device.id)
            if other != device.id:
                shared.setdefault(host, {other}).add(device.id)
    return shared
