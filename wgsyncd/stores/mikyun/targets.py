"""Finds and locks the rows of devices that get a posting or a transition."""

from collections.abc import Collection, Mapping, Sequence

from wgsyncd.core.model import DeviceId
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.row_text import DEVICE_NAME

NO_ROW = -(2**64)  # stands for the row of a device that has none. No row has this id
Target = tuple[DeviceId, str]
"""A row id, and the device that the row had when it was read."""


def lock_devices(
    connection: Connection, node: str, targets: Collection[Target]
) -> tuple[frozenset[Target], Mapping[Target, DeviceId]]:
    """Lock rows of customer_devices for this transaction. ``targets``: row ids, each with its device.

    Returns the targets that another transaction has locked. Waiting for these would delay the posting of all
    other devices until that transaction ends. Returns also the new row of each device whose row is gone, and
    :data:`NO_ROW` for a device without any row. A row that is another device's by now is gone too, except if the
    device was only renamed.
    """
    if not targets:
        return frozenset(), {}
    quote = connection.quote
    wanted = ", ".join(f"({row_id:d}, {quote(name)})" for row_id, name in sorted(targets))
    # The primary key makes the server find and lock the rows in id order. Usually no row is locked by another
    # transaction, and then a count is the whole answer.
    count = f"""SELECT COUNT(*) FROM (SELECT 0 AS id, '' AS device UNION ALL VALUES {wanted}) v
                STRAIGHT_JOIN customer_devices d FORCE INDEX (PRIMARY)
                    ON d.id = v.id AND d.device_id = v.device COLLATE utf8mb4_bin
                FOR UPDATE SKIP LOCKED"""  # noqa: S608
    if connection.query(count)[0][0] == len(targets):
        return frozenset(), {}
    of_ids = f"FORCE INDEX (PRIMARY) WHERE id IN ({', '.join(str(row_id) for row_id, _ in sorted(targets))})"
    there = _rows_of(connection, of_ids)
    gone = sorted((row_id, name) for row_id, name in targets if there.get(row_id) != name)
    names = f"WHERE device_id IN ({', '.join(quote(name) for _, name in gone)})"
    now_at = {name: row_id for row_id, name in _rows_of(connection, names).items()} if gone else {}
    lost = [(row_id, name) for row_id, name in gone if name not in now_at]
    renamed = _renamed(connection, node, lost) if lost else {}
    got = {NO_ROW, *_rows_of(connection, f"{of_ids} FOR UPDATE SKIP LOCKED")}
    if now_at:
        got.update(_rows_of(connection, f"{names} FOR UPDATE SKIP LOCKED"))
    replaced = {one: now_at.get(one[1], renamed.get(one, NO_ROW)) for one in gone}
    return frozenset(one for one in targets if replaced.get(one, one[0]) not in got), replaced


def _renamed(connection: Connection, node: str, targets: Sequence[Target]) -> dict[Target, DeviceId]:
    """The targets whose row has another name, but still the key of the record: the device was renamed."""
    names = ", ".join(connection.quote(name) for _, name in targets)
    ids = ", ".join(str(row_id) for row_id, _ in targets)
    # The records are asked for their device, which has an index.
    found = connection.query(
        f"""SELECT p.row_id, p.device, d.id FROM wgsyncd_peers p STRAIGHT_JOIN customer_devices d ON d.id = p.row_id
            WHERE p.node = %s AND p.device IN ({names}) AND d.id IN ({ids})
              AND CONVERT(d.public_key USING utf8mb4) COLLATE utf8mb4_bin = TO_BASE64(p.public_key)""",  # noqa: S608
        (node,),
    )
    return {(row_id, str(name)): now for row_id, name, now in found}


def _rows_of(connection: Connection, which: str) -> dict[DeviceId, str]:
    """The device of each row, by row id."""
    return dict(connection.query(f"SELECT id, {DEVICE_NAME} FROM customer_devices {which}"))  # noqa: S608


def skip_locked(connection: Connection, ids: Sequence[DeviceId]) -> frozenset[DeviceId]:
    """Lock rows of customer_devices. Returns the ids of those that another transaction has locked."""
    among = f"FORCE INDEX (PRIMARY) WHERE id IN ({', '.join(map(str, ids))})"
    got = _rows_of(connection, f"{among} FOR UPDATE SKIP LOCKED").keys()
    return frozenset(_rows_of(connection, among).keys() - got) if len(got) < len(ids) else frozenset()
