"""Reads what the tables say about access, in the transaction of the snapshot."""

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from wgsyncd import log
from wgsyncd.core.network import Network, Networks, as_networks, parse_host, parse_network
from wgsyncd.core.policies.model import AccessPolicy, Group, PolicySettings, PolicyTables, Target
from wgsyncd.core.policies.resolve import Resolver
from wgsyncd.core.state import Condition
from wgsyncd.stores.nexavpn.connection import Connection
from wgsyncd.stores.nexavpn.rows import text_of

_POLICIES = f"""
SELECT id, {text_of("name")}, coalesce(priority, 100), {text_of("effect")}, full_tunnel, is_active,
    deleted_at IS NOT NULL
FROM wgsyncd.policies ORDER BY id
"""  # noqa: S608
_TARGETS = f"SELECT policy_id, {text_of('target_type')}, target_id::text FROM wgsyncd.policy_targets ORDER BY id"  # noqa: S608
_DESTINATIONS = "SELECT policy_id, destination::text FROM wgsyncd.policy_destinations ORDER BY id"
_GROUPS = f"""
SELECT g.id::text, g.deleted_at IS NOT NULL, {text_of("g.name")}, m.user_id::text
FROM wgsyncd.groups g JOIN wgsyncd.group_memberships m ON m.group_id = g.id
"""  # noqa: S608
_OWNERS = "SELECT id::text, user_id::text FROM wgsyncd.devices"
_DNS = f"""
SELECT DISTINCT {text_of("one")} FROM wgsyncd.gateways, unnest(dns_servers) AS one WHERE id = ANY(%s) ORDER BY 1
"""  # noqa: S608


POLICY_FAULTY = "policy_faulty"  # the type of the condition of a policy whose texts leave a doubt


_ROUTES = """
SELECT p.allowed_ips::text[], array_agg(p.device_id::text)
FROM wgsyncd.wireguard_peers p JOIN wgsyncd.devices d ON d.id = p.device_id AND d.public_key = p.public_key
WHERE p.deleted_at IS NULL GROUP BY 1
"""
_AGAIN = 300.0  # seconds: so often the routes of clients are read, or when policies have changed


class PolicyReader:
    """Reads the policies that reach the devices of this node. The views show no others."""

    def __init__(self) -> None:
        self._log, self._changed = log.get("store"), log.OnChange()
        self._policies: tuple[AccessPolicy, ...] = ()  # as last read
        self._faulty: frozenset[Condition] = frozenset()  # what is wrong with them
        self._routes: Mapping[str, Networks] = {}  # of clients, by device
        self._routes_at = -_AGAIN  # monotonic seconds when they were read

    def load(self, connection: Connection, gateways: Collection[str]) -> PolicyTables:
        """What the tables say now. ``gateways``: ids of the gateways whose DNS servers every device reaches."""
        targets = _by_policy(connection.query(_TARGETS, often=True))
        destinations = _by_policy(connection.query(_DESTINATIONS, often=True))
        found = connection.query(_POLICIES, often=True)
        policies = tuple(
            AccessPolicy(
                number, name, priority, effect, tuple(Target(*one) for one in targets.get(number, ())),
                tuple(text for (text,) in destinations.get(number, ())), full_tunnel, is_active, is_deleted,
            )
            for number, name, priority, effect, full_tunnel, is_active, is_deleted in found
        )  # fmt: skip
        members: dict[tuple[str, bool, str], set[str]] = {}
        for *group, user in connection.query(_GROUPS, often=True):
            members.setdefault(tuple(group), set()).add(user)
        groups = tuple(Group(one, frozenset(users), gone, name) for (one, gone, name), users in sorted(members.items()))
        now = time.monotonic()
        if policies != self._policies or now - self._routes_at >= _AGAIN:
            self._policies, self._faulty = policies, _faulty(policies)
            self._routes, self._routes_at = _routes(connection), now
        owners: dict[str, str] = dict(connection.query(_OWNERS, often=True))
        return PolicyTables(policies, groups, self._dns(connection, gateways), self._routes, owners)

    @property
    def conditions(self) -> frozenset[Condition]:
        """The faulty policies of the last :meth:`load`."""
        return self._faulty

    def name_of(self, policy: str) -> str:
        """What people call a policy of the last :meth:`load`, else ""."""
        return next((one.name for one in self._policies if str(one.id) == policy), "")

    def _dns(self, connection: Connection, gateways: Collection[str]) -> frozenset[Network]:
        """The DNS servers. A text that is no address lets nothing through, and is told once."""
        found: set[Network] = set()
        wrong: list[str] = []
        for (text,) in connection.query(_DNS, ([UUID(one) for one in gateways],), often=True):
            try:
                found.add(parse_host(text))
            except ValueError:
                wrong.append(text)
        if self._changed("dns", tuple(wrong)) and wrong:
            self._log.warning("gateways.dns_servers has a text that is no address: no access", text=wrong[0][:45])
        return frozenset(found)


def _faulty(policies: tuple[AccessPolicy, ...]) -> frozenset[Condition]:
    kinds: dict[str, list[str]] = {}
    for fault in Resolver(PolicyTables(policies), PolicySettings()).faults:
        kinds.setdefault(str(fault.policy), []).append(fault.kind.value)
    return frozenset(
        Condition(POLICY_FAULTY, policy, policy, ", ".join(dict.fromkeys(some))) for policy, some in kinds.items()
    )


def _routes(connection: Connection) -> Mapping[str, Networks]:
    """What clients route, by device. Devices with the same routes share one object."""
    found: dict[str, Networks] = {}
    for routes, devices in connection.query(_ROUTES):
        found |= dict.fromkeys(devices, as_networks(parse_network(one) for one in routes or () if one))
    return found


def _by_policy(rows: Iterable[Any]) -> dict[UUID, list[tuple[str, ...]]]:
    """The rows by their first column, the id of the policy."""
    found: dict[UUID, list[tuple[str, ...]]] = {}
    for policy, *rest in rows:
        found.setdefault(policy, []).append(tuple(rest))
    return found
