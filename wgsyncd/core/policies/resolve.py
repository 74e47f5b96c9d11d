"""Resolves policies: which of them apply to a device, in which order, and what the device may reach.

For each address the applicable policies that cover it are ordered by priority. Of one priority a deny comes before an
allow. The first policy decides, and an address that no policy covers is refused.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

from wgsyncd.core.network import Network, Networks, as_networks, parse_network
from wgsyncd.core.policies.model import (
    NO_ACCESS,
    Access,
    AccessPolicy,
    Device,
    FaultKind,
    PolicyFault,
    PolicySettings,
    PolicyTables,
)

EVERYWHERE = (Network(bytes(4), 0), Network(bytes(16), 0))


class Rule(NamedTuple):
    """A policy that counts, with its texts read."""

    policy: AccessPolicy
    allows: bool
    covers: Access


class Resolver:
    """Resolves the policies of one moment for any device."""

    def __init__(self, tables: PolicyTables, settings: PolicySettings) -> None:
        found: list[PolicyFault] = []
        rules = [_read(one, found) for one in tables.policies if one.is_active and not one.is_deleted]
        sign = 1 if settings.lowest_first else -1
        rules.sort(key=lambda rule: (sign * rule.policy.priority, rule.allows, rule.policy.id))
        self.rules: tuple[Rule, ...] = tuple(rules)
        self.always = Access.of(settings.always)
        self._owners = tables.owners
        self._of_device, self._of_owner = _by_target(self.rules, tables, found)
        self.faults: tuple[PolicyFault, ...] = tuple(found)
        self._painted: dict[tuple[tuple[int, ...], frozenset[int]], Access] = {}

    def applicable(self, device: Device) -> tuple[Rule, ...]:
        """The policies that apply to a device, in the order in which they decide."""
        return tuple(self.rules[number] for number in self._numbers(device))

    def access(self, device: Device) -> Access:
        """What a device may reach at all ports. A destination of an IP version that it has no address of counts not."""
        families = frozenset(len(host.packed) for host in device.hosts)
        numbers = self._numbers(device)
        known = self._painted.get((numbers, families))
        if known is None:
            by_policies = paint(self.rules[number] for number in numbers)
            known = self._painted[numbers, families] = by_policies.plus(self.always).limited_to(families)
        return known

    def _numbers(self, device: Device) -> tuple[int, ...]:
        owner = self._owners.get(device.id, device.owner)
        numbers = self._of_device.get(device.id, frozenset()) | self._of_owner.get(owner, frozenset())
        return tuple(sorted(numbers))


def paint(rules: Iterable[Rule]) -> Access:
    """What the policies allow together. They come in the order in which they decide."""
    layers = [(rule.covers if rule.allows else NO_ACCESS, rule.covers) for rule in rules]
    while len(layers) > 1:  # two neighbours become one layer, so that the time grows with n log n
        pairs = zip_longest(layers[::2], layers[1::2], fillvalue=(NO_ACCESS, NO_ACCESS))
        layers = [(first.plus(then.less(over)), over.plus(under)) for (first, over), (then, under) in pairs]
    return layers[0][0] if layers else NO_ACCESS


def rule_of(policy: AccessPolicy) -> Rule:
    """A policy with its texts read, whether it counts or not."""
    return _read(policy, [])


def _read(policy: AccessPolicy, faults: list[PolicyFault]) -> Rule:
    """The rule of a policy. Each doubt is decided against access, and adds to ``faults``."""
    effect = policy.effect.strip().lower()
    if effect not in ("allow", "deny"):
        faults.append(PolicyFault(policy.id, policy.name, FaultKind.EFFECT, policy.effect))
    allows = effect == "allow"
    covers, unreadable = _covered(policy.destinations, is_full=policy.full_tunnel, allows=allows)
    faults += (PolicyFault(policy.id, policy.name, FaultKind.DESTINATION, text) for text in unreadable)
    return Rule(policy, allows, covers)


@lru_cache(maxsize=1024)  # each cycle reads the same policies, and to read their texts would be most of its plan
def _covered(destinations: tuple[str, ...], *, is_full: bool, allows: bool) -> tuple[Access, tuple[str, ...]]:
    """The addresses of a policy, and the destinations that cannot be read."""
    networks: list[Network] = list(EVERYWHERE) if is_full else []
    unreadable: list[str] = []
    for text in destinations:
        try:
            networks.append(parse_network(text))
        except ValueError:
            unreadable.append(text)
            networks += () if allows else _widest(text)
    return Access.of(as_networks(networks)), tuple(unreadable)


def _widest(text: str) -> Networks:
    """The most that an unreadable destination may mean: the network around an address, or everything."""
    try:
        net = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return EVERYWHERE
    return (Network(net.network_address.packed, net.prefixlen),)


Numbers = Mapping[str, frozenset[int]]
"""By the id of a device or an owner: the places of its policies in the order of all."""


def _by_target(rules: tuple[Rule, ...], tables: PolicyTables, faults: list[PolicyFault]) -> tuple[Numbers, Numbers]:
    groups = {group.id: group.members for group in tables.groups if not group.is_deleted}
    of_device: dict[str, set[int]] = {}
    of_owner: dict[str, set[int]] = {}
    for number, (policy, _, _) in enumerate(rules):
        if not policy.targets:
            faults.append(PolicyFault(policy.id, policy.name, FaultKind.NO_TARGET, ""))
        for kind, target in policy.targets:
            if kind == "device":
                of_device.setdefault(target, set()).add(number)
            elif kind == "user":
                of_owner.setdefault(target, set()).add(number)
            elif kind == "group":
                for member in groups.get(target, ()):
                    of_owner.setdefault(member, set()).add(number)
            else:
                faults.append(PolicyFault(policy.id, policy.name, FaultKind.TARGET, kind))
    return _frozen(of_device), _frozen(of_owner)


def _frozen(found: Mapping[str, set[int]]) -> Numbers:
    return {key: frozenset(numbers) for key, numbers in found.items()}
