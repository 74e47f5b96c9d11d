"""Finds the contracts that have more devices than their max_devices, and the rows beyond that limit."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from wgsyncd.core.model import DeviceId, DeviceRow, Status
from wgsyncd.core.reasons import Reason, RejectionFacts
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.row_text import DEVICE_NAME, Schema

LIMIT = "max_devices"
_AT_ONCE = 1000  # contracts or devices of one question

# A limit below zero means that there is none, and NULL is no number. The server counts: to read a row for each contract
# would cost the driver as much as a tenth of a plan. A contract's id counts as the rows have it, with its case.
_LIMITS = """
SELECT {contract} AS name, CAST(MAX(c.max_devices) AS SIGNED) AS most, COUNT(*) AS number
FROM {tables} {join} WHERE {where} AND c.max_devices >= 0 AND {wants} GROUP BY BINARY name HAVING {enough}
"""
_COUNTS = "SELECT {contract}, COUNT(*) FROM customer_devices d WHERE {where} GROUP BY d.contract_id"
_OTHERS = "SELECT {contract}, d.id, {device} FROM customer_devices d WHERE {where}"
_FULL = """
SELECT {contract}, CAST(MAX(c.max_devices) AS SIGNED) AS most, COUNT(*) AS number
FROM customer_devices d {join} WHERE {where} GROUP BY d.contract_id HAVING most >= 0 AND number > most
"""


class OverLimit(NamedTuple):
    """A contract with more devices than its limit. ``devices``: how many want a peer, on all nodes."""

    limit: int
    devices: int
    beyond: frozenset[DeviceId]  # the rows that have no place


class _Claim(NamedTuple):
    """A row that wants a peer."""

    id: DeviceId
    device: str


def beyond_limit(limit: int | None, wanting: Iterable[DeviceId], live: Collection[DeviceId]) -> tuple[DeviceId, ...]:
    """The rows of one contract that are beyond its limit. None or a limit below zero: there is no limit.

    ``wanting``: the rows that want a peer, on all nodes. ``live``: those that have one. A live row keeps its place, and
    then the lowest ids have the places that are left.
    """
    if limit is None or limit < 0:
        return ()
    ranked = sorted(wanting, key=lambda row_id: (row_id not in live, row_id))
    return tuple(ranked[limit:])


def load_over_limit(
    connection: Connection, own: OwnRows, schema: Schema, rows: Iterable[DeviceRow]
) -> Mapping[str, OverLimit]:
    """The contracts of own rows that have more devices than their limit, by the contract's id as the rows have it.

    A device that this node or another one has recorded as a peer keeps its place.
    """
    tables, where = own.source()
    contract = schema.as_text("d.contract_id")
    enough = "TRUE" if own.ignored else "number > most"  # devices on other nodes count, too
    found = connection.query(_LIMITS.format(
        contract=contract, tables=tables, join=schema.join, where=where, wants=_wants(schema), enough=enough
    ))  # fmt: skip
    if not found:
        return {}
    limits = {str(name): int(most) for name, most, _ in found}
    numbers = {str(name): int(number) for name, _, number in found}
    if own.ignored:
        asked = _COUNTS.format(contract=contract, where="{where}")
        for name, count in _ask(connection, asked, own, schema, limits):
            numbers[name] = numbers.get(name, 0) + int(count)
    claims: dict[str, list[_Claim]] = {}
    for row in rows:
        if row.owner in limits and numbers[row.owner] > limits[row.owner] and wants_peer(row):
            claims.setdefault(row.owner, []).append(_Claim(row.id, row.device))
    over = list(claims)
    if own.ignored:
        asked = _OTHERS.format(contract=contract, device=DEVICE_NAME, where="{where}")
        for name, row_id, device in _ask(connection, asked, own, schema, over):
            if name in claims:
                claims[name].append(_Claim(row_id, str(device)))
    present = _recorded(connection, [one.device for name in over for one in claims[name]])
    return {name: _over(limits[name], claims[name], present) for name in over}


def load_full(connection: Connection, schema: Schema, rows: Sequence[DeviceRow]) -> Mapping[str, OverLimit]:
    """The contracts of some rows that have more devices than their limit. Any of these rows may be beyond it."""
    claims: dict[str, list[DeviceId]] = {}
    for row in rows:
        if wants_peer(row):
            claims.setdefault(row.owner, []).append(row.id)
    if not claims:
        return {}
    where = f"{_among(sorted(claims))} AND {_wants(schema)}"
    asked = _FULL.format(contract=schema.as_text("d.contract_id"), join=schema.join, where=where)
    return {
        str(name): OverLimit(int(limit), int(number), frozenset(claims[str(name)]))
        for name, limit, number in connection.query(asked) if str(name) in claims
    }  # fmt: skip


def without_beyond(rows: Iterable[DeviceRow], over: Mapping[str, OverLimit]) -> tuple[DeviceRow, ...]:
    """The rows, where those beyond a limit are rejected. A row that is rejected already keeps its reason."""
    return tuple(
        replace(row, fault=Reason.OVER_DEVICE_LIMIT, fault_facts=RejectionFacts(str(over[row.owner].limit)))
        if row.fault is None and row.owner in over and row.id in over[row.owner].beyond
        else row
        for row in rows
    )


def wants_peer(row: DeviceRow) -> bool:
    """Whether a row counts: it wants a peer, or would if its QR code had not ended. Such a row expires soon."""
    return row.status in (Status.ISSUED, Status.ACTIVE) and not row.inactive


def _over(limit: int, claims: Iterable[_Claim], present: Collection[str]) -> OverLimit:
    devices = {one.id: one.device for one in claims}
    live = {row_id for row_id, device in devices.items() if device in present}
    return OverLimit(limit, len(devices), frozenset(beyond_limit(limit, devices, live)))


def _ask(
    connection: Connection, sql: str, own: OwnRows, schema: Schema, contracts: Iterable[str]
) -> Iterator[tuple[str, ...]]:  # fmt: skip
    """Ask about the rows of other nodes that want a peer. Each answer begins with the contract."""
    names = sorted(contracts)
    for at in range(0, len(names), _AT_ONCE):
        where = f"{_among(names[at : at + _AT_ONCE])} AND {own.theirs} AND {_wants(schema)}"
        yield from ((str(one[0]), *one[1:]) for one in connection.query(sql.format(where=where)))


def _recorded(connection: Connection, devices: Sequence[str]) -> set[str]:
    """The devices among these that have a peer on some node, as the records of all nodes say."""
    found: set[str] = set()
    for at in range(0, len(devices), _AT_ONCE):
        asked = ", ".join(map(Connection.quote, devices[at : at + _AT_ONCE]))
        sql = f"SELECT DISTINCT device FROM wgsyncd_peers WHERE device IN ({asked})"  # noqa: S608
        found.update(str(name) for (name,) in connection.query(sql))
    return found


def _among(contracts: Iterable[str]) -> str:
    return f"d.contract_id IN ({', '.join(map(Connection.quote, contracts))})"


def _wants(schema: Schema) -> str:
    deleted = " AND NULLIF(d.deleted_at, 0) IS NULL" if schema.has_deleted_at else ""
    return f"d.status IN ('issued', 'active'){deleted}"
