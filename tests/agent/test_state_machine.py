"""Anything that may happen to a node, in any order; then one undisturbed cycle, and all is right to the byte.

What is due is kept by :mod:`tests.lives`; that nothing is booked beyond it holds at every moment, that all of it is
booked after one undisturbed cycle, with each byte on a day on which it can have come.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.samples import address, key, peer, psk, text
from tests.world import STARTS, World
from wgsyncd.core.model import Counters, encode_key

NAMES = ("wg0", "wg1")
ROWS = st.integers(2, 9)
FATES = st.sampled_from(["before", "during", "after", "after", "deadlock", "crash before", "crash after", "ok"])
SAVES = st.sampled_from(["fails", "fails", "crash before", "crash after", "ok"])
GUARD = '[guard]\nmin_removals = 1000\n[log]\nlevel = "error"\n'
LINK = 25 * 10**9 // 8  # bytes that pass in a second


class Life(RuleBasedStateMachine):
    """The world around one wgsyncd."""

    @initialize(rows=st.sets(ROWS, min_size=1), start=st.sampled_from(STARTS), steady=st.booleans())
    def begin(self, rows: set[int], start: tuple[str, str], steady: bool) -> None:
        self.node = World(GUARD, *start)
        self.db, self.wg = self.node.db, self.node.wg
        self.fresh = 200  # the last key that somebody had
        self.used = set(rows)  # ids are never given again
        self.gone: dict[str, int] = {}  # interfaces that are not there, and the index that they had
        self.steady = steady  # the clock is never set
        for number in rows:
            self.node.owner[key(number)] = number
            self.node.device(number)
        self.node.cycle()

    # -- the table

    def new_key(self, row: int) -> str:
        self.fresh += 1
        self.node.owner[key(self.fresh)] = row
        return text(self.fresh)

    def free(self, interface: str) -> str:
        taken = {d["wg_ip"] for d in self.db.devices.values()}
        return next(one for n in range(2, 255) if (one := address(n, interface)) not in taken)

    @rule(number=ROWS, life=st.sampled_from([None, 20, 100, 900]))
    def insert(self, number: int, life: int | None) -> None:
        if number in self.used:
            return
        self.used.add(number)
        columns = {"wg_ip": self.free("wg0"), "public_key": self.new_key(number)}
        if life is None:
            self.node.device(number, **columns)
        else:
            self.node.issued(number, self.node.now + life, **columns)

    @rule(number=ROWS)
    def delete(self, number: int) -> None:
        self.db.devices.pop(number, None)

    @rule(really=st.sampled_from([False] * 9 + [True]))  # seldom: ids are never given again
    def truncate(self, really: bool) -> None:
        if really:
            self.db.devices.clear()

    @rule(number=ROWS, status=st.sampled_from(["paused", "revoked", "active", "active", "deleted"]))
    def set_status(self, number: int, status: str) -> None:
        if number in self.db.devices:
            self.db.update(number, status=status)

    @rule(status=st.sampled_from(["active", "active", "paused"]))
    def set_contract(self, status: str) -> None:
        self.db.contracts["0001"] = status

    @rule(number=ROWS)
    def rekey(self, number: int) -> None:
        if number in self.db.devices:
            self.db.update(number, public_key=self.new_key(number))

    @rule(number=ROWS, secret=st.integers(0, 3))
    def set_psk(self, number: int, secret: int) -> None:
        if number in self.db.devices:
            self.db.update(number, preshared_key=encode_key(psk(secret)) if secret else None)

    @rule(one=ROWS, other=ROWS)
    def swap_addresses(self, one: int, other: int) -> None:
        """Also across interfaces: then both move."""
        if {one, other} <= self.db.devices.keys():
            a, b = ({c: self.db.devices[n][c] for c in ("wg_ip", "wg_iface")} for n in (one, other))
            self.db.update(one, **b)
            self.db.update(other, **a)

    @rule(number=ROWS)
    def move(self, number: int) -> None:
        if number in self.db.devices:
            there = NAMES[self.db.devices[number]["wg_iface"] == "wg0"]
            self.db.update(number, wg_iface=there, wg_ip=self.free(there))

    @rule(number=ROWS, life=st.sampled_from([10, 100]))
    def issue_anew(self, number: int, life: int) -> None:
        """With a new key, as a new QR code has."""
        if number in self.db.devices:
            end = self.node.windows.local(self.node.now + life)
            self.db.update(number, public_key=self.new_key(number), status="issued", qr_expires_at=end)

    # -- the devices

    @rule(which=st.integers(0, 99), rx=st.integers(1, 10**6), tx=st.integers(0, 10**6), shake=st.booleans())
    def traffic(self, which: int, rx: int, tx: int, shake: bool) -> None:
        self.node.tick(1)
        if peers := self.node.open():
            life = peers[which % len(peers)]
            scale = LINK // 10**6 if self.steady else 1  # a link that is full, where the time of it can be known
            self.node.move(life, rx * scale, tx * scale)
            if shake:
                life.peer.handshake = int(self.node.now * 1e9)

    @rule(amount=st.sampled_from([0, 0, 7, 1000]))
    def rain(self, amount: int) -> None:
        """Traffic does not wait for the daemon to be done."""
        self.node.rain = amount

    # -- the machine

    def present(self) -> list[str]:
        return [name for name in NAMES if name not in self.gone]

    @rule(name=st.sampled_from(NAMES))
    def delete_interface(self, name: str) -> None:
        if name in self.present():
            self.gone[name] = self.wg._interfaces[name].index
            self.wg.delete(name)
            self.node.follow()

    @rule(name=st.sampled_from(NAMES), same=st.booleans())
    def make_interface(self, name: str, same: bool) -> None:
        """With the index that it had, nothing tells the new one from the old one but its counters."""
        if name in self.gone:
            self.wg.add_interface(name)
            index = self.gone.pop(name)
            if same and index not in {one.index for one in self.wg._interfaces.values()}:
                self.wg._interfaces[name].index = index

    @rule()
    def reboot(self) -> None:
        self.wg.reboot(*self.present())
        self.gone = dict.fromkeys(self.gone, 99)
        self.node.follow()
        self.node.start()

    @rule(which=st.integers(0, 99), how=st.sampled_from(["remove", "anew", "anew"]))
    def foreign_hand(self, which: int, how: str) -> None:
        if peers := self.node.open():
            slot = peers[which % len(peers)].slot
            if how == "remove":
                self.wg.remove_behind(*slot)
            else:
                self.wg.recreate_behind(*slot)
            self.node.follow()

    @rule(name=st.sampled_from(NAMES), number=st.integers(900, 905), host=ROWS)
    def foreign_peer(self, name: str, number: int, host: int) -> None:
        if name in self.present():
            self.wg.add_behind(name, peer(number, address(host, name)))

    # -- time

    @rule(seconds=st.sampled_from([1, 60, 901, 3600, 86400]))
    def time_passes(self, seconds: int) -> None:
        self.node.tick(seconds)

    @rule(polls=st.integers(1, 4))
    def midnight(self, polls: int) -> None:
        """Up to the day's first second, at which the daemon looks, and on."""
        self.node.tick(self.node.windows.next_midnight(self.node.now) - self.node.now - 30)
        for _ in range(polls):
            self.work("account")

    @rule(seconds=st.sampled_from([-86400, -3600, -1, 1, 3600]))
    def the_clock_steps(self, seconds: int) -> None:
        if not self.steady:
            self.node.now += seconds

    # -- the daemon and its troubles

    @rule(task=st.sampled_from(["account", "reconcile", "reconcile"]))
    def work(self, task: str) -> None:
        self.node.work(task)

    @rule()
    def restart(self) -> None:
        self.node.start()

    @rule()
    def reload(self) -> None:
        self.node.reload()

    @rule(calls=st.integers(1, 40), kind=st.sampled_from(["crash", "crash", "error"]))
    def trap(self, calls: int, kind: str) -> None:
        """At some call of any port, before or after it was done."""
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
        self.node.store.locked = rows

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

    @rule(name=st.sampled_from(NAMES), dumps=st.sampled_from([1, 6, 12]))
    def torn_dumps(self, name: str, dumps: int) -> None:
        self.wg.torn[name] = dumps

    # -- what holds

    def sums(self, row: int) -> Counters:
        mine = [sums for (number, _), sums in self.db.days.items() if number == row]
        return Counters(sum(one.rx for one in mine), sum(one.tx for one in mine))

    @invariant()
    def no_byte_is_booked_twice(self) -> None:
        for row in self.used:
            booked, due = self.sums(row), self.node.due(row)
            assert booked.rx <= due.rx and booked.tx <= due.tx, (row, booked, due)

    @rule()
    def all_is_right_after_one_undisturbed_cycle(self) -> None:
        node = self.node
        node.trap, node.rain, node.store.locked = None, 0, set()
        node.store.next_writes, node.spool.next_saves, node.spool.full = [], [], False
        self.database("up")
        self.wg.torn.clear()
        for name in list(self.gone):
            self.make_interface(name, False)
        node.tick(1800 - node.now % 900)  # no bucket ends in the cycles below
        node.cycle()
        if node.health.guard_tripped:
            assert not any(node.wanted().values()), "else a thousand may go unasked"
            node.store.approve(node.health.plan_id)
            node.cycle()
        node.true = {row: node.at_last(row) for row in node.db.devices}
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
        stuck = [row for row in node.store.snapshot().rows if row.status == "issued" and (row.qr_end or 0) < node.now]
        assert not stuck
        assert all(one.message.isprintable() for one in self.db.logs)

    def each_byte_is_on_a_day_on_which_it_can_have_come(self) -> None:
        if not self.steady:
            return
        truth = self.node.truth
        for row in self.used - truth.durable.odd:
            least, most = truth.days(row, self.node.windows)
            booked = Counter({day: sums.rx for (number, day), sums in self.db.days.items() if number == row})
            assert least <= booked <= most, (row, least, booked, most)

    def teardown(self) -> None:
        if hasattr(self, "node"):
            self.all_is_right_after_one_undisturbed_cycle()


Life.TestCase.settings = settings(
    max_examples=250, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLife = Life.TestCase
