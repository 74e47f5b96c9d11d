"""Random faults of a node, as a state machine of Hypothesis.

The rules are what may happen to a node at any time. The invariant must hold at every moment. After one cycle without
faults, kernel and database must be completely right.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.samples import key
from tests.simulated_node import STARTS, SimulatedNode
from tests.variants import MIKYUN
from wgsyncd.core.model import Counters

NAMES = ("wg0", "wg1")
ROWS = st.integers(2, 9)
FATES = st.sampled_from(["before", "during", "after", "after", "deadlock", "crash before", "crash after", "ok"])
SAVES = st.sampled_from(["fails", "fails", "crash before", "crash after", "ok"])
QUIET = '[log]\nlevel = "error"\n'
LINK = 25 * 10**9 // 8  # bytes that the link can carry in one second


class RandomFaults(RuleBasedStateMachine):
    """Lets devices, admins, faults and time act on one node, and checks the node."""

    variant = MIKYUN

    @initialize(rows=st.sets(ROWS, min_size=1), start=st.sampled_from(STARTS), steady=st.booleans())
    def begin(self, rows: set[int], start: tuple[str, str], steady: bool) -> None:
        self.node = self.new_node(*start)
        self.db, self.wg = self.node.db, self.node.wg
        self.fresh = 200  # the number of the last key that was given away
        self.used = set(rows)  # row ids that were ever used: the database never uses one again
        self.gone: dict[str, int] = {}  # interfaces that are missing: the index that they had
        self.steady = steady  # whether nobody ever sets the clock
        for number in rows:
            self.node.owner[key(number)] = number
            self.node.device(number)
        self.node.cycle()

    def new_node(self, zone: str, start: str) -> SimulatedNode:
        return SimulatedNode(QUIET, zone, start, variant=self.variant)

    # -- the devices

    @rule(which=st.integers(0, 99), rx=st.integers(1, 10**6), tx=st.integers(0, 10**6), shake=st.booleans())
    def traffic(self, which: int, rx: int, tx: int, shake: bool) -> None:
        """One device moves bytes, or all devices do."""
        self.node.tick(1)
        peers = self.node.open()
        for life in peers[which % len(peers) :][:1] if peers and which < 60 else peers:
            scale = LINK // 10**6 if self.steady else 1  # a full link, if the time of the bytes is certain
            self.node.move(life, rx * scale, tx * scale)
            if shake:
                life.peer.handshake = int(self.node.now * 1e9)

    @rule(amount=st.sampled_from([0, 0, 7, 1000]))
    def rain(self, amount: int) -> None:
        """From now on traffic comes during the work of the daemon too."""
        self.node.rain = amount

    @rule(number=ROWS, status=st.sampled_from(["paused", "revoked", "active", "active", "deleted"]))
    def set_status(self, number: int, status: str) -> None:
        if number in self.node.numbers:
            self.node.change(number, status=status)

    # -- the machine

    def present(self) -> list[str]:
        return [name for name in NAMES if name not in self.gone]

    def make_interface(self, name: str, index: int | None = None) -> None:
        self.wg.add_interface(name)
        del self.gone[name]
        if index is not None and index not in {one.index for one in self.wg._interfaces.values()}:
            self.wg._interfaces[name].index = index

    @rule(which=st.integers(0, 99), how=st.sampled_from(["remove", "anew", "anew"]))
    def foreign_hand(self, which: int, how: str) -> None:
        if peers := self.node.open():
            slot = peers[which % len(peers)].slot
            if how == "remove":
                self.wg.remove_behind(*slot)
            else:
                self.wg.recreate_behind(*slot)
            self.node.follow()

    @rule(name=st.sampled_from(NAMES), same=st.booleans(), boot=st.booleans())
    def setconf(self, name: str, same: bool, boot: bool) -> None:
        """An interface is created again, or the machine boots. Then somebody else restores all peers from a copy."""
        if name not in self.present():
            return
        peers, index = {one: self.wg.peers(one) for one in self.present()}, self.wg._interfaces[name].index
        if boot:
            self.wg.reboot(*self.present())
            self.node.follow()
            self.node.start()
        else:
            self.wg.delete(name)
            self.gone[name] = index
            self.node.follow()
            self.make_interface(name, index if same else None)
        for one in peers if boot else [name]:
            for peer in peers[one].values():
                self.wg.add_behind(one, peer)
        self.node.follow()

    # -- time

    @rule(seconds=st.sampled_from([1, 60, 901, 3600, 86400]))
    def time_passes(self, seconds: int) -> None:
        self.node.tick(seconds)

    @rule(polls=st.integers(1, 4))
    def midnight(self, polls: int) -> None:
        """The clock goes to 30 s before midnight, and then the daemon polls over the boundary."""
        self.node.tick(self.node.calendar.next_midnight(self.node.now) - self.node.now - 30)
        for _ in range(polls):
            self.work("account")

    # -- the daemon and its troubles

    @rule(task=st.sampled_from(["account", "reconcile", "reconcile", "compare"]))
    def work(self, task: str) -> None:
        self.node.work(task)

    @rule(rows=st.sets(ROWS, min_size=1, max_size=2))
    def hint(self, rows: set[int]) -> None:
        """The application sends a notification that a few devices have changed."""
        self.node.work("reconcile_devices", frozenset(f"0001-DEV-{row:03}" for row in rows))

    @rule()
    def the_next_booking_is_left_off(self) -> None:
        self.node.hurried = True

    @rule()
    def restart(self) -> None:
        self.node.start()

    @rule()
    def reload(self) -> None:
        self.node.reload()

    @rule(calls=st.integers(1, 40), kind=st.sampled_from(["crash", "crash", "error"]))
    def trap(self, calls: int, kind: str) -> None:
        """A fault will come at a later call of any port, before or after its work is done."""
        self.node.trap = (calls, kind)

    @rule(fates=st.lists(FATES, min_size=1, max_size=4))
    def commits_will_fail(self, fates: list[str]) -> None:
        self.node.store.next_writes = fates

    @rule(state=st.sampled_from(["up", "up", "down", "read_only", "fail_reads"]))
    def database(self, state: str) -> None:
        for one in ("down", "read_only", "fail_reads"):
            setattr(self.node.store, one, one == state)

    @rule(rows=st.sets(ROWS, max_size=2))
    def rows_are_locked(self, rows: set[int]) -> None:
        self.node.lock(*rows)

    @rule(fates=st.lists(SAVES, min_size=1, max_size=4))
    def saves_will_fail(self, fates: list[str]) -> None:
        self.node.spool.next_saves = fates

    @rule(full=st.sampled_from([True, False, False]))
    def disk(self, full: bool) -> None:
        self.node.spool.full = full

    @rule(really=st.sampled_from([False, False, True]))
    def the_spool_is_damaged(self, really: bool) -> None:
        if really:
            self.node.spool.damaged = True
            self.node.start()

    # -- what holds

    def sums(self, row: int) -> Counters:
        mine = [sums for (number, _), sums in self.node.days.items() if number == row]
        return Counters(sum(one.rx for one in mine), sum(one.tx for one in mine))

    @invariant()
    def no_byte_is_booked_twice(self) -> None:
        for row in self.used:
            posted, due = self.sums(row), self.node.due(row)
            assert posted.rx <= due.rx and posted.tx <= due.tx, (row, posted, due)

    @rule()
    def all_is_right_after_one_undisturbed_cycle(self) -> None:
        """After one cycle without faults everything is right, and the next cycle writes nothing."""
        node = self.node
        node.trap, node.rain = None, 0
        node.unlock()
        node.store.next_writes, node.spool.next_saves, node.spool.full = [], [], False
        self.database("up")
        self.wg.torn.clear()
        for name in list(self.gone):
            self.make_interface(name)
        node.tick(1800 - node.now % 900)  # no bucket ends in the cycles below
        node.cycle()
        for _ in range(2):  # A cycle that adds peers may leave fewer removals to approve, which are another plan.
            if node.status.guard_tripped:
                node.store.approve(node.status.plan_id)
                node.cycle()
        node.true = {row: node.at_last(row) for row in node.numbers}
        node.right()
        for row in self.used:
            assert self.sums(row) == node.at_last(row)
        assert not self.steady or not self.db.quarantine, "the link can carry all that came"
        self.each_byte_is_on_a_day_on_which_it_can_have_come()
        before = node.written, node.spool.saves
        node.cycle()
        node.account()
        assert (node.written, node.spool.saves) == before, "the next cycle writes nothing"
        assert not node.spool.kept or not node.spool.kept.samples
        stuck = [
            row
            for row in node.store.snapshot().rows
            if row.status == "issued" and (row.activation_deadline or 0) < node.now
        ]
        assert not stuck
        assert all(text.isprintable() for text in node.audit_texts)

    def each_byte_is_on_a_day_on_which_it_can_have_come(self) -> None:
        if not self.steady:
            return
        oracle = self.node.oracle
        for row in self.used - oracle.durable.odd:
            least, most = oracle.days(row, self.node.calendar)
            posted = Counter({day: sums.rx for (number, day), sums in self.node.days.items() if number == row})
            assert least <= posted <= most, (row, least, posted, most)

    def teardown(self) -> None:
        if hasattr(self, "node"):
            self.all_is_right_after_one_undisturbed_cycle()
