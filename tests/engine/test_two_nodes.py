"""Two nodes share a database, and devices move between them: each byte is posted once, whatever else happens.

One clock drives both. Hypothesis chooses the steps, so a failure is repeated exactly and made short.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.fakemachine import FakeMachine
from tests.fakes import Crash
from tests.node import Node
from tests.samples import address, key, text
from wgsyncd.core.identity import SILENCE
from wgsyncd.core.model import NO_BYTES, Counters
from wgsyncd.errors import NotHolder, StoreError

INTERFACES = ("wg0", "wg1")
SIDES = ("east", "west")
DEVICES = range(2, 7)
sides, devices = st.sampled_from(SIDES), st.sampled_from(DEVICES)
FATES = ("ok", "ok", "before", "during", "after", "deadlock", "crash before", "crash after")


class Place(Node):
    """A machine that serves one of the nodes. ``name``: of the node. Its rows name ``SIDE-wg0`` and ``SIDE-wg1``."""

    def __init__(self, side: str, name: str, number: int, others: Node | None = None) -> None:
        self.side, self.number = side, number
        super().__init__(database=None if others is None else others.db, node=name)
        self.machine = FakeMachine(f"{side}{number}", f"boot {side} {number}")
        self.wg._boot = number
        if others is not None:
            self.now, self.mono = others.now, others.mono
            self.true, self._numbers = others.true, others._numbers
        self.call(name)

    def call(self, name: str) -> None:
        """Set ``node.name``, and start a new process."""
        other = next(side for side in SIDES if side != self.side)
        node = msgspec.structs.replace(
            self.settings.node, name=name, ignored_interfaces=tuple(f"{other}-{one}" for one in INTERFACES)
        )
        ours = {
            one: msgspec.structs.replace(spec, store_name=f"{self.side}-{one}")
            for one, spec in self.settings.interfaces.items()
        }
        guard = msgspec.structs.replace(self.settings.guard, always_allowed=100, max_share=1.0, small_node=100)
        self.settings = msgspec.structs.replace(self.settings, node=node, interfaces=ours, guard=guard)
        self.store = self._store()
        self.store.clock = lambda: self.now
        self.start()

    def work(self, task: Callable[[], object]) -> None:
        """Do a task, which may fail. A dead process is started again."""
        try:
            task()
        except NotHolder:
            raise
        except StoreError:
            pass
        except Crash:
            self.start()


class TwoNodes(RuleBasedStateMachine):
    """Both nodes, the rows, and the true bytes of each device."""

    @initialize()
    def begin(self) -> None:
        self.machines = self.names = 0
        east = Place("east", "east", 1)
        self.places = {"east": east, "west": Place("west", "west", 2, east)}
        self.machines = 2
        self.keys = {number: number for number in DEVICES}  # the number of each device's key
        self.dead: list[Place] = []
        for number in DEVICES:
            east.device(number)
            east.change(number, interface=f"{SIDES[number % 2]}-wg0")
        for place in self.places.values():
            place.agent.reconcile()

    def _tick(self, seconds: float) -> None:
        for place in (*self.places.values(), *self.dead):
            place.tick(seconds)
            assert place.machine is not None
            place.machine.seconds += seconds

    @property
    def east(self) -> Place:
        return self.places["east"]

    # -- what customers and the application do

    @rule(number=devices, rx=st.integers(0, 5000), tx=st.integers(0, 5000))
    def traffic(self, number: int, rx: int, tx: int) -> None:
        """Bytes move wherever the device has a peer with an address. The phone knows one server at a time."""
        for place in self.places.values():
            for interface in INTERFACES:
                found = place.kernel_of(interface).get(key(self.keys[number]))
                if found is not None and found.allowed_ips:
                    place.wg.traffic(interface, found.public_key, rx, tx)
                    old = self.east.true[number]
                    self.east.true[number] = Counters(old.rx + rx, old.tx + tx)
                    return

    @rule(number=devices, side=sides, interface=st.sampled_from(INTERFACES))
    def move(self, number: int, side: str, interface: str) -> None:
        self.east.change(number, interface=f"{side}-{interface}", address=address(number, interface))

    @rule(number=devices, status=st.sampled_from(("active", "paused", "active")))
    def pause(self, number: int, status: str) -> None:
        self.east.change(number, status=status)

    @rule(number=devices)
    def rekey(self, number: int) -> None:
        self.keys[number] += 10
        self.east.change(number, public_key=text(self.keys[number]))

    # -- what the daemons do

    @rule(
        side=sides, fates=st.lists(st.sampled_from(FATES), max_size=3),
        task=st.sampled_from(("account", "reconcile", "reconcile", "beat")),
    )  # fmt: skip
    def cycle(self, side: str, fates: list[str], task: str) -> None:
        """One run of a task. ``fates``: of its transactions."""
        self._tick(15)
        place = self.places[side]
        place.store.next_writes = fates
        place.work(getattr(place.agent, task))
        place.store.next_writes = []

    @rule(side=sides)
    def restart(self, side: str) -> None:
        self.places[side].start()

    @rule(side=sides, after=st.integers(1, 4))
    def crash(self, side: str, after: int) -> None:
        """The process dies after this many changes of the kernel."""
        self.places[side].wg.crash_after = after
        self.cycle(side, [], "reconcile")
        self.places[side].wg.crash_after = None

    @rule(side=sides)
    def away(self, side: str) -> None:
        """One node loses the database. A later step brings it back."""
        self.places[side].store.down = not self.places[side].store.down

    @rule(side=sides)
    def rename(self, side: str) -> None:
        """Another name, while the database answers. Who comes back later with the old name is another node."""
        self.names += 1
        self.dead = [place for place in self.dead if place.side != side]
        place = self.places[side]
        self._settle(place)
        place.call(f"{side}-{self.names}")
        self._settle(place)

    @rule(side=sides)
    def reboot(self, side: str) -> None:
        """The machine boots after a last sample, which is posted or in the spool."""
        place = self.places[side]
        place.work(place.agent.account)
        if not place.state.spool_up and place.state.backlog:
            return
        self._tick(30)
        assert place.machine is not None
        place.machine.boot += "'"
        place.machine.seconds = 1.0
        place.reboot()

    @rule(side=sides, ordered=st.booleans())
    def replace(self, side: str, ordered: bool) -> None:
        """The machine dies when all is posted, and another one takes the node over."""
        old = self.places[side]
        self._settle(old)
        if ordered:
            old.agent.holding.release()
        else:
            self._tick(SILENCE + 1)
        self.machines += 1
        new = Place(side, old.settings.node.name, self.machines, self.east)
        self.places[side] = new
        new.agent.reconcile()
        self.dead.append(old)

    @rule()
    def zombie(self) -> None:
        """A machine that lost its node goes on, and changes nothing any more."""
        for place in self.places.values():  # a silent machine may lose its node
            place.store.down = False
            place.agent.beat()
        for place in self.dead:
            place.store.down = False
            for interface in INTERFACES:
                for found in place.kernel_of(interface):
                    place.wg.traffic(interface, found, 1000, 1000)
            before = self.east.posted, place.wg.writes.copy()
            for task in (place.agent.account, place.agent.reconcile):
                with contextlib.suppress(NotHolder, StoreError):
                    task()
            assert (self.east.posted, place.wg.writes) == before
        self.dead.clear()

    # -- what must hold

    @invariant()
    def no_byte_twice(self) -> None:
        if not hasattr(self, "places"):
            return
        posted = self.east.posted
        for number, true in self.east.true.items():
            found = posted.get(number, NO_BYTES)
            assert found.rx <= true.rx, number
            assert found.tx <= true.tx, number

    def _settle(self, place: Place) -> None:
        place.store.down = False
        for _ in range(2):
            self._tick(15)
            place.agent.reconcile()
            place.agent.account()

    @rule()
    def rest(self) -> None:
        """Everything heals: each byte is posted, and each device has its one peer on its one node."""
        for place in (*self.places.values(), *self.places.values()):
            self._settle(place)
        assert self.east.posted == self.east.true
        for place in self.places.values():
            for interface in INTERFACES:
                rows = [one for one in place.db.devices.values()
                        if one["wg_iface"] == f"{place.side}-{interface}" and one["status"] == "active"]  # fmt: skip
                want = {key(self.keys[place._numbers[one["device_id"]]]) for one in rows}
                assert place.kernel_of(interface).keys() == want

    def teardown(self) -> None:
        if hasattr(self, "places"):
            self.rest()


TwoNodes.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestTwoNodes = TwoNodes.TestCase
