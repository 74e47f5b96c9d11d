"""Reads the terms of contracts: their profiles, and their bytes of the month where a cap counts them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wgsyncd import log
from wgsyncd.core.model import Counters
from wgsyncd.core.shaping.profiles import ShapingPolicy, Terms, choose
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.own_rows import OwnRows
from wgsyncd.stores.mikyun.row_text import Schema

PROFILE = "bandwidth_profile"
_AT_ONCE = 1000  # contracts of one question about the month

# All rows of a contract count, with any status and on any node. The index on contract_id leads to them.
_MONTHS = """
SELECT {contract}, CAST(SUM(COALESCE(rx_bytes_month, 0)) AS CHAR), CAST(SUM(COALESCE(tx_bytes_month, 0)) AS CHAR)
FROM customer_devices d WHERE d.contract_id IN ({contracts}) GROUP BY d.contract_id
"""


class ContractTerms:
    """Reads the terms of contracts, if shaping is on. ``swapped``: the columns rx_* have what a device received."""

    def __init__(self, policy: ShapingPolicy, *, swapped: bool) -> None:
        self._policy, self._swapped = policy, swapped
        self.can_read = True  # False: the column is missing, or the account may not read it
        self._changed, self._log = log.OnChange(), log.get("store")

    @property
    def are_asked(self) -> bool:
        """Whether a plan depends on the profiles of contracts."""
        return self._policy.enforce and self.can_read

    def load(self, connection: Connection, own: OwnRows, schema: Schema) -> Mapping[str, Terms]:
        """The terms of the contracts of all own rows, by the contract's id as the rows have it.

        Empty without the column: then the default profile holds for every contract.
        """
        lacks_profiles = self._policy.enforce and not self.can_read
        if self._changed("profiles", lacks_profiles) and lacks_profiles:
            self._log.warning("contracts.bandwidth_profile cannot be read: grant SELECT on it", todo="wgsyncd init-db")
        if not self.are_asked:
            return {}
        tables, where = own.source()
        contract, profile = schema.as_text("d.contract_id"), schema.as_text(f"c.{PROFILE}")
        asked = f"SELECT DISTINCT {contract}, COALESCE({profile}, '') FROM {tables} {schema.join} WHERE {where}"  # noqa: S608
        terms = {str(name): Terms(str(named)) for name, named in connection.query(asked)}
        capped = [name for name, one in terms.items() if self._is_capped(one)]
        for name, month in _months(connection, contract, capped, swapped=self._swapped):
            if name in terms:
                terms[name] = terms[name]._replace(month=month)
        return terms

    def _is_capped(self, one: Terms) -> bool:
        profile = self._policy.profiles.get(choose(one, self._policy).name)
        return profile is not None and profile.monthly is not None


def _months(
    connection: Connection, contract: str, names: list[str], *, swapped: bool
) -> Iterable[tuple[str, Counters]]:  # fmt: skip
    for at in range(0, len(names), _AT_ONCE):
        asked = ", ".join(map(Connection.quote, names[at : at + _AT_ONCE]))
        for name, rx, tx in connection.query(_MONTHS.format(contract=contract, contracts=asked)):
            received, sent = (int(tx), int(rx)) if swapped else (int(rx), int(tx))
            yield str(name), Counters(max(received, 0), max(sent, 0))
