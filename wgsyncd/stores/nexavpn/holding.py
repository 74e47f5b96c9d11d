"""What a node is called, and which machine holds it: claims, heartbeats, boots and a new name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from wgsyncd.core.identity import LOST_TIME, SILENCE, Heartbeat, Holder, Identity, OtherNode
from wgsyncd.core.records import DOUBT
from wgsyncd.stores.nexavpn.books import NOW
from wgsyncd.stores.nexavpn.connection import Connection

_HOLDER = f"machine, host, boot, heartbeat, {NOW} - heartbeat, revision"
_TOLERANCE = 1.0  # seconds: clocks are adjusted by less all the time
_BETWEEN = "/"  # no name of an interface has one
_OF_NODE = (
    "node_states", "boots", "interfaces", "peers", "conditions", "quarantine", "removals", "unwritten", "buckets",
    "days", "totals",
)  # fmt: skip
_CAME_BACK = f"""
SELECT %s < greatest(b.uptime, n.uptime) OR {NOW} - b.last_seen - (%s - b.uptime) > {LOST_TIME}
       OR EXISTS (SELECT FROM wgsyncd.boots o WHERE o.node = b.node AND o.first_seen > b.first_seen)
FROM wgsyncd.boots b JOIN wgsyncd.node_states n ON n.node = b.node WHERE b.node = %s AND b.boot = %s
"""  # noqa: S608
_BEAT = f"""
WITH beaten AS (
    UPDATE wgsyncd.node_states n SET heartbeat = {NOW}, interfaces = %s, uptime = %s FROM wgsyncd.boots b
    WHERE n.node = %s AND n.machine = %s AND n.boot = %s AND b.node = n.node AND b.boot = n.boot
      AND greatest(b.uptime, n.uptime) <= %s
    RETURNING n.node, n.boot)
UPDATE wgsyncd.boots b SET last_seen = {NOW}, uptime = %s FROM beaten
WHERE b.node = beaten.node AND b.boot = beaten.boot
"""  # noqa: S608
_CLONED = f"""
SELECT 1 FROM wgsyncd.node_states n JOIN wgsyncd.boots o ON o.node = n.node AND o.boot = n.boot
JOIN wgsyncd.boots b ON b.node = n.node AND b.boot = %s AND b.first_seen < o.first_seen
WHERE n.node = %s AND split_part(n.machine, '/', 1) = %s AND {NOW} - b.last_seen < {SILENCE}
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class NodeHolder:
    """Reads and writes the holder of one node.

    The column machine also has the network namespace and the state directory, each after a slash.
    """

    connection: Connection
    node: str
    interfaces: Sequence[str] = ()  # which this node serves

    def load(self) -> Holder | None:
        """The holder. None: the node has no state."""
        found = self._ask(f"SELECT {_HOLDER} FROM wgsyncd.node_states WHERE node = %s")  # noqa: S608
        return _holder(*found[0]) if found else None

    def others(self) -> tuple[OtherNode, ...]:
        """The other nodes of this role that had a holder."""
        sql = f"SELECT node, interfaces, {_HOLDER} FROM wgsyncd.node_states WHERE node <> %s AND machine <> ''"  # noqa: S608
        boots = self.connection.query("SELECT node, boot FROM wgsyncd.boots")
        return tuple(
            OtherNode(
                node,
                _holder(*values),
                frozenset(filter(None, names.split(_BETWEEN))),
                frozenset(boot for one, boot in boots if one == node),
            )
            for node, names, *values in self._ask(sql)
        )

    def _ask(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of a SELECT that ends with _HOLDER. None of them has a heartbeat in the future.

        Somebody has set the server's clock back since such a heartbeat. A holder that is gone would keep all others out
        until the clock has that time again. So the heartbeat counts from now on. A holder that lives writes the next
        one soon.
        """
        found = self.connection.query(sql, (self.node,))
        if any(heartbeat and age < -_TOLERANCE for *_, heartbeat, age, _ in found):
            late = f"heartbeat > {NOW} + {_TOLERANCE}"
            self.connection.execute(f"UPDATE wgsyncd.node_states SET heartbeat = {NOW} WHERE {late}")  # noqa: S608
            found = self.connection.query(sql, (self.node,))
        return found

    def displace(self, nodes: Collection[str]) -> None:
        """Take the interfaces from other nodes in the open transaction. A daemon of theirs fails at its next commit."""
        if nodes:
            some = list(nodes)
            sql = "UPDATE wgsyncd.node_states SET revision = revision + 1 WHERE node = ANY(%s)"
            self.connection.execute(sql, (some,))
            sql = "UPDATE wgsyncd.peers SET epoch = %s WHERE node = ANY(%s) AND interface = ANY(%s)"
            self.connection.execute(sql, (DOUBT, some, list(self.interfaces)))

    def take(self, identity: Identity, uptime: float | None, seen: Holder) -> bool:
        """Make ``identity`` the holder in the open transaction. False if the holder is not ``seen`` any more.

        ``uptime``: see :meth:`wgsyncd.ports.HolderStore.claim`.
        """
        run, known = self.connection, seen.identity
        before = run.query("SELECT uptime, boot FROM wgsyncd.node_states WHERE node = %s FOR UPDATE", (self.node,))
        # The uptime of another boot says nothing about this one.
        sql = f"""UPDATE wgsyncd.node_states SET uptime = CASE WHEN boot = %s THEN uptime ELSE 0 END, machine = %s,
                         host = %s, boot = %s, interfaces = %s, heartbeat = {NOW}, revision = revision + 1
                  WHERE node = %s AND machine = %s AND boot = %s AND heartbeat = %s"""  # noqa: S608
        new = (identity.boot, _place(identity), identity.host, identity.boot, _BETWEEN.join(self.interfaces))
        if run.execute(sql, (*new, self.node, _place(known), known.boot, seen.heartbeat)) != 1:
            return False
        lasted, boot = before[0]
        self._keep_removals(uptime or 0.0, None if boot == identity.boot and lasted else lasted)
        return True

    def _keep_removals(self, uptime: float, lasted: float | None) -> None:
        """Let the guard's memory go on by the ``uptime`` of the boot that takes the node, in the open transaction.

        ``lasted``: the last known uptime of another boot. None: the boot is the same. Time between that moment and now
        does not count, because no clock is sure of it. If this boot was put back, later times become now.
        """
        if lasted is not None:
            sql = "UPDATE wgsyncd.removals SET uptime = least(uptime - %s, 0) + %s WHERE node = %s"
            self.connection.execute(sql, (lasted, uptime, self.node))
        elif uptime > 0:
            sql = "UPDATE wgsyncd.removals SET uptime = least(uptime, %s) WHERE node = %s"
            self.connection.execute(sql, (uptime, self.node))

    def forget_life(self) -> None:
        """Note in the open transaction that no boot of before is alive: an admin has ordered a takeover."""
        self.connection.execute("UPDATE wgsyncd.boots SET last_seen = 0 WHERE node = %s", (self.node,))

    def enter_boot(self, boot: str, uptime: float) -> bool:
        """Note in the open transaction that the node writes in this boot. Whether the boot has come back."""
        run, here = self.connection.execute, (self.node, boot)
        known = self.connection.query(_CAME_BACK, (uptime, uptime, *here))
        came_back = bool(known and known[0][0])
        if came_back:
            sql = "UPDATE wgsyncd.peers SET epoch = %s || epoch WHERE node = %s AND left(epoch, 1) <> %s"
            run(sql, (DOUBT, self.node, DOUBT))
            run("DELETE FROM wgsyncd.boots WHERE node = %s AND boot = %s", here)
        run(
            f"""INSERT INTO wgsyncd.boots (node, boot, first_seen, last_seen, uptime) VALUES (%s, %s, {NOW}, {NOW}, %s)
                ON CONFLICT (node, boot) DO UPDATE SET last_seen = excluded.last_seen, uptime = excluded.uptime""",  # noqa: S608
            (*here, uptime),
        )
        run("UPDATE wgsyncd.node_states SET uptime = %s WHERE node = %s", (uptime, self.node))
        return came_back

    def beat(self, identity: Identity, uptime: float) -> Heartbeat:
        """Write a heartbeat, in one statement."""
        place = (self.node, _place(identity), identity.boot)
        if self.connection.execute(_BEAT, (_BETWEEN.join(self.interfaces), uptime, *place, uptime, uptime)):
            return Heartbeat.WRITTEN
        sql = "SELECT 1 FROM wgsyncd.node_states WHERE node = %s AND machine = %s AND boot = %s"
        if self.connection.query(sql, place):
            return Heartbeat.CAME_BACK
        is_cloned = self.connection.query(_CLONED, (identity.boot, self.node, identity.machine))
        return Heartbeat.CLONED if is_cloned else Heartbeat.LOST

    def release(self, identity: Identity) -> None:
        """Say that the holder has stopped, if it is ``identity``."""
        self.connection.execute(
            "UPDATE wgsyncd.node_states SET heartbeat = 0 WHERE node = %s AND machine = %s AND boot = %s",
            (self.node, _place(identity), identity.boot),
        )

    def rename_from(self, node: str) -> None:
        """Take over all that ``node`` has, in the open transaction. It fails if this node has a state."""
        for table in _OF_NODE:
            self.connection.execute(f"UPDATE wgsyncd.{table} SET node = %s WHERE node = %s", (self.node, node))  # noqa: S608


def _holder(place: str, host: str, boot: str, heartbeat: float, age: float, revision: int) -> Holder:
    machine, namespace, folder, *_ = f"{place}//".split("/")
    identity = Identity(machine, namespace, boot, host, folder)
    return Holder(identity, heartbeat, float(age) if heartbeat else None, revision)


def _place(identity: Identity) -> str:
    return f"{identity.machine}/{identity.namespace}/{identity.folder}" if identity.machine else ""
