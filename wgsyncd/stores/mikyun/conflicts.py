"""Watches the contracts that have more than one parent device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wgsyncd.core.model import DeviceId, DeviceRow
from wgsyncd.core.state import Condition
from wgsyncd.stores.mikyun.connection import Connection

PARENT_CONFLICT = "parent_conflict"  # the type of this store's own conditions


class ParentConflicts:
    """Asks the view of conflicts where that is needed. The view groups the rows of all nodes, so it costs much."""

    def __init__(self) -> None:
        self._found: frozenset[Condition] | None = None  # None: not asked yet
        self._parents: Mapping[DeviceId, str] | None = None  # the contract of each parent device, when it was asked

    def forget(self) -> None:
        """Ask again the next time."""
        self._found = None

    def load(
        self, connection: Connection, parents: Mapping[DeviceId, str] | None, rows: Iterable[DeviceRow], *, whole: bool
    ) -> frozenset[Condition]:
        """A condition for each contract that has more than one parent device, with their count.

        ``parents``: the contract of each parent device among the own rows. Without a change there, the last answer
        holds. None: unknown. ``whole``: ask about every contract. Otherwise only about the contracts of ``rows``.
        """
        if self._found is None or parents is None or parents != self._parents:
            names = ", ".join(sorted({connection.quote(row.owner) for row in rows})) or "NULL"
            where = "TRUE" if whole else f"contract_id IN ({names})"
            found = connection.query(f"SELECT contract_id, parent_count FROM v_parent_conflicts WHERE {where}")  # noqa: S608
            self._found = frozenset(
                Condition(PARENT_CONFLICT, str(contract), str(contract), str(count)) for contract, count in found
            )
            self._parents = parents
        return self._found
