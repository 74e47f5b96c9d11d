"""Shaping as a plane of the cycle.

It fails open: no trouble of tc keeps a peer out, or bytes uncounted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import NamedTuple, Protocol

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import Happening
from wgsyncd.core.inspect.verify import Discrepancy
from wgsyncd.core.model import InterfaceState, PublicKey
from wgsyncd.core.network import Network
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.shaping.plan import Planner, make_plan
from wgsyncd.core.shaping.preview import ShapingPreview, preview
from wgsyncd.core.shaping.steps import Action, Clsact, Detour, FailedStep, Link, Redirect, RootQdisc, ShapingPlan, Step
from wgsyncd.core.shaping.tree import Filter, KernelState
from wgsyncd.core.shaping.wanted import ShapedDevice, Wanted, devices_by_minor, wanted_shaping
from wgsyncd.core.words import counted
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.gateways import networks_of
from wgsyncd.engine.shaping_audit import ShapingAudit
from wgsyncd.engine.shaping_words import describe, kind_of, missing_modules, tc_differs
from wgsyncd.engine.status import DaemonStatus, ShapingStatus
from wgsyncd.errors import ShapingError
from wgsyncd.ports import Phase, Snapshot

_NOTHING = Wanted()
MOST_TOLD = 100  # differences of a verification: a kernel without tc lacks thousands of objects
MOST_NEW = 1000  # new devices of one cycle: with 10,000 classes they take a few seconds


class TrafficControl(Protocol):
    """Reads and changes the kernel's tc. Methods raise ShapingError if the kernel does not answer."""

    def read(self) -> KernelState:
        """All that shaping has in the kernel."""

    def look(self, interfaces: Iterable[str]) -> KernelState:
        """The links of all trees, and what leads these interfaces there, without the trees themselves. It is cheap."""

    @property
    def descriptor(self) -> int | None:
        """Where news of links come in. None: nobody tells any."""

    def has_news(self) -> bool:
        """Whether somebody has changed a link of shaping since the last call."""

    def apply(self, steps: Iterable[Step]) -> list[FailedStep]:
        """Make the steps in their order. Refused steps are returned and do not stop the others. ADD is exclusive: what
        is there already stays as it is. DELETE of a clsact that has a filter does nothing."""


class ShapingCycle(NamedTuple):
    wanted: Wanted
    plan: ShapingPlan
    going: Mapping[tuple[str, PublicKey], tuple[Network, ...]]  # peers that this cycle removes: their addresses
    is_read: bool  # False: the kernel could not be read, so nothing is changed
    waiting: tuple[ShapedDevice, ...] = ()  # new devices that the next cycles make
    starts: bool = False  # there is no tree yet


class Shaping:
    """Implements the port Plane. It keeps the trees of tc equal to what contracts and devices ask for."""

    name = "shaping"
    judges = rests = False

    def __init__(self, settings: Settings, tc: TrafficControl, status: DaemonStatus, state: AgentState) -> None:
        self._settings, self._policy, self._tc, self._status = settings, settings.shaping_policy, tc, status
        self._log, self._changed = log.get("shaping"), log.OnChange()
        self._planner = Planner()
        self._last_good: KernelState | None = None  # the last look, if nothing was wrong
        self._audit = ShapingAudit(settings.node.name, state)
        self.happenings: list[Happening] = []
        self._failed: list[FailedStep] = []
        self._lacks = ""  # the modules that this kernel has not
        self.waiting: frozenset[Network] = frozenset()
        self._left = 0  # devices that the next cycles make
        self.descriptor = tc.descriptor if settings.shaping_policy.enforce else None
        self._hurries = False  # the next part of them need not wait for the poll

    def read(self) -> KernelState | None:
        """What the kernel has. None: it does not answer, and nothing is changed then."""
        self._failed, self._lacks, self.waiting = [], "", frozenset()
        try:
            found = self._tc.read()
        except ShapingError as error:
            self._note("read", error)
            return None
        self._changed("read", "")
        self._status.shaper_sent = {str(way): one.sent for way, one in found.passed.items()}
        self._status.shaper_dropped = {str(way): one.dropped for way, one in found.passed.items()}
        return found

    def plan(self, snapshot: Snapshot, decision: Decision, found: KernelState | None) -> ShapingCycle:
        """What the decision about peers needs of tc, and the steps that lead there."""
        wanted = self._wanted(snapshot, decision)
        going = {
            (one.interface, one.public_key): one.current.allowed_ips
            for one in decision.plan.changes if one.desired is None and one.current is not None
        }  # fmt: skip
        if found is None:
            return ShapingCycle(wanted, ShapingPlan(), going, False)
        self._audit.look_back(wanted, found, self._policy)
        some, plan, waiting = self._planner.plan(wanted, found, MOST_NEW)
        starts = bool(some.devices) and not any(tree.index for _, _, tree in found.every_tree())
        return ShapingCycle(some, plan, going, True, waiting, starts)

    def _wanted(self, snapshot: Snapshot, decision: Decision) -> Wanted:
        return wanted_shaping(decision, snapshot.terms, self._policy, networks_of(self._settings, snapshot))

    def preview(self, snapshot: Snapshot, decision: Decision) -> ShapingPreview | None:
        """What a cycle would do to the bandwidth of devices. None: the kernel does not answer."""
        try:
            return preview(self._wanted(snapshot, decision), self._tc.read())
        except ShapingError:  # The next cycle logs it.
            return None

    def verify(self, snapshot: Snapshot, decision: Decision) -> Iterator[Discrepancy]:
        """Where the kernel differs from what contracts and devices ask for."""
        wanted = self._wanted(snapshot, decision)
        try:
            found = self._tc.read()
        except ShapingError as error:
            yield tc_differs("", str(error))
            return
        plan = make_plan(wanted, found)
        for name in plan.foreign:
            yield tc_differs("", f"another program uses {name}")
        steps = (*plan.withdraw, *plan.prepare, *plan.clean_up)
        new = [(step.number, step.thing) for step in steps if isinstance(step.thing, Filter)]
        there = ((number, one) for number, _, tree in found.every_tree() for one in tree.filters)
        devices = devices_by_minor(wanted, chain(new, there))
        if len(steps) > MOST_TOLD:
            yield tc_differs("", f"more than {MOST_TOLD} objects of tc are missing or different")
        for step in steps[:MOST_TOLD]:
            yield tc_differs(devices.get((step.number, getattr(step.thing, "minor", 0)), ""), describe(step))

    def apply(self, phase: Phase, plan: ShapingCycle, actual: Mapping[str, InterfaceState]) -> None:
        """Apply one phase. Troubles are logged and shown in the status."""
        try:
            match phase:
                case Phase.WITHDRAW:
                    self._make(plan.plan.withdraw)
                case Phase.PREPARE:
                    self._prepare(plan.plan)
                    self._let_wait(plan.waiting)
                case Phase.CLEAN_UP:
                    self._finish(plan, actual)
        except ShapingError as error:
            self._note("apply", error)

    def poll(self) -> bool:
        """Take away redirects that lead nowhere. They would drop all traffic of their interface."""
        try:
            found = self._tc.look(self._settings.interfaces)
            bad = make_plan(_NOTHING, found).withdraw if found is not self._last_good else ()
            self._last_good = None if bad else found
            if bad:
                self._make(bad)
                self._log.warning("redirects led nowhere and were taken away, a cycle mends it", redirects=len(bad))
            return bool(bad or self._left)
        except ShapingError as error:
            self._note("poll", error)
            return False

    def mend(self) -> bool:
        """Look at the links if there is news of them, as :meth:`poll` does. True also while new devices wait."""
        return (self._tc.has_news() and self.poll()) or self._hurries

    def remove(self) -> bool:
        """Take away all that wgsyncd has made in tc, for a configuration without shaping. False: there was nothing."""
        try:
            plan = make_plan(Wanted(), self._tc.read())
            if not plan.is_empty:
                if failed := self._make((*plan.withdraw, *plan.clean_up)):
                    why = _refusal(failed)
                    self._log.error(
                        "shaping is off, but not all of it could be taken away. A reload tries again", why=why
                    )
                    return False
                self._log.info("shaping is off: its links and redirects were taken away")
                return True
        except ShapingError as error:
            if error.name != "EOPNOTSUPP":  # A kernel without tc has nothing of it.
                self._note("remove", error)
        return False

    def _prepare(self, plan: ShapingPlan) -> None:
        """Make everything that peers need. A redirect comes last, and only if its tree could be made."""
        redirects = [step for step in plan.prepare if isinstance(step.thing, Redirect | Detour)]
        rest = [step for step in plan.prepare if not isinstance(step.thing, Redirect | Detour)]
        failed = self._make(rest)
        broken = {(one.step.direction, one.step.number) for one in failed
                  if isinstance(one.step.thing, Link | RootQdisc)}  # fmt: skip
        missing = missing_modules(rest, failed)
        if not missing:
            good = [step for step in redirects if (step.direction, step.number) not in broken]
            missing = missing_modules(good, self._make(good))
        if missing:
            self._lacks = missing
            undo = make_plan(Wanted(), self._tc.read())
            hooks = [step._replace(action=Action.DELETE) for step in plan.prepare if isinstance(step.thing, Clsact)]
            self._tc.apply((*undo.withdraw, *undo.clean_up, *hooks))

    def _let_wait(self, devices: Sequence[ShapedDevice]) -> None:
        """Let new peers wait for their class. They come in without one if tc refuses steps, or makes no progress."""
        if not (self._failed or self._lacks) and (not self._left or len(devices) < self._left):
            self.waiting = frozenset(net for one in devices for net in one.addresses)

    def _finish(self, cycle: ShapingCycle, actual: Mapping[str, InterfaceState]) -> None:
        """Read back, clean up after the peers that have left, and publish what is left to do."""
        drift, plan = 0, cycle.plan
        if cycle.is_read and not plan.is_empty and not self._lacks:
            still = {
                net for (name, key), nets in cycle.going.items() for net in nets
                if name not in actual or key in actual[name].peers
            }  # fmt: skip
            after = make_plan(replace(cycle.wanted, held=cycle.wanted.held | still), self._tc.read())
            drift = len(after.withdraw) + len(after.prepare)
            self._make(after.clean_up_after(plan))
        self._publish(cycle, drift)

    def _make(self, steps: Sequence[Step]) -> list[FailedStep]:
        if not steps:
            return []
        failed = self._tc.apply(steps)
        refused = {id(one.step) for one in failed}
        for kind, count in Counter(kind_of(step) for step in steps if id(step) not in refused).items():
            self._status.shaping_changes.add(kind, count)
        for one in failed:
            self._status.shaping_failures.add(one.name)
        self._failed += failed
        return failed

    def _publish(self, cycle: ShapingCycle, drift: int) -> None:
        unshaped = frozenset(cycle.plan.no_minor)
        devices = [] if self._lacks else [one for one in cycle.wanted.devices if one.device not in unshaped]
        owners, slowed = {one.owner for one in devices}, {one.owner for one in devices if one.choice.beyond}
        names = dict.fromkeys(self._policy.profiles, 0) | Counter(one.choice.name for one in devices)
        stuck = self._failed or self._lacks or 0 < self._left <= len(cycle.waiting)
        self._left = len(cycle.waiting)
        self._hurries = bool(cycle.waiting) and not stuck  # Otherwise the same cycle would come again and again.
        missing, foreign = cycle.plan.no_minor, cycle.plan.foreign
        is_ok = cycle.is_read and not (self._failed or drift or missing or foreign or cycle.waiting)
        self._status.shaping = ShapingStatus(
            is_ok, dict(names), len(owners), len(slowed), cycle.wanted.unknown, drift, self._trouble(cycle)
        )
        if self._changed("trouble", self._status.shaping.trouble) and self._status.shaping.trouble:
            if self._hurries:
                self._log.info("more devices get their class in the next cycle", devices=self._left)
            else:
                self._log.error("not everything is shaped, tried again next cycle", why=self._status.shaping.trouble)
        self._audit.note(cycle.wanted.choices, self._fault(cycle), starts=cycle.starts)

    def _fault(self, cycle: ShapingCycle) -> str:
        """The code of what is wrong, for the audit trail. "" if nothing is. Cycles mend drift and new devices."""
        missing, foreign = cycle.plan.no_minor, cycle.plan.foreign
        found = {
            "unreadable": not cycle.is_read, "modules_missing": self._lacks, "foreign_tc": foreign,
            "no_class_left": missing, "tc_refused": self._failed,
        }  # fmt: skip
        return next((code for code, is_so in found.items() if is_so), "")

    def _trouble(self, cycle: ShapingCycle) -> str:
        """What is wrong, for the log and the status. "" if nothing is."""
        if not cycle.is_read:
            return "tc cannot be read"
        if self._lacks:
            return f"this kernel has not all parts of tc, so nobody is shaped: modprobe {self._lacks}"
        if cycle.plan.foreign:
            return f"another program uses {', '.join(cycle.plan.foreign)}"
        if cycle.plan.no_minor:
            return f"{counted(len(cycle.plan.no_minor), 'device has', 'devices have')} no class: all numbers are taken"
        if cycle.waiting and not self._failed:
            waiting = counted(len(cycle.waiting), "device waits for its class", "devices wait for their class")
            peers = "New peers wait, too" if self.waiting else "Peers do not wait"
            return f"{waiting}, because one cycle makes {MOST_NEW}. {peers}. The next cycles go on"
        return _refusal(self._failed) if self._failed else ""

    def _note(self, what: str, error: ShapingError) -> None:
        self._status.shaping_failures.add(error.name)
        if self._changed(what, error.name):
            self._log.error("tc cannot be read or changed, peers go on without it", error=str(error))


def _refusal(failed: Sequence[FailedStep]) -> str:
    first = failed[0]
    return f"{counted(len(failed), 'step')} failed. The first is {describe(first.step)}: {first.name}: {first.text}"
