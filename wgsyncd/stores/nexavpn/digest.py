"""Reads the digest of everything that a plan depends on, as cheaply as the server allows."""

import math
import time
from collections.abc import Callable, Mapping

from wgsyncd.stores.nexavpn.connection import Connection

_SHARE = 100  # the digest takes at most one part in so many of the time
_USUAL = 0.25  # seconds between two looks by default: so far apart are two digests anyhow
_TABLES = {
    "wireguard_peers": "id, device_id, gateway_id, public_key, assigned_ip, preshared_key_ciphertext, created_at,"
    " deleted_at",
    "devices": "id, user_id, gateway_id, public_key, status, approved_at, revoked_at, deleted_at",
    "users": "id, username, is_active, deleted_at",
    "gateways": "id, name, public_key, listen_port, vpn_cidr, is_active, deleted_at",
    "ip_allocations": "gateway_id, device_id, address, status, released_at",
}
_POLICY_TABLES = {
    "gateways": "id, name, public_key, listen_port, vpn_cidr, is_active, deleted_at, dns_servers",
    "policies": "id, name, priority, effect, is_active, full_tunnel, deleted_at",
    "policy_targets": "policy_id, target_type, target_id",
    "policy_destinations": "policy_id, destination",
    "groups": "id, deleted_at",
    "group_memberships": "group_id, user_id",
}
_GROUP_TABLES = {"groups": "id, name, deleted_at", "group_memberships": "group_id, user_id"}
# A sum over the rows of one table, so their order does not matter, and no join is needed. The hash has 64 bits.
_SUM = "(SELECT concat(count(*), ' ', sum(hash_record_extended(ROW({columns}), 0))) FROM wgsyncd.{table})"
_STATE = """(SELECT concat(adopted, approved_plan, ' ',
                       (SELECT count(*) FROM wgsyncd.quarantine q WHERE q.node = s.node))
 FROM wgsyncd.node_states s WHERE s.node = %s)"""
_SNAPSHOT = "SELECT pg_current_snapshot()::text"


def _digest_of(tables: Mapping[str, str]) -> str:
    sums = [_SUM.format(columns=columns, table=table) for table, columns in tables.items()]
    return f"SELECT concat_ws(' ', {', '.join((*sums, _STATE))})"


class Digest:
    """Reads the digest of one node. The same snapshot of the server is the same data, so it needs no digest.

    ``with_policies``: the plan depends on policies, too. ``with_groups``: on the names of groups.
    """

    def __init__(
        self, node: str, clock: Callable[[], float] = time.monotonic, *, with_policies: bool = False,
        with_groups: bool = False,
    ) -> None:  # fmt: skip
        self._node, self._clock = node, clock
        more = {**(_POLICY_TABLES if with_policies else {}), **(_GROUP_TABLES if with_groups else {})}
        self._sql = _digest_of({**_TABLES, **more})
        self._snapshot = ""
        self._digest: object = None
        self._again = 0.0  # monotonic: not before
        self._cost = math.inf  # seconds that a digest takes

    def forget(self) -> None:
        """Read the next digest in any case: another server may answer."""
        self._snapshot, self._again = "", 0.0

    def read(self, connection: Connection, *, at_once: bool = False) -> object:
        """The present digest. After a costly one, the last one is returned for a while, but not ``at_once``."""
        snapshot = connection.query(_SNAPSHOT)[0][0]
        waits = self._digest is not None and self._clock() < self._again and not at_once
        if snapshot == self._snapshot or waits:
            return self._digest
        begun = self._clock()
        # The snapshot is older than the digest. So a change in between only makes the next look read it again.
        self._digest = connection.query(self._sql, (self._node,), often=True)[0][0]
        self._snapshot = snapshot
        now = self._clock()
        self._cost = min(now - begun, 2 * self._cost)  # one that was slow by chance holds up little
        self._again = now + _SHARE * self._cost - _USUAL
        return self._digest
