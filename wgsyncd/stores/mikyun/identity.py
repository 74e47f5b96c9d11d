"""What a node is called, and which machine holds it: renamed interfaces, claims, heartbeats and boots."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from wgsyncd.core.identity import LOST_TIME, SILENCE, Heartbeat, Holder, Identity, OtherNode
from wgsyncd.core.records import DOUBT
from wgsyncd.stores.mikyun import pieces, removals
from wgsyncd.stores.mikyun.connection import Connection, Result

# The time of now by the server's clock. The session's time zone is an offset, so the conversion is exact.
_NOW = "UNIX_TIMESTAMP(NOW(6))"
_HOLDER = f"machine, host, boot, heartbeat, {_NOW} - heartbeat, seq"
_TOLERANCE = 1.0  # seconds: clocks are adjusted by less all the time
_BETWEEN = "/"  # no name of an interface has one
_OF_NODE = ("nodes", "boots", "interfaces", "peers", "conditions", "quarantine", "removals", "unwritten", "set_aside")
_TABLES = ("wgsyncd_peers", "wgsyncd_interfaces")


@dataclass(frozen=True, slots=True)
class NodeHolder:
    """Reads and writes the holder of one node.

    The column machine also has the network namespace and the state directory, each after a slash.
    """

    connection: Connection
    node: str
    interfaces: Sequence[str] = ()  # which this node serves

    def load(self) -> Holder | None:
        """The holder. None: the node has no row."""
        found = self._ask(f"SELECT {_HOLDER} FROM wgsyncd_nodes WHERE node = %s")  # noqa: S608
        return _holder(*found[0]) if found else None

    def others(self) -> tuple[OtherNode, ...]:
        """The other nodes that had a holder."""
        sql = f"SELECT node, interfaces, {_HOLDER} FROM wgsyncd_nodes WHERE node <> %s AND machine <> ''"  # noqa: S608
        boots = self.connection.query("SELECT node, boot FROM wgsyncd_boots")
        return tuple(
            OtherNode(
                node,
                _holder(*values),
                frozenset(filter(None, names.split(_BETWEEN))),
                frozenset(boot for one, boot in boots if one == node),
            )
            for node, names, *values in self._ask(sql)
        )

    def _ask(self, sql: str) -> Result:
        """The rows of a SELECT that ends with _HOLDER. None of them has a heartbeat in the future.

        Somebody has set the server's clock back since such a heartbeat. A holder that is gone would keep all others out
        until the clock has that time again. So the heartbeat counts from now on. A holder that lives writes the next
        one soon.
        """
        found = self.connection.query(sql, (self.node,))
        if any(heartbeat and age < -_TOLERANCE for *_, heartbeat, age, _ in found):
            late = f"heartbeat > {_NOW} + {_TOLERANCE}"
            self.connection.execute(f"UPDATE wgsyncd_nodes SET heartbeat = {_NOW} WHERE {late}")  # noqa: S608
            found = self.connection.query(sql, (self.node,))
        return found

    def displace(self, nodes: Collection[str]) -> None:
        """Take the interfaces from other nodes in the open transaction. A daemon of theirs fails at its next commit."""
        if nodes:
            of = f"node IN ({', '.join(map(self.connection.quote, nodes))})"
            self.connection.execute(f"UPDATE wgsyncd_nodes SET seq = seq + 1 WHERE {of}")  # noqa: S608
            names = ", ".join(map(self.connection.quote, self.interfaces))
            sql = f"UPDATE wgsyncd_peers SET epoch = '{DOUBT}' WHERE {of} AND interface IN ({names})"  # noqa: S608
            self.connection.execute(sql)

    def take(self, identity: Identity, uptime: float | None, seen: Holder) -> bool:
        """Make ``identity`` the holder in the open transaction. False if the holder is not ``seen`` any more.

        ``uptime``: see :meth:`wgsyncd.ports.HolderStore.claim`.
        """
        known = seen.identity
        last = "SELECT uptime, boot FROM wgsyncd_nodes WHERE node = %s FOR UPDATE"
        before = self.connection.query(last, (self.node,))
        # The uptime of another boot says nothing about this one. SET works from left to right.
        sql = f"""UPDATE wgsyncd_nodes SET uptime = IF(boot = %s, uptime, 0), machine = %s, host = %s, boot = %s,
                                           interfaces = %s, heartbeat = {_NOW}, seq = seq + 1
                  WHERE node = %s AND machine = %s AND boot = %s AND heartbeat = %s"""  # noqa: S608
        new = (identity.boot, _place(identity), identity.host[:255], identity.boot, _BETWEEN.join(self.interfaces))
        old = (self.node, _place(known), known.boot, seen.heartbeat)
        if self.connection.execute(sql, (*new, *old)) != 1:
            return False
        lasted, boot = before[0]
        goes_on = boot == identity.boot and lasted
        removals.keep(self.connection, self.node, uptime or 0.0, None if goes_on else lasted)
        return True

    def forget_life(self) -> None:
        """Note in the open transaction that no boot of before is alive: an admin has ordered a takeover."""
        self.connection.execute("UPDATE wgsyncd_boots SET last_seen = 0 WHERE node = %s", (self.node,))

    def enter_boot(self, boot: str, uptime: float) -> bool:
        """Note in the open transaction that the node writes in this boot. Whether the boot has come back."""
        here = (self.node, boot)
        known = self.connection.query(
            f"""SELECT %s < GREATEST(b.uptime, n.uptime) OR {_NOW} - b.last_seen - (%s - b.uptime) > {LOST_TIME}
                      OR EXISTS (SELECT 1 FROM wgsyncd_boots o WHERE o.node = b.node AND o.first_seen > b.first_seen)
               FROM wgsyncd_boots b JOIN wgsyncd_nodes n ON n.node = b.node WHERE b.node = %s AND b.boot = %s""",  # noqa: S608
            (uptime, uptime, *here),
        )
        came_back = bool(known and known[0][0])
        if came_back:
            self.connection.execute(
                """UPDATE wgsyncd_peers SET epoch = CONCAT(%s, epoch)
                   WHERE node = %s AND LEFT(epoch, 1) <> %s""",
                (DOUBT, self.node, DOUBT),
            )
            self.connection.execute("DELETE FROM wgsyncd_boots WHERE node = %s AND boot = %s", here)
        self.connection.execute(
            f"""INSERT INTO wgsyncd_boots (node, boot, first_seen, last_seen, uptime)
                VALUES (%s, %s, {_NOW}, {_NOW}, %s)
                ON DUPLICATE KEY UPDATE last_seen = VALUES(last_seen), uptime = VALUES(uptime)""",  # noqa: S608
            (*here, uptime),
        )
        self.connection.execute("UPDATE wgsyncd_nodes SET uptime = %s WHERE node = %s", (uptime, self.node))
        return came_back

    def beat(self, identity: Identity, uptime: float) -> Heartbeat:
        """Write a heartbeat, in one statement."""
        sql = f"""UPDATE wgsyncd_nodes n JOIN wgsyncd_boots b ON b.node = n.node AND b.boot = n.boot
                  SET n.heartbeat = {_NOW}, n.interfaces = %s, b.last_seen = {_NOW}, b.uptime = %s, n.uptime = %s
                  WHERE n.node = %s AND n.machine = %s AND n.boot = %s AND GREATEST(b.uptime, n.uptime) <= %s"""  # noqa: S608
        place = (self.node, _place(identity), identity.boot)
        if self.connection.execute(sql, (_BETWEEN.join(self.interfaces), uptime, uptime, *place, uptime)):
            return Heartbeat.WRITTEN
        sql = "SELECT 1 FROM wgsyncd_nodes WHERE node = %s AND machine = %s AND boot = %s"
        if self.connection.query(sql, place):
            return Heartbeat.CAME_BACK
        sql = f"""SELECT 1 FROM wgsyncd_nodes n JOIN wgsyncd_boots o ON o.node = n.node AND o.boot = n.boot
                  JOIN wgsyncd_boots b ON b.node = n.node AND b.boot = %s AND b.first_seen < o.first_seen
                  WHERE n.node = %s AND SUBSTRING_INDEX(n.machine, '/', 1) = %s AND {_NOW} - b.last_seen < {SILENCE}"""  # noqa: S608
        is_cloned = self.connection.query(sql, (identity.boot, self.node, identity.machine))
        return Heartbeat.CLONED if is_cloned else Heartbeat.LOST

    def release(self, identity: Identity) -> None:
        """Say that the holder has stopped, if it is ``identity``."""
        self.connection.execute(
            "UPDATE wgsyncd_nodes SET heartbeat = 0 WHERE node = %s AND machine = %s AND boot = %s",
            (self.node, _place(identity), identity.boot),
        )


def _holder(place: str, host: str, boot: str, heartbeat: float, age: float, revision: int) -> Holder:
    machine, namespace, folder, *_ = f"{place}//".split("/")
    identity = Identity(machine, namespace, boot, host, folder)
    return Holder(identity, heartbeat, float(age) if heartbeat else None, revision)


def _place(identity: Identity) -> str:
    return f"{identity.machine}/{identity.namespace}/{identity.folder}" if identity.machine else ""


def rename_node(connection: Connection, old: str, new: str) -> None:
    """Give a node another name in the open transaction. A row of the new name in wgsyncd_nodes makes it fail."""
    for table in _OF_NODE:
        connection.execute(f"UPDATE wgsyncd_{table} SET node = %s WHERE node = %s", (new, old))  # noqa: S608


def rename_interfaces(connection: Connection, node: str, renamed: Mapping[str, str | None]) -> None:
    """Change the names of interfaces in the open transaction. See :class:`wgsyncd.core.state.WriteBatch`.

    Two interfaces may have each other's old name. So each one first gets a name that no interface can have.
    """
    meanwhile = {name: f"/{number}" for number, name in enumerate(renamed)}
    for table in _TABLES:
        update = f"UPDATE {table} SET interface = %s WHERE node = %s AND interface = %s"  # noqa: S608

        def delete(name: str, table: str = table) -> None:
            if table == "wgsyncd_peers":
                pieces.close(connection, "node = %s AND interface = %s", (node, name))
            connection.execute(f"DELETE FROM {table} WHERE node = %s AND interface = %s", (node, name))  # noqa: S608

        for old in renamed:
            connection.execute(update, (meanwhile[old], node, old))
        for old, new in renamed.items():
            if new is not None:
                delete(new)
                connection.execute(update, (new, node, meanwhile[old]))
            else:
                delete(meanwhile[old])
