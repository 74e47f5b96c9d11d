"""After any events in any order, one undisturbed cycle on a real PostgreSQL makes everything right to the byte.

These are the random events of tests/engine/test_state_machine.py, on NexaVPN's own store.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from tests.engine.test_state_machine import RandomEvents
from tests.postgres import PrivatePostgres
from tests.random_faults import QUIET, ROWS
from tests.simulated_nexavpn import SimulatedNexavpn, SimulatedTables
from tests.simulated_node import SimulatedNode

FEW = settings(
    max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


class RandomEventsOfNexavpn(RandomEvents):
    """The same on a real PostgreSQL with NexaVPN's tables."""

    server: ClassVar[PrivatePostgres]
    node: SimulatedNexavpn

    def new_node(self, zone: str, start: str) -> SimulatedNode:
        self._stack = ExitStack()
        return SimulatedNexavpn(SimulatedTables(self.server, self._stack), QUIET, zone, start)

    @rule(rows=st.sets(ROWS, min_size=1, max_size=2))
    def hint(self, rows: set[int]) -> None:
        self.node.work("reconcile_devices", frozenset(str(self.node.tables.id(row)) for row in rows))

    @rule(one=ROWS, other=ROWS)
    def swap_addresses(self, one: int, other: int) -> None:
        """No two allocations of a gateway may have one address, so one device has a third one meanwhile."""
        if one != other and {one, other} <= set(self.node.numbers):
            a, b = ({c: self.node.admin.field(n, c) for c in ("interface", "address")} for n in (one, other))
            self.node.change(one, address=self.free(a["interface"]))
            self.node.change(other, address=self.free(b["interface"]))
            self.node.change(one, **b)
            self.node.change(other, **a)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "node"):
                self.node.store.close()
                self._stack.close()


def test_random_events(postgres: PrivatePostgres) -> None:
    RandomEventsOfNexavpn.server = postgres
    run_state_machine_as_test(RandomEventsOfNexavpn, settings=FEW)
