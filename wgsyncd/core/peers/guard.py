"""The guard: it withholds the removals of a plan that would remove too many peers.

The removals of the last ten minutes and of the last hour count, too. So many small plans get no further than one large
plan. In no window more peers go than :meth:`RemovalLimits.max_removals` says. Only a few removals that rows demand
themselves may exceed it: at most :attr:`RemovalLimits.small_node` in ten minutes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from wgsyncd.core.model import Change, ChangeKind, InterfaceState, Transition
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.peers.identities import IdentityChange
from wgsyncd.core.peers.plan import Plan, removals_id
from wgsyncd.core.peers.removals import DEMANDED, is_move, is_unused
from wgsyncd.core.reasons import ChangeCause
from wgsyncd.core.records import PeerId, PeerRecord
from wgsyncd.core.state import MEMORY, Removal

TEN_MINUTES = 600.0  # seconds
_NO_RECORDS: Mapping[PeerId, PeerRecord] = {}
WINDOWS = (0.0, TEN_MINUTES, MEMORY)  # 0: the plan alone


class ReadError(NamedTuple):
    """Why an interface could not be read."""

    errno: str  # its name, such as "ENODEV"
    text: str


@dataclass(frozen=True, slots=True)
class RemovalLimits:
    """How many removals a node may have in a window without the approval of an admin."""

    always_allowed: int  # this many removals are within the limits of every node that keeps half of its peers
    max_share: float  # of the peers that there were, from 0 to 1
    small_node: int  # this many removals in ten minutes go beyond the limits, if rows demand them themselves

    def max_removals(self, peers: int) -> float:
        """The largest permitted number of removals, of a node with ``peers`` peers. More than half of them never go,
        unless ``max_share`` is larger. But one peer may always go."""
        most = max(1, int(max(0.5, self.max_share) * peers))
        return min(max(self.always_allowed, self.max_share * peers), most)

    def balance(self, removals: int, past: Sequence[Removal], now: float, live: int) -> "Balance":
        """The window with the fewest removals left, if ``removals`` of the ``live`` peers go after the ``past`` ones.

        ``now``: seconds since the boot, as the times of ``past``. A time that is still to come counts as now.

        The limit is one of the peers that there were at the beginning of the window. Peers that were added since raise
        no limit, because a program may replace one peer after the other.
        """
        balances = []
        for window in WINDOWS:
            some = [one for one in past if now - one.at <= window]
            gone = [0, *accumulate(one.removed for one in some)]
            recent = gone[-1]
            before = min([live + recent, *(one.peers + gone[at] for at, one in enumerate(some))])
            limit = self.max_removals(before if self.max_share < 1 else live + recent)  # 1: all, again and again
            balances.append(Balance(limit - recent - removals, window, limit, recent, before - recent))
        return min(balances)._replace(peers=balances[-1].peers)


class Balance(NamedTuple):
    """What a window has left for removals."""

    left: float  # below 0: too many
    window: float  # seconds
    limit: float
    recent: int  # earlier removals in the window
    peers: int  # how many peers of an hour ago are left, at most


class AccessMemory(NamedTuple):
    """The losses of all access that the guard remembers (core/policies/guard.py)."""

    losses: tuple[Removal, ...] = ()  # of the last hour. Their times count from now, so none is above 0
    recorded: frozenset[str] = frozenset()  # ids of devices whose loss is recorded, and was not done when last seen


NO_MEMORY = AccessMemory()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a cycle would do, and the values that the decision was made from."""

    desired: Desired
    plan: Plan  # after the guard
    actual: Mapping[str, InterfaceState]
    plan_id: str  # names the removals that the guard counted
    tripped: bool  # the guard does not permit these removals without approval
    approved: bool  # the guard tripped, but an admin approved exactly these removals
    limit: float  # the largest number of removals in the window without approval
    counted: int  # how many removals need an approval, or would need one
    asked: frozenset[PeerId] = frozenset()  # the peers of these removals, if the guard tripped
    window: float = 0.0  # seconds: the window with the fewest removals left. 0: this plan alone
    recent: int = 0  # removals in the window that need no approval: earlier ones, and some of this plan
    peers: int = 0  # how many peers of an hour ago are left, at most
    access: AccessMemory = NO_MEMORY
    transitions: tuple[Transition, ...] = ()  # the transitions that are due
    quarantined: int = 0  # how many deltas wait for an admin
    interface_errors: Mapping[str, ReadError] = field(
        default_factory=dict
    )  # by interface: why it could not be compared
    identity_changes: Mapping[str, IdentityChange] = field(default_factory=dict)  # by interface

    @property
    def is_withholding(self) -> bool:
        """Whether removals wait for the approval of an admin."""
        return self.tripped and not self.approved


def apply_guard(
    desired: Desired, plan: Plan, actual: Mapping[str, InterfaceState], limits: RemovalLimits, approved: str | None,
    past: Sequence[Removal] = (), now: float = 0.0, records: Mapping[PeerId, PeerRecord] = _NO_RECORDS,
) -> Decision:  # fmt: skip
    """The decision about ``plan``: if the guard trips, the removals that it counts are withheld unless approved.

    ``approved``: the plan id that an admin approved, or None. ``past``: the removals until ``now`` (seconds since the
    boot).

    The guard does not count the end of a device that was never used. It does not count moves either. But if no present
    peer stays on the node, the guard counts moves, too: this looks like an UPDATE without its WHERE.

    Of removals that rows demand, a few in ten minutes go all the same. Then a node with one device can lose it.
    """
    gone, live = plan.of(ChangeKind.REMOVE), plan.live_count
    removals = [one for one in gone if not _is_unused(one, desired, actual, records)]
    stays = {one.public_key for one in plan.of(ChangeKind.ADD)}
    removes_all = len(gone) == live and not any(one.public_key in stays for one in gone)
    with_moves = removes_all and len(removals) > limits.small_node
    counted = [
        one for one in removals if with_moves or not is_move(one.reason.cause, one.public_key, desired, actual.keys())
    ]
    demanded = [one for one in counted if one.reason.cause in DEMANDED]
    if removes_all and live > 1:  # new keys for everybody replace everybody
        demanded = [one for one in demanded if one.reason.cause is ChangeCause.INACTIVE]
    lately = sum(one.demanded for one in past if now - one.at <= TEN_MINUTES)
    some = demanded if lately + len(demanded) <= limits.small_node else []
    at_once = {(one.interface, one.public_key) for one in some}
    balance = limits.balance(len(counted), past, now, live)
    # Peers go and no row of this node has a readable key: somebody emptied the table, or it is another table.
    no_rows_left = len(counted) > 1 and desired.is_empty
    asked = [one for one in counted if (one.interface, one.public_key) not in at_once]
    tripped = bool(asked) and (no_rows_left or balance.left < 0)
    asked = asked if tripped else counted
    ids = frozenset((one.interface, one.public_key) for one in asked)
    plan_id = removals_id(asked)
    let_through = tripped and approved == plan_id
    if tripped and not let_through:
        plan = plan.withhold(lambda one: one.kind is ChangeKind.REMOVE and (one.interface, one.public_key) in ids)
    return Decision(
        desired, plan, actual, plan_id, tripped, let_through, balance.limit, len(asked),
        asked=ids if tripped else frozenset(), window=balance.window,
        recent=balance.recent + len(counted) - len(asked), peers=balance.peers,
    )  # fmt: skip


def _is_unused(
    change: Change, desired: Desired, actual: Mapping[str, InterfaceState], records: Mapping[PeerId, PeerRecord]
) -> bool:
    found, record = (
        actual[change.interface].peers[change.public_key],
        records.get((change.interface, change.public_key)),
    )
    recorded = record.handshake if record is not None else 0
    return is_unused(change.public_key, desired, found.latest_handshake or recorded)
