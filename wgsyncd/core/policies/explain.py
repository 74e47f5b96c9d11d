"""Explains for one device which policies apply, and why it may or may not reach one address."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.network import Network, parse_network
from wgsyncd.core.policies.model import (
    NO_ACCESS,
    Access,
    AccessPolicy,
    Device,
    PolicySettings,
    PolicyTables,
    Ruleset,
    Target,
    tag,
)
from wgsyncd.core.policies.ranges import contains
from wgsyncd.core.policies.resolve import Resolver, Rule, rule_of

FULL_TUNNEL = "full tunnel"  # a policy that covers all addresses


class Why(StrEnum):
    """Why an address is allowed or refused."""

    ALWAYS = "always"  # every device reaches it
    POLICY = "policy"  # the first policy that covers it decides
    NO_POLICY = "no policy"  # no policy that applies covers it
    NO_ADDRESS = "no address"  # the device has no address of this IP version


class Missed(StrEnum):
    """Why a policy that would allow an address does not count for a device."""

    DELETED = "deleted"
    INACTIVE = "inactive"
    GROUP_DELETED = "group deleted"  # it applies through deleted groups alone
    NOT_TARGETED = "not targeted"


class Verdict(NamedTuple):
    """Whether a device may reach an address, and what decides this."""

    allowed: bool
    why: Why
    rule: Rule | None  # the policy that decides, if one does
    range: str  # the destination of that policy that covers the address, as the table has it. FULL_TUNNEL, or ""
    overruled: tuple[Rule, ...]  # later policies that cover the address, too
    missed: tuple[tuple[AccessPolicy, Missed], ...]  # of a refused address: policies that would allow it
    dns: bool  # the address is a DNS server, which every device reaches at port 53
    installed: bool | None  # whether the ruleset allows it now. None: it has no element of the device for it


class AppliedRule(NamedTuple):
    """A policy that applies to a device, and the targets by which it does."""

    rule: Rule
    targets: tuple[Target, ...]


def rules_of(device: Device, tables: PolicyTables, settings: PolicySettings) -> tuple[tuple[AppliedRule, ...], Access]:
    """The policies that apply to a device, in the order in which they decide, and what follows from them."""
    resolver = Resolver(tables, settings)
    applied = (AppliedRule(rule, _targets(device, rule.policy, tables)) for rule in resolver.applicable(device))
    return tuple(applied), resolver.access(device)


def explain_address(
    device: Device, to: Network, tables: PolicyTables, settings: PolicySettings, found: Ruleset | None
) -> Verdict:
    """Whether a device may reach the host ``to`` by its policies, and by the ruleset ``found``."""
    resolver = Resolver(tables, settings)
    covering = tuple(rule for rule in resolver.applicable(device) if _covers(rule.covers, to))
    dns = settings.dns and to in tables.dns_servers
    installed = _installed(device, to, found)
    if not any(len(host) == len(to) for host in device.hosts):
        return Verdict(False, Why.NO_ADDRESS, None, "", (), (), dns, installed)
    if _covers(resolver.always, to):
        return Verdict(True, Why.ALWAYS, None, "", covering, (), dns, installed)
    if not covering:
        return Verdict(False, Why.NO_POLICY, None, "", (), _missed(device, to, tables), dns, installed)
    first, *later = covering
    missed = () if first.allows else _missed(device, to, tables)
    return Verdict(first.allows, Why.POLICY, first, _range(first, to), tuple(later), missed, dns, installed)


def installed_access(device: Device, found: Ruleset) -> Access | None:
    """What the ruleset lets a device reach now. None: it has no element of the device."""
    access: Access | None = None
    for host in device.hosts:
        element = found.elements.get(host)
        if element is not None and element.device == tag(device.id):
            own = found.profiles[element.profile].limited_to(frozenset((len(host.packed),)))
            access = own.plus(access or NO_ACCESS)
    return access


class Decided(NamedTuple):
    """Addresses about which one policy decides."""

    access: Access
    rule: Rule | None  # None: no policy covers them


def split_by_rule(access: Access, rules: Iterable[Rule]) -> Iterator[Decided]:
    """Split addresses by the policy that decides about them. ``rules``: in the order in which they decide."""
    for rule in rules:
        left = access.less(rule.covers)
        if left != access:
            yield Decided(access.less(left), rule)
            access = left
    if not access.is_empty:
        yield Decided(access, None)


def _covers(access: Access, host: Network) -> bool:
    ranges = access.v4 if len(host.packed) == 4 else access.v6
    return contains(ranges, int.from_bytes(host.packed))


def _range(rule: Rule, to: Network) -> str:
    """The narrowest destination that covers an address. An unreadable one of a deny is the text as it stands."""
    readable: list[Network] = []
    others: list[str] = []
    for text in rule.policy.destinations:
        try:
            readable.append(parse_network(text))
        except ValueError:
            others.append(text)
    found = max((net for net in readable if net.covers(to)), key=lambda net: net.prefixlen, default=None)
    if found is not None:
        return str(found)
    return FULL_TUNNEL if rule.policy.full_tunnel else ", ".join(others)


def _targets(device: Device, policy: AccessPolicy, tables: PolicyTables) -> tuple[Target, ...]:
    """The targets by which a policy applies to a device."""
    owner = tables.owners.get(device.id, device.owner)
    mine = {("device", device.id), ("user", owner)}
    mine |= {("group", group.id) for group in tables.groups if not group.is_deleted and owner in group.members}
    return tuple(target for target in policy.targets if target in mine)


def _missed(device: Device, to: Network, tables: PolicyTables) -> tuple[tuple[AccessPolicy, Missed], ...]:
    """The policies that would allow an address if they counted for the device, the nearest ones first."""
    owner = tables.owners.get(device.id, device.owner)
    left = {("group", group.id) for group in tables.groups if group.is_deleted and owner in group.members}
    missed: list[tuple[AccessPolicy, Missed]] = []
    for policy in tables.policies:
        rule = rule_of(policy)
        if not rule.allows or not _covers(rule.covers, to):
            continue
        if _targets(device, policy, tables):
            if policy.is_deleted or not policy.is_active:
                missed.append((policy, Missed.DELETED if policy.is_deleted else Missed.INACTIVE))
        elif policy.is_active and not policy.is_deleted:
            through = any(target in left for target in policy.targets)
            missed.append((policy, Missed.GROUP_DELETED if through else Missed.NOT_TARGETED))
    order = list(Missed)
    return tuple(sorted(missed, key=lambda one: (order.index(one[1]), one[0].priority, one[0].name)))


def _installed(device: Device, to: Network, found: Ruleset | None) -> bool | None:
    """What the element of the device's address of the same IP version says about an address."""
    for host in device.hosts:
        element = found.elements.get(host) if found is not None else None
        if found is not None and element is not None and len(host) == len(to) and element.device == tag(device.id):
            return _covers(found.profiles[element.profile], to)
    return None
