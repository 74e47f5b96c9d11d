"""Keeps the guard's memory: the removals of the last hour."""

from __future__ import annotations

from collections.abc import Sequence

from wgsyncd.core.state import MEMORY, Removal, remembered
from wgsyncd.stores.mikyun.connection import Connection


def load(connection: Connection, node: str, now: float) -> tuple[Removal, ...]:
    """What the guard remembers at ``now`` (UNIX seconds)."""
    found = connection.query(
        "SELECT removed_at, removed, demanded, peers FROM wgsyncd_removals WHERE node = %s ORDER BY id", (node,)
    )
    return remembered((Removal(*values) for values in found), now)


def save(connection: Connection, node: str, removals: Sequence[Removal]) -> None:
    """Add to the memory in the open transaction, and forget what is too old, as :func:`remembered` does."""
    if not removals:
        return
    now = removals[-1].at
    connection.execute("DELETE FROM wgsyncd_removals WHERE node = %s AND removed_at < %s", (node, now - MEMORY))
    connection.execute(
        "UPDATE wgsyncd_removals SET removed_at = %s WHERE node = %s AND removed_at > %s", (now, node, now)
    )
    for one in removals:
        connection.execute(
            "INSERT INTO wgsyncd_removals (node, removed_at, removed, demanded, peers) VALUES (%s, %s, %s, %s, %s)",
            (node, *one),
        )
