"""How MariaDB keeps which machine holds a node, and the names of interfaces."""

from __future__ import annotations

from collections.abc import Mapping

from wgsyncd.stores.holding import Dialect
from wgsyncd.stores.mikyun import pieces
from wgsyncd.stores.mikyun.connection import Connection

# The time of now by the server's clock. The session's time zone is an offset, so the conversion is exact.
_NOW = "UNIX_TIMESTAMP(NOW(6))"
_TABLES = ("wgsyncd_peers", "wgsyncd_interfaces")
MARIADB = Dialect(
    prefix="wgsyncd_",
    nodes="wgsyncd_nodes",
    revision="seq",
    now=_NOW,
    machine="SUBSTRING_INDEX(n.machine, '/', 1)",
    beat=f"""
UPDATE wgsyncd_nodes n JOIN wgsyncd_boots b ON b.node = n.node AND b.boot = n.boot
SET n.heartbeat = {_NOW}, n.interfaces = %s, b.last_seen = {_NOW}, b.uptime = {{uptime}}, n.uptime = {{uptime}}
WHERE n.node = %s AND n.machine = %s AND n.boot = %s AND GREATEST(b.uptime, n.uptime) <= {{uptime}}
""",  # noqa: S608
    of_node=("nodes", "boots", "interfaces", "peers", "conditions", "quarantine", "removals", "unwritten", "set_aside"),
)


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
