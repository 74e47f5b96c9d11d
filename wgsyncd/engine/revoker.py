"""Takes away what rows and policies do not give any more, where no cycle can do it in its order.

Nothing has to be committed before that: a withdrawal moves no byte, and the spool keeps the last sample of a peer.
"""

from collections.abc import Collection

from wgsyncd import log
from wgsyncd.core.model import DeviceId, Transition
from wgsyncd.core.peers.plan import Plan
from wgsyncd.engine.applier import Applier
from wgsyncd.engine.planes import Planes
from wgsyncd.engine.planner import Planner
from wgsyncd.engine.recorder import Recorder
from wgsyncd.engine.spooler import Samples
from wgsyncd.engine.state_cache import StateCache
from wgsyncd.ports import Snapshot


class Revoker:
    """Removes revoked peers within the guard, and lets the plane that judges access follow the policies."""

    def __init__(
        self, planner: Planner, cache: StateCache, planes: Planes, recorder: Recorder, applier: Applier
    ) -> None:
        self._planner, self._cache, self._planes = planner, cache, planes
        self._recorder, self._applier, self._log = recorder, applier, log.get("agent")

    def remove_revoked(self, snapshot: Snapshot, ended: Collection[DeviceId], samples: Samples, later: Samples) -> None:
        """Remove peers that were revoked while ``samples`` are posted. The next cycle makes all other changes.

        ``later``: read just now. ``ended``: ids of rows whose transition must be committed first.
        """
        if (known := self._cache.last_known) is None:
            return
        decision = self._planner.revocations(snapshot, later.actual, known, later.now, ended)
        if decision.plan.changes:
            self._applier.apply_peers(decision.plan, samples, later)

    def follow(self, snapshot: Snapshot, refused: Collection[DeviceId], samples: Samples) -> None:
        """Do it while the store cannot be written. No peer comes or gets an address. The peers that stay get the access
        that their policies give them now. The outcome is recorded when the store is back.

        ``refused``: ids of rows that changed after ``snapshot`` was read. Without a known node state, nothing is done,
        because the guard does not know what went before.
        """
        if (known := self._cache.last_known) is None:
            return
        decision = self._planner.revocations(snapshot, samples.actual, known, samples.now, refused)
        self._warn(len(decision.plan.changes))
        planes = self._planes.judge(snapshot._replace(approved=None), decision)
        self._recorder.note_loss(planes.access)
        self._applier.apply(planes, decision, samples)

    def remove_expired(self, steps: Collection[Transition], samples: Samples) -> None:
        """Remove the peers that these transitions expire, while neither rows nor node state are known."""
        going = self._planner.expired(steps, samples.actual)
        self._warn(len(going))
        self._applier.apply_peers(Plan(tuple(going), 0, {}), samples)

    def _warn(self, peers: int) -> None:
        if peers:
            self._log.warning("database cannot be written: revoked peers are removed all the same", peers=peers)
