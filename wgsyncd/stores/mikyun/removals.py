"""Keeps the guard's memory: the removals of the last hour."""

from collections.abc import Sequence

from wgsyncd.core.state import MEMORY, Removal
from wgsyncd.stores.mikyun.connection import Connection


def load(connection: Connection, node: str) -> tuple[Removal, ...]:
    """What the guard remembers. Some may be older than an hour."""
    found = connection.query(
        "SELECT uptime, removed, demanded, peers FROM wgsyncd_removals WHERE node = %s ORDER BY id", (node,)
    )
    return tuple(Removal(*values) for values in found)


def save(connection: Connection, node: str, removals: Sequence[Removal]) -> None:
    """Add to the memory in the open transaction, and forget what is too old, as :func:`remembered` does."""
    if not removals:
        return
    now = removals[-1].at
    connection.execute("DELETE FROM wgsyncd_removals WHERE node = %s AND uptime < %s", (node, now - MEMORY))
    connection.execute("UPDATE wgsyncd_removals SET uptime = %s WHERE node = %s AND uptime > %s", (now, node, now))
    for one in removals:
        connection.execute(
            "INSERT INTO wgsyncd_removals (node, uptime, removed, demanded, peers) VALUES (%s, %s, %s, %s, %s)",
            (node, *one[:4]),  # This control plane has no policies, so no loss of access
        )
