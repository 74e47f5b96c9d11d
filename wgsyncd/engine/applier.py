"""Applies plans to the peers and the planes beside them, and keeps the last samples of removed peers."""

from wgsyncd.core.model import ChangeKind, InterfaceState
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.peers.plan import Plan, gains_address
from wgsyncd.core.records import PeerId
from wgsyncd.engine.interfaces import Interfaces
from wgsyncd.engine.planes import Cycle
from wgsyncd.engine.spooler import Samples, Spooler
from wgsyncd.ports import Clock, Phase


class Applier:
    """Applies what one piece of work after the other decides."""

    def __init__(self, interfaces: Interfaces, spooler: Spooler, clock: Clock) -> None:
        self._interfaces, self._spooler, self._clock = interfaces, spooler, clock
        self.kept_last: set[PeerId] = set()  # peers whose last sample was kept in this piece of work

    def begin(self) -> None:
        self.kept_last.clear()

    def apply(self, planes: Cycle, decision: Decision, samples: Samples) -> dict[str, InterfaceState]:
        """Apply all plans phase by phase. Returns the peers read back.

        If a plane failed, no peer gets an address. Otherwise no peer gets one that waits for what a plane makes.
        """
        after = dict(samples.actual)
        for phase in Phase:
            if phase is Phase.PEERS:
                plan = decision.plan if planes.is_ready else decision.plan.withhold(gains_address)
                after = self.apply_peers(plan.let_wait(planes.waiting), samples)
            planes.apply(phase, after)
        # Ignore interfaces that were re-created during apply. The next cycle handles them.
        return {name: state for name, state in after.items() if state.epoch == samples.actual[name].epoch}

    def apply_peers(self, plan: Plan, *samples: Samples) -> dict[str, InterfaceState]:
        """Apply a plan from the last of ``samples``. Only they may show that a removed peer's counter restarted."""
        going = {(change.interface, change.public_key) for change in plan.of(ChangeKind.REMOVE)}
        for one in samples:
            self._spooler.keep_restarted(one, going - self.kept_last)
        return self._interfaces.apply(plan, samples[-1].actual, self._keep)

    def _keep(self, state: InterfaceState) -> None:
        """Spool the last sample of peers that are about to be removed."""
        samples = Samples({state.name: state}, self._clock.now(), self._clock.monotonic())
        self._spooler.keep(samples, whole=False)
        self.kept_last.update((state.name, key) for key in state.peers)
