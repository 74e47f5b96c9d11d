"""What a node is called, and which machine runs it: renamed interfaces in the node's own tables."""

from __future__ import annotations

from collections.abc import Mapping

from wgsyncd.stores.mikyun import pieces
from wgsyncd.stores.mikyun.connection import Connection

_TABLES = ("wgsyncd_peers", "wgsyncd_interfaces")


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
