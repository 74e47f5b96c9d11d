"""Stale profiles: a client routes other addresses into its tunnel than its policies are about.

The application wrote the client's routes when it issued the profile. Policies may have changed since then. The packet
filter follows the policies alone, so a stale profile gives nobody access. But its device does not reach what it may.
"""

from collections.abc import Iterable

from wgsyncd.core.network import Networks
from wgsyncd.core.policies.model import Access, Device, PolicyTables
from wgsyncd.core.policies.resolve import Resolver


def stale_profiles(devices: Iterable[Device], tables: PolicyTables, resolver: Resolver) -> frozenset[str]:
    """Ids of the devices whose routes lack an address that they may reach, or have one that no policy of theirs allows.

    A route may include addresses that another policy denies: a profile has no exceptions. DNS servers and addresses
    that every device reaches may be among the routes, or not.
    """
    known: dict[tuple[int, Networks], bool] = {}  # by object: devices share them
    stale = set[str]()
    for device in devices:
        routes = tables.routes.get(device.id)
        if routes is None or device.is_frozen:
            continue
        key = id(resolver.access(device)), routes
        if key not in known:
            known[key] = _differs(device, routes, tables, resolver)
        if known[key]:
            stale.add(device.id)
    return frozenset(stale)


def _differs(device: Device, routes: Networks, tables: PolicyTables, resolver: Resolver) -> bool:
    families = frozenset(len(host.packed) for host in device.hosts)
    routed = Access.of(routes).limited_to(families)
    meant = resolver.always.plus(Access.of(tuple(tables.dns_servers)))
    for rule in resolver.applicable(device):
        meant = meant.plus(rule.covers) if rule.allows else meant
    lacks = resolver.access(device).less(resolver.always).less(routed)
    return not (lacks.is_empty and routed.less(meant.limited_to(families)).is_empty)
