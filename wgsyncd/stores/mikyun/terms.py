"""Reads what contracts have bought: profiles, device limits, and the bytes of the month for a cap."""

from collections.abc import Container, Iterable, Iterator, Mapping

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Counters, DeviceRow
from wgsyncd.core.shaping.profiles import Terms, choose
from wgsyncd.core.state import Condition
from wgsyncd.ports import Snapshot
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.limits import LIMIT, OverLimit, load_full, load_over_limit, without_beyond
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.row_text import Schema

PROFILE = "bandwidth_profile"
UNKNOWN_PROFILE, CAP_REACHED, OVER_LIMIT = "unknown_profile", "cap_reached", "devices_over_limit"
_AT_ONCE = 1000  # contracts of one question about the month

# All rows of a contract count, with any status and on any node. The index on contract_id leads to them.
_MONTHS = """
SELECT {contract}, CAST(SUM(COALESCE(rx_bytes_month, 0)) AS CHAR), CAST(SUM(COALESCE(tx_bytes_month, 0)) AS CHAR)
FROM customer_devices d WHERE d.contract_id IN ({contracts}) GROUP BY d.contract_id
"""


class ContractTerms:
    """Reads the terms of contracts, as far as the settings need them.

    ``swapped``: the columns rx_* have what a device received.
    """

    def __init__(self, settings: Settings, *, swapped: bool) -> None:
        self._policy, self._swapped = settings.shaping_policy, swapped
        self._limits = settings.limits.devices
        of_profiles = {PROFILE} if self._policy.enforce else set()
        self._needed = of_profiles | ({LIMIT} if self._limits != "ignore" else set())
        self._missing: set[str] = set()  # needed columns that are not there, or that the account may not read
        of_profiles = {UNKNOWN_PROFILE, CAP_REACHED} if self._policy.enforce else set()
        self.condition_types = frozenset(of_profiles | ({OVER_LIMIT} if self._limits != "ignore" else set()))
        self._changed, self._log = log.OnChange(), log.get("store")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of contracts that a plan depends on, besides their status."""
        return tuple(sorted(self._needed - self._missing))

    def use_columns(self, there: Container[str]) -> None:
        """Use the columns of contracts that are ``there``."""
        self._missing = {one for one in self._needed if one not in there}

    def add_to(self, snapshot: Snapshot, connection: Connection, own: OwnRows, schema: Schema) -> Snapshot:
        """The snapshot with the terms of all contracts, with their conditions, and without the rows beyond a limit."""
        for column in sorted(self._needed):
            if self._changed(column, column in self._missing) and column in self._missing:
                why = f"contracts.{column} cannot be read: the account lacks SELECT on it"
                self._log.warning(why, todo="sudo wgsyncd doctor")
        conditions = snapshot.conditions
        if PROFILE in self.columns:
            terms = self._load_terms(connection, own, schema)
            snapshot = snapshot._replace(terms=terms)
            conditions = None if conditions is None else conditions.union(self.of_terms(terms))
        if LIMIT in self.columns:
            over = load_over_limit(connection, own, schema, snapshot.rows)
            if self._limits == "reject" and over:
                snapshot = snapshot._replace(rows=without_beyond(snapshot.rows, over))
            conditions = None if conditions is None else conditions.union(over_limit(over))
        return snapshot._replace(conditions=conditions)

    def mark_full(
        self, rows: tuple[DeviceRow, ...], connection: Connection, schema: Schema
    ) -> tuple[DeviceRow, ...]:  # fmt: skip
        """The rows of a few devices. If a contract of theirs is beyond its limit, they are rejected for now.

        Which rows are beyond the limit depends on all rows of the contract. A full cycle decides about rejected rows.
        """
        if self._limits != "reject" or LIMIT in self._missing:
            return rows
        over = load_full(connection, schema, rows)
        return without_beyond(rows, over)

    def _load_terms(self, connection: Connection, own: OwnRows, schema: Schema) -> Mapping[str, Terms]:
        """The terms of the contracts of all own rows, by the contract's id as the rows have it.

        Empty without the column: then the default profile holds for every contract.
        """
        tables, where = own.source()
        contract, profile = schema.as_text("d.contract_id"), schema.as_text(f"c.{PROFILE}")
        asked = f"SELECT DISTINCT {contract}, COALESCE({profile}, '') FROM {tables} {schema.join} WHERE {where}"  # noqa: S608
        terms = {str(name): Terms(str(named)) for name, named in connection.query(asked)}
        capped = [name for name, one in terms.items() if self._is_capped(one)]
        for name, month in _months(connection, contract, capped, swapped=self._swapped):
            if name in terms:
                terms[name] = terms[name]._replace(month=month)
        return terms

    def of_terms(self, terms: Mapping[str, Terms]) -> Iterator[Condition]:
        """The conditions of contracts with an unknown profile, or with a cap that is reached."""
        for name, one in terms.items():
            choice = choose(one, self._policy)
            if choice.unknown:
                yield Condition(UNKNOWN_PROFILE, name, name, choice.unknown[:64])
            if choice.beyond:
                yield Condition(CAP_REACHED, name, name, choice.beyond)

    def _is_capped(self, one: Terms) -> bool:
        profile = self._policy.profiles.get(choose(one, self._policy).name)
        return profile is not None and profile.monthly is not None


def over_limit(over: Mapping[str, OverLimit]) -> Iterator[Condition]:
    """The conditions of contracts with more devices than their limit."""
    return (Condition(OVER_LIMIT, name, name, f"{one.devices} > {one.limit}") for name, one in over.items())


def _months(
    connection: Connection, contract: str, names: list[str], *, swapped: bool
) -> Iterable[tuple[str, Counters]]:  # fmt: skip
    for at in range(0, len(names), _AT_ONCE):
        asked = ", ".join(map(Connection.quote, names[at : at + _AT_ONCE]))
        for name, rx, tx in connection.query(_MONTHS.format(contract=contract, contracts=asked)):
            received, sent = (int(tx), int(rx)) if swapped else (int(rx), int(tx))
            yield str(name), Counters(max(received, 0), max(sent, 0))
