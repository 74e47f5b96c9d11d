"""Explains for one device which policies apply, and why it may or may not reach one address."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.policies.model import Access, AccessPolicy, Device, PolicySettings, PolicyTables, Ruleset, tag
from wgsyncd.core.policies.ranges import contains
from wgsyncd.core.policies.resolve import Resolver, Rule


class Why(StrEnum):
    """Why an address is allowed or refused."""

    ALWAYS = "always"  # every device reaches it
    POLICY = "policy"  # the first policy that covers it decides
    NO_POLICY = "no policy"  # no policy that applies covers it
    NO_ADDRESS = "no address"  # the device has no address of this IP version


class Verdict(NamedTuple):
    """Whether a device may reach an address, and what decides this."""

    allowed: bool
    why: Why
    policy: AccessPolicy | None  # the policy that decides, if one does
    overruled: tuple[AccessPolicy, ...]  # later policies that cover the address, too
    dns: bool  # the address is a DNS server, which every device reaches at port 53
    installed: bool | None  # whether the ruleset allows it now. None: it has no element of the device for it


def rules_of(device: Device, tables: PolicyTables, settings: PolicySettings) -> tuple[tuple[Rule, ...], Access]:
    """The policies that apply to a device, in the order in which they decide, and what follows from them."""
    resolver = Resolver(tables, settings)
    return resolver.applicable(device), resolver.access(device)


def explain_address(
    device: Device, to: Network, tables: PolicyTables, settings: PolicySettings, found: Ruleset | None
) -> Verdict:
    """Whether a device may reach the host ``to`` by its policies, and by the ruleset ``found``."""
    resolver = Resolver(tables, settings)
    covering = [rule for rule in resolver.applicable(device) if _covers(rule.covers, to)]
    dns = settings.dns and to in tables.dns_servers
    installed = _installed(device, to, found)
    if not any(len(host) == len(to) for host in device.hosts):
        return Verdict(False, Why.NO_ADDRESS, None, (), dns, installed)
    later = tuple(rule.policy for rule in covering[1:])
    if _covers(resolver.always, to):
        return Verdict(True, Why.ALWAYS, None, tuple(rule.policy for rule in covering), dns, installed)
    if not covering:
        return Verdict(False, Why.NO_POLICY, None, (), dns, installed)
    return Verdict(covering[0].allows, Why.POLICY, covering[0].policy, later, dns, installed)


def _covers(access: Access, host: Network) -> bool:
    ranges = access.v4 if len(host.packed) == 4 else access.v6
    return contains(ranges, int.from_bytes(host.packed))


def _installed(device: Device, to: Network, found: Ruleset | None) -> bool | None:
    """What the element of the device's address of the same IP version says about an address."""
    for host in device.hosts:
        element = found.elements.get(host) if found is not None else None
        if found is not None and element is not None and len(host) == len(to) and element.device == tag(device.id):
            return _covers(found.profiles[element.profile], to)
    return None
