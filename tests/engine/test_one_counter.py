"""An interface has one daemon at a time, whatever the daemons are called and whichever sockets they could get.

Several daemons run on one kernel and one database. Hypothesis chooses the steps.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from tests.fakemachine import FakeMachine
from tests.fakes import Crash
from tests.node import Node
from wgsyncd.core.identity import SILENCE
from wgsyncd.core.model import NO_BYTES
from wgsyncd.errors import NotHolder, RevisionConflict, StoreError


def place(name: str = "r640", folder: str = "1", beside: Node | None = None, *interfaces: str) -> Node:
    """A daemon with a state directory of its own, on the machine, kernel and database of another one."""
    made = Node(database=beside and beside.db, node=name)
    made.machine = FakeMachine(folder=folder)
    if interfaces:
        made.settings = replace(made.settings, interfaces={one: made.settings.interfaces[one] for one in interfaces})
    if beside is not None:
        made.wg, made.true, made._numbers, made.now = beside.wg, beside.true, beside._numbers, beside.now
    made.store = made._store()
    made.store.clock = made.machine.clock = lambda: made.now
    made.machine.seconds = 1000.0
    made.start()
    return made


@pytest.fixture
def alpha() -> Node:
    made = place()
    made.device(5)
    made.cycle()
    made.traffic(5, 1000)
    made.account()
    return made


def wait(seconds: float, *nodes: Node) -> None:
    for one in nodes:
        one.tick(seconds)


@pytest.mark.parametrize("name", ["r640", "second"])
def test_a_second_daemon_is_refused_and_touches_nothing(alpha: Node, name: str) -> None:
    """Their accounts differ, so neither takes the other's socket for one of wgsyncd."""
    beta = place(name, "2", alpha)
    writes = alpha.wg.writes.copy()
    for task in (beta.agent.reconcile, beta.agent.account, beta.agent.beat):
        with pytest.raises(NotHolder) as refused:
            task()
        assert not refused.value.lost
    expected = "another machine runs node r640" if name == "r640" else "serves wg0 as node r640: host alpha, boot"
    assert expected in str(refused.value)
    alpha.traffic(5, 500)
    alpha.account()
    assert (alpha.posted, alpha.wg.writes) == (alpha.true, writes)


@pytest.mark.parametrize("name", ["r640", "second"])
@pytest.mark.parametrize("how", ["stops", "is silent"])
def test_a_second_daemon_goes_on_exactly_where_the_first_one_ended(alpha: Node, name: str, how: str) -> None:
    alpha.traffic(5, 20)
    beta = place(name, "2", alpha)
    if how == "stops":
        alpha.agent.holding.release()
    else:
        wait(SILENCE + 1, alpha, beta)
    beta.survive()
    beta.account()
    assert set(beta.db.seq) == {name}, "its records go on under the new name"
    assert beta.posted == beta.true
    alpha.traffic(5, 300)
    for _ in range(2):
        with contextlib.suppress(RevisionConflict):
            with pytest.raises(NotHolder) as lost:
                alpha.agent.account()
            assert lost.value.lost
    beta.account()
    assert beta.posted == beta.true


@pytest.mark.parametrize("name", ["r640", "second"])
def test_a_daemon_that_died_is_followed_by_the_next_one_of_its_state_directory_at_once(alpha: Node, name: str) -> None:
    alpha.traffic(5, 20)
    beta = place(name, "1", alpha)
    beta.cycle()
    assert beta.posted == beta.true


def test_two_names_that_both_have_a_state_take_turns_and_double_nothing(alpha: Node) -> None:
    """Each of them has a baseline of the same counter. The older one must not be used again."""
    alpha.agent.holding.release()
    beta = place("second", "2", alpha)
    beta.db.seq["second"], beta.db.begun["second"] = 0, 1.0  # it served something else before
    here, there = beta, alpha
    for _ in range(4):
        here.start()
        here.survive()
        here.cycle()
        here.traffic(5, 100)
        here.account()
        assert here.posted[5].rx <= here.true[5].rx
        here.agent.holding.release()
        here, there = there, here
        here.now = there.now
    assert beta.posted[5].rx == 1400, "bytes between two turns alone may be lost"


def test_two_that_start_in_the_same_moment_do_not_both_serve(alpha: Node) -> None:
    """Both look before either one has claimed."""
    alpha.agent.holding.release()
    one, two = place("one", "2", alpha), place("two", "3", alpha)
    for node in (one, two):
        one.db.seq[node.settings.node.name] = 0
        one.db.begun[node.settings.node.name] = 1.0
    claim = one.store.claim

    def during(*args: object) -> object:
        two.survive()
        return claim(*args)  # type: ignore[arg-type]

    one.store.claim = during  # type: ignore[method-assign, assignment]
    with pytest.raises(NotHolder) as refused:
        one.agent.reconcile()
    assert not refused.value.lost, "systemd starts it again"
    two.cycle()
    two.traffic(5, 7)
    two.account()
    assert two.posted[5].rx == 1007


def test_an_interface_may_go_from_one_living_daemon_to_another(alpha: Node) -> None:
    beta = place("second", "2", alpha, "wg1")
    with pytest.raises(NotHolder, match=r"serves wg1 as node r640.*take interfaces\.wg1 out of one"):
        beta.agent.reconcile()
    alpha.settings = replace(alpha.settings, interfaces={"wg0": alpha.settings.interfaces["wg0"]})
    alpha.store = alpha._store()
    alpha.store.clock = lambda: alpha.now
    alpha.reload()
    alpha.cycle()
    beta.survive()
    beta.cycle()
    alpha.cycle()
    with pytest.raises(NotHolder, match="serves wg1 as node second"):
        alpha.agent.holding.refuse_rivals(("wg0", "wg1"))
    assert set(alpha.db.seq) == {"r640", "second"}
    alpha.traffic(5, 7)
    alpha.account()
    assert alpha.posted == alpha.true


def test_another_network_namespace_has_another_interface(alpha: Node) -> None:
    beta = place("second", "2", alpha)
    assert beta.machine is not None
    beta.machine.namespace = "7"
    beta.wg = beta._kernel()
    beta.start()
    beta.cycle()
    alpha.cycle()


class OneCounter(RuleBasedStateMachine):
    """Daemons of one or several names come and go on one kernel. No byte is posted twice, and one of them can serve."""

    DAEMONS = (("a", "1"), ("b", "2"), ("a", "3"), ("c", "2"))
    which = st.integers(0, len(DAEMONS) - 1)

    @initialize()
    def begin(self) -> None:
        first = place(*self.DAEMONS[0])
        self.all = [first, *(place(*one, first) for one in self.DAEMONS[1:])]
        self.alive = [False] * len(self.all)
        first.device(5)

    @rule(number=which)
    def start(self, number: int) -> None:
        """The lock of a state directory keeps a second daemon of it away."""
        if not any(up and self.DAEMONS[at][1] == self.DAEMONS[number][1] for at, up in enumerate(self.alive)):
            self.all[number].start()
            self.alive[number] = True

    @rule(number=which)
    def kill(self, number: int) -> None:
        self.alive[number] = False

    @rule(number=which)
    def stop(self, number: int) -> None:
        if self.alive[number]:
            with contextlib.suppress(StoreError):
                self.all[number].agent.holding.release()
            self.alive[number] = False

    @rule(
        number=which, fates=st.lists(st.sampled_from(("ok", "ok", "before", "after", "crash after")), max_size=3),
        task=st.sampled_from(("account", "reconcile", "beat")), meanwhile=st.none() | which,
    )  # fmt: skip
    def work(self, number: int, fates: list[str], task: str, meanwhile: int | None) -> None:
        """``meanwhile``: a daemon that works between the first look and the claim of this one."""
        if not self.alive[number]:
            return
        node, claim = self.all[number], self.all[number].store.claim
        if meanwhile is not None and meanwhile != number:

            def during(*args: object) -> object:
                del node.store.claim
                self.work(meanwhile, [], "reconcile", None)
                return claim(*args)  # type: ignore[arg-type]

            node.store.claim = during  # type: ignore[method-assign, assignment]
        self.tick(15)
        node.store.next_writes = fates
        try:
            getattr(node.agent, task)()
        except (NotHolder, Crash):
            self.alive[number] = False
        except StoreError:
            pass
        node.store.next_writes = []
        node.store.__dict__.pop("claim", None)

    @rule(seconds=st.sampled_from((15.0, 60.0, SILENCE + 1, -3600.0, 7200.0)))
    def tick(self, seconds: float) -> None:
        """Time passes, or somebody sets the clock of the database."""
        for one in self.all:
            one.now += seconds
            one.mono += 15

    @rule(rx=st.integers(1, 5000))
    def traffic(self, rx: int) -> None:
        if self.all[0].peer(5).public_key in self.all[0].kernel_of("wg0"):
            self.all[0].traffic(5, rx)

    @rule(number=which)
    def away(self, number: int) -> None:
        """One daemon loses the database, or finds it again."""
        self.all[number].store.down = not self.all[number].store.down

    @invariant()
    def no_byte_twice(self) -> None:
        if hasattr(self, "all"):
            first = self.all[0]
            assert first.posted.get(5, NO_BYTES).rx <= first.true[5].rx

    def teardown(self) -> None:
        """A daemon that starts when the others are gone serves after :data:`SILENCE` at most."""
        if not hasattr(self, "all"):
            return
        last = self.all[-1]
        self.alive = [False] * len(self.all)
        self.tick(SILENCE + 7200)
        last.store.down = False
        last.start()
        for _ in range(3):
            last.survive()
        before = last.posted.get(5, NO_BYTES).rx
        last.traffic(5, 10)
        last.account()
        assert last.posted[5].rx - before in (10, last.true[5].rx - before)


OneCounter.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestOneCounter = OneCounter.TestCase
