"""Keeps in a SQL database what a node is called, and which machine holds it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from wgsyncd.core.identity import LOST_TIME, NOBODY, SILENCE, Claimed, Heartbeat, Holder, Identity, OtherNode
from wgsyncd.core.records import DOUBT
from wgsyncd.errors import StoreError

_TOLERANCE = 1.0  # seconds: clocks are adjusted by less all the time
_BETWEEN = "/"  # no name of an interface has one


class AnyConnection(Protocol):
    """A connection to a database, with the placeholder %s."""

    def query(self, sql: str, values: Sequence[object] = ()) -> Sequence[tuple[Any, ...]]:
        """The rows of a SELECT."""

    def execute(self, sql: str, values: Sequence[object] = ()) -> int:
        """Run a statement. Returns how many rows it matched."""

    def transaction(self) -> AbstractContextManager[None]:
        """One transaction. An exception in its body rolls it back."""

    def side_query(self, sql: str, values: Sequence[object] = ()) -> Sequence[tuple[Any, ...]] | StoreError:
        """The rows of a SELECT that nothing depends on, or the error with which the server refuses it."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a database names wgsyncd's own tables, and what it says in words of its own."""

    prefix: str  # of the tables
    nodes: str  # the table with a row for each node
    now: str  # UNIX seconds by the server's clock
    machine: str  # the text before the first slash of the column machine
    beat: str  # writes a heartbeat. Values: interfaces, and then node, machine and boot
    of_node: Sequence[str]  # all tables with rows of a node, without the prefix
    removals: str  # the columns of the fields of a removal, in order. The last ones may be missing


@dataclass(frozen=True, slots=True)
class NodeHolder:
    """Reads and writes the holder of one node.

    The column machine also has the network namespace and the state directory, each after a slash.
    """

    connection: AnyConnection
    dialect: Dialect
    node: str
    interfaces: Sequence[str] = ()  # which this node serves

    @property
    def _columns(self) -> str:
        return f"machine, host, boot, heartbeat, {self.dialect.now} - heartbeat, revision"

    def load(self) -> Holder | None:
        """The holder. None: the node has no state."""
        found = self._ask(f"SELECT {self._columns} FROM {self.dialect.nodes} WHERE node = %s")  # noqa: S608
        return _holder(*found[0]) if found else None

    def others(self) -> tuple[OtherNode, ...]:
        """The other nodes that had a holder, as far as this account sees them."""
        sql = f"""SELECT node, interfaces, {self._columns} FROM {self.dialect.nodes}
                  WHERE node <> %s AND machine <> ''"""  # noqa: S608
        boots = self.connection.query(f"SELECT node, boot FROM {self.dialect.prefix}boots")  # noqa: S608
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
        """The rows of a SELECT that ends with the columns of a holder. None of them has a heartbeat in the future.

        Somebody has set the server's clock back since such a heartbeat. A holder that is gone would keep all others out
        until the clock has that time again. So the heartbeat counts from now on. A holder that lives writes the next
        one soon.
        """
        found = self.connection.query(sql, (self.node,))
        if any(heartbeat and age < -_TOLERANCE for *_, heartbeat, age, _ in found):
            now = self.dialect.now
            self.connection.execute(
                f"UPDATE {self.dialect.nodes} SET heartbeat = {now} WHERE heartbeat > {now} + {_TOLERANCE}"  # noqa: S608
            )
            found = self.connection.query(sql, (self.node,))
        return found

    def claim(
        self, identity: Identity, uptime: float | None, seen: Holder | None, displaced: Collection[str],
        tell: Callable[[], object],
    ) -> Claimed:  # fmt: skip
        """See :meth:`wgsyncd.ports.HolderStore.claim`. The node has a state. ``tell`` writes the audit rows."""
        with self.connection.transaction():
            if not self._replace(identity, uptime, seen or Holder(NOBODY, 0.0, None)):
                return Claimed(done=False)
            self._displace(displaced)
            if uptime is None:  # An admin has ordered a takeover: no boot of before is alive.
                sql = f"UPDATE {self.dialect.prefix}boots SET last_seen = 0 WHERE node = %s"  # noqa: S608
                self.connection.execute(sql, (self.node,))
            is_same = seen is not None and seen.identity.machine == identity.machine
            former = seen.identity.boot if seen is not None and is_same else ""
            came_back = uptime is not None and self._enter_boot(identity.boot, uptime, former)
            tell()
        return Claimed(done=True, came_back=came_back)

    def _displace(self, nodes: Collection[str]) -> None:
        """Take the interfaces from other nodes in the open transaction. A daemon of theirs fails at its next commit."""
        if nodes:
            of = f"node IN ({', '.join(['%s'] * len(nodes))})"
            sql = f"UPDATE {self.dialect.nodes} SET revision = revision + 1 WHERE {of}"  # noqa: S608
            self.connection.execute(sql, (*nodes,))
            among = ", ".join(["%s"] * len(self.interfaces))
            sql = f"UPDATE {self.dialect.prefix}peers SET epoch = %s WHERE {of} AND interface IN ({among})"  # noqa: S608
            self.connection.execute(sql, (DOUBT, *nodes, *self.interfaces))

    def _replace(self, identity: Identity, uptime: float | None, seen: Holder) -> bool:
        """Make ``identity`` the holder in the open transaction. False if the holder is not ``seen`` any more.

        ``uptime``: see :meth:`wgsyncd.ports.HolderStore.claim`.
        """
        nodes, known = self.dialect.nodes, seen.identity
        before = self.connection.query(f"SELECT uptime, boot FROM {nodes} WHERE node = %s FOR UPDATE", (self.node,))  # noqa: S608
        # The uptime of another boot says nothing about this one. MariaDB's SET works from left to right.
        sql = f"""UPDATE {nodes} SET uptime = CASE WHEN boot = %s THEN uptime ELSE 0 END, machine = %s, host = %s,
                         boot = %s, interfaces = %s, heartbeat = {self.dialect.now}, revision = revision + 1
                  WHERE node = %s AND machine = %s AND boot = %s AND heartbeat = %s"""  # noqa: S608
        new = (identity.boot, _place(identity), identity.host[:255], identity.boot, _BETWEEN.join(self.interfaces))
        if self.connection.execute(sql, (*new, self.node, _place(known), known.boot, seen.heartbeat)) != 1:
            return False
        lasted, boot = before[0]
        self._keep_removals(uptime or 0.0, None if boot == identity.boot and lasted else lasted)
        return True

    def _keep_removals(self, uptime: float, lasted: float | None) -> None:
        """Let the guard's memory go on by the ``uptime`` of the boot that takes the node, in the open transaction.

        ``lasted``: the last known uptime of another boot. None: the boot is the same. Time between that moment and now
        does not count, because no clock is sure of it. So the guard forgets late rather than early. If this boot was
        put back, later times become now.
        """
        table = f"{self.dialect.prefix}removals"
        if lasted is not None:
            sql = f"UPDATE {table} SET uptime = least(uptime - %s, 0) + %s WHERE node = %s"  # noqa: S608
            self.connection.execute(sql, (lasted, uptime, self.node))
        elif uptime > 0:
            sql = f"UPDATE {table} SET uptime = least(uptime, %s) WHERE node = %s"  # noqa: S608
            self.connection.execute(sql, (uptime, self.node))

    def _enter_boot(self, boot: str, uptime: float, former: str) -> bool:
        """Note in the open transaction that the node writes in this boot. Whether the boot has come back.

        ``former``: the boot in which the same machine wrote before, or "". A container may get another boot id at each
        start, while the kernel and its counters go on. The uptime shows that, so the former boot goes on as this one.
        """
        run, here, prefix, now = self.connection.execute, (self.node, boot), self.dialect.prefix, self.dialect.now
        known = self.connection.query(
            f"""SELECT %s < greatest(b.uptime, n.uptime) OR {now} - b.last_seen - (%s - b.uptime) > {LOST_TIME}
                       OR EXISTS (SELECT 1 FROM {prefix}boots o WHERE o.node = b.node AND o.first_seen > b.first_seen)
                FROM {prefix}boots b JOIN {self.dialect.nodes} n ON n.node = b.node
                WHERE b.node = %s AND b.boot = %s""",  # noqa: S608
            (uptime, uptime, *here),
        )
        sql = f"SELECT 1 FROM {prefix}boots WHERE node = %s AND boot = %s AND {now} - last_seen BETWEEN 0 AND %s"  # noqa: S608
        goes_on = not known and self.connection.query(sql, (self.node, former, uptime - LOST_TIME))
        came_back = bool(goes_on or (known and known[0][0]))
        if came_back:
            run(
                f"""UPDATE {prefix}peers SET epoch = concat('{DOUBT}', replace(epoch, %s, %s))
                    WHERE node = %s AND left(epoch, 1) <> '{DOUBT}'""",  # noqa: S608
                (former if goes_on else boot, boot, self.node),
            )
        if known and not came_back:
            sql = f"UPDATE {prefix}boots SET last_seen = {now}, uptime = %s WHERE node = %s AND boot = %s"  # noqa: S608
            run(sql, (uptime, *here))
        else:
            run(f"DELETE FROM {prefix}boots WHERE node = %s AND boot = %s", here)  # noqa: S608
            into = f"{prefix}boots (node, boot, first_seen, last_seen, uptime)"
            run(f"INSERT INTO {into} VALUES (%s, %s, {now}, {now}, %s)", (*here, uptime))  # noqa: S608
        run(f"UPDATE {self.dialect.nodes} SET uptime = %s WHERE node = %s", (uptime, self.node))  # noqa: S608
        return came_back

    def beat(self, identity: Identity, uptime: float) -> Heartbeat:
        place = (self.node, _place(identity), identity.boot)
        sql = self.dialect.beat.format(uptime=float(uptime))
        if self.connection.execute(sql, (_BETWEEN.join(self.interfaces), *place)):
            return Heartbeat.WRITTEN
        sql = f"SELECT 1 FROM {self.dialect.nodes} WHERE node = %s AND machine = %s AND boot = %s"  # noqa: S608
        if self.connection.query(sql, place):
            return Heartbeat.CAME_BACK
        boots, now = f"{self.dialect.prefix}boots", self.dialect.now
        sql = f"""SELECT 1 FROM {self.dialect.nodes} n JOIN {boots} o ON o.node = n.node AND o.boot = n.boot
                  JOIN {boots} b ON b.node = n.node AND b.boot = %s AND b.first_seen < o.first_seen
                  WHERE n.node = %s AND {self.dialect.machine} = %s AND {now} - b.last_seen < {SILENCE}"""  # noqa: S608
        is_cloned = self.connection.query(sql, (identity.boot, self.node, identity.machine))
        return Heartbeat.CLONED if is_cloned else Heartbeat.LOST

    def release(self, identity: Identity) -> None:
        """Say that the holder has stopped, if it is ``identity``."""
        sql = f"UPDATE {self.dialect.nodes} SET heartbeat = 0 WHERE node = %s AND machine = %s AND boot = %s"  # noqa: S608
        self.connection.execute(sql, (self.node, _place(identity), identity.boot))

    def take_name_from(self, node: str, tell: Callable[[], object]) -> None:
        """Take over all that ``node`` has. It fails if this node has a state. ``tell`` writes the audit rows."""
        with self.connection.transaction():
            for table in self.dialect.of_node:
                sql = f"UPDATE {self.dialect.prefix}{table} SET node = %s WHERE node = %s"  # noqa: S608
                self.connection.execute(sql, (self.node, node))
            tell()

    def approve(self, plan_id: str) -> None:
        """See :meth:`wgsyncd.ports.DeviceSource.approve`."""
        sql = f"UPDATE {self.dialect.nodes} SET approved_plan = %s WHERE node = %s"  # noqa: S608
        if self.connection.execute(sql, (plan_id, self.node)) != 1:
            raise StoreError(f"node {self.node} has no node state yet: has its daemon ever run?")

    def adopt(self, tell: Callable[[], object], *, accepted: bool) -> None:
        """Note whether foreign peers may be removed. ``tell`` writes the audit rows."""
        with self.connection.transaction():
            sql = f"UPDATE {self.dialect.nodes} SET adopted = %s WHERE node = %s"  # noqa: S608
            if not self.connection.execute(sql, (accepted, self.node)):
                why = "start wgsyncd first, it removes no peer yet"
                raise StoreError(f"node {self.node} has no node state yet: {why}")
            tell()


def rename_interfaces(
    connection: AnyConnection,
    dialect: Dialect,
    node: str,
    renamed: Mapping[str, str | None],
    before_delete: Callable[[str], object] = lambda _: None,
) -> None:
    """Change the names of interfaces in the open transaction. See :class:`wgsyncd.core.state.WriteBatch`.

    Two interfaces may have each other's old name. So each one first gets a name that no interface can have.
    ``before_delete`` is called with the name of an interface whose peers are then deleted.
    """
    meanwhile = {name: f"/{number}" for number, name in enumerate(renamed)}
    for table in ("peers", "interfaces"):
        update = f"UPDATE {dialect.prefix}{table} SET interface = %s WHERE node = %s AND interface = %s"  # noqa: S608
        delete = f"DELETE FROM {dialect.prefix}{table} WHERE node = %s AND interface = %s"  # noqa: S608
        for old in renamed:
            connection.execute(update, (meanwhile[old], node, old))
        for old, new in renamed.items():
            gone = meanwhile[old] if new is None else new
            if table == "peers":
                before_delete(gone)
            connection.execute(delete, (node, gone))
            if new is not None:
                connection.execute(update, (new, node, meanwhile[old]))


def _holder(place: str, host: str, boot: str, heartbeat: float, age: float, revision: int) -> Holder:
    machine, namespace, folder, *_ = f"{place}//".split("/")
    identity = Identity(machine, namespace, boot, host, folder)
    return Holder(identity, heartbeat, float(age) if heartbeat else None, revision)


def _place(identity: Identity) -> str:
    return f"{identity.machine}/{identity.namespace}/{identity.folder}" if identity.machine else ""
