"""Watches the contracts that have more than one parent device."""

import time
from collections.abc import Callable, Iterable, Mapping

from wgsyncd import log
from wgsyncd.core.model import DeviceId, DeviceRow
from wgsyncd.core.state import Condition
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows

PARENT_CONFLICT = "parent_conflict"  # the type of this store's own conditions
RETRY = 60.0  # seconds until a view that could not be read is asked again


class ParentConflicts:
    """Asks the view of conflicts where that is needed. The view groups the rows of all nodes, so it costs much.

    The view only informs. It belongs to the application and may be anything, so its failure is told once and no more.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: frozenset[Condition] | None = None  # None: not asked yet
        self._known: object = None  # what was known of the rows, when it was asked
        self._again = -RETRY  # monotonic: when to ask again after a failure
        self._log, self._changed = log.get("store"), log.OnChange()

    def forget(self) -> None:
        """Ask again the next time."""
        self._found = None

    def load(
        self, connection: Connection, own: OwnRows, parents: Mapping[DeviceId, str] | None, rows: Iterable[DeviceRow],
        *, whole: bool,
    ) -> frozenset[Condition] | None:  # fmt: skip
        """A condition for each contract that has more than one parent device, with their count. None: unknown.

        ``parents``: the contract of each parent device among the own rows. Without a change there, the last answer
        holds until the next scan of all rows. None: unknown. ``whole``: ask about every contract. Otherwise only about
        the contracts of ``rows``.
        """
        if self._clock() < self._again:
            return None
        known = own.scanned_at, parents
        if self._found is None or parents is None or known != self._known:
            names = ", ".join(sorted({connection.quote(row.owner) for row in rows})) or "NULL"
            why = self._ask(connection, "TRUE" if whole else f"contract_id IN ({names})")
            if self._changed("view", bool(why)) and why:
                self._log.warning("v_parent_conflicts cannot be read: parent conflicts are not watched", why=why)
            if why:
                self._found, self._again = None, self._clock() + RETRY
            self._known = known
        return self._found

    def _ask(self, connection: Connection, where: str) -> str:
        """Keep the answer of the view. Returns why there is none, or ""."""
        sql = f"SELECT contract_id, parent_count FROM v_parent_conflicts WHERE {where}"  # noqa: S608
        try:
            rows = connection.side_query(sql)
        except StoreError as error:
            return str(error)
        if isinstance(rows, StoreError):
            return str(rows)
        # While a dump is put back, the view is a stand-in with one row of constants.
        if any(contract is None or not str(count).isdecimal() or int(count) < 2 for contract, count in rows):
            return "it has a row that is no conflict: it is being restored, or it was replaced"
        self._found = frozenset(
            Condition(PARENT_CONFLICT, str(contract), str(contract), str(count)) for contract, count in rows
        )
        return ""
