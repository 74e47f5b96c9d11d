"""Knows when a reconcile would decide what the last one decided, so that nothing has to be planned.

A decision depends on the rows, on the peers' configurations, on the node state and on time. The rows are compared by
the store's digest. The interfaces are dumped as a whole, and the configuration of every peer is compared. The node
state that was read is the same, because another load ends the rest. Time alone changes a decision at deadlines
and by handshakes, which the agent looks at in every cycle. A digest may miss a change, though hardly ever. So every
tenth reconcile plans all the same.
"""

from dataclasses import replace
from typing import NamedTuple

from wgsyncd.core.model import InterfaceState
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.reasons import Reason
from wgsyncd.engine.interfaces import Actual
from wgsyncd.ports import Snapshot

EVERY = 10  # One of so many reconciles plans, even if nothing changed.


class Rest(NamedTuple):
    """A reconcile that found nothing to do, and the ones after it that may rely on it."""

    digest: object  # of the rows
    snapshot: Snapshot  # of the rows
    decision: Decision  # with the peers as last read
    loads: int  # how often the node state was read. One that is read again needs a plan
    left: int  # reconciles that may rest until the next one plans

    def go_on(self, digest: object, actual: Actual) -> "Rest | None":
        """The rest after one more reconcile, with the present digest and peers. None: something changed, so plan."""
        last = self.decision.actual
        if digest != self.digest or self.left <= 0 or actual.keys() != last.keys():
            return None
        if not all(_is_configured_as(last[name], state) for name, state in actual.items()):
            return None
        return self._replace(decision=replace(self.decision, actual=actual), left=self.left - 1)

    def rows_of(self, digest: object, loads: int) -> Snapshot | None:
        """The rows with the present digest, for a plan that only the peers need. None: they have to be read."""
        return self.snapshot if (digest, loads) == (self.digest, self.loads) and self.left > 0 else None


def begin_rest(digest: object, snapshot: Snapshot, decision: Decision, loads: int, before: Rest | None) -> Rest | None:
    """The rest that a reconcile begins, if it found nothing to do. ``digest``: read before the rows. None: unknown.

    Rows may change after the digest was read, and change back after they were read. So the first rest allows no
    reconcile. The next one, with the same digest and rows that were read again, does: ``before`` is what the last
    reconcile has left.
    """
    plan, is_known = decision.plan, digest is not None and snapshot.conditions is not None
    waits = plan.changes or plan.withheld or plan.blocked or decision.transitions or decision.interface_errors
    # Another node may free a place of the contract, and the digest does not cover the rows of other nodes.
    has_full = any(one.reason is Reason.OVER_DEVICE_LIMIT for one in decision.desired.rejections)
    if not is_known or waits or has_full:
        return None
    is_second = before is not None and before.digest == digest and before.snapshot is not snapshot
    return Rest(digest, snapshot, decision, loads, EVERY - 1 if is_second else 0)


def _is_configured_as(before: InterfaceState, after: InterfaceState) -> bool:
    """Whether two dumps of an interface differ in nothing but counters, handshakes and endpoints."""
    if (before.epoch, before.kind, before.public_key, before.listen_port) != (
        after.epoch, after.kind, after.public_key, after.listen_port
    ):  # fmt: skip
        return False
    old = before.peers
    if len(old) != len(after.peers):
        return False
    # The same object is the usual case. A comparison of its parts takes longer.
    return all(
        (was := old.get(key)) is not None and (was.config is found.config or was.config == found.config)
        for key, found in after.peers.items()
    )
