"""The guard of access: it withholds a loss of all access that too many devices would have.

The losses of the last ten minutes and of the last hour count, too. So many small steps get no further than one large
step, as with the removals of peers. Up to :attr:`RemovalLimits.small_node` devices in ten minutes are never too many
for the memory, so that a small node can be used.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from wgsyncd.core.peers.guard import TEN_MINUTES, WINDOWS, AccessMemory, RemovalLimits


@dataclass(frozen=True, slots=True)
class AccessVerdict:
    """What the guard says about the devices that keep their peer and would lose all access."""

    plan_id: str  # names these devices
    counted: frozenset[str]  # their ids
    devices: int  # how many devices have a peer
    limit: float  # so many may lose all access in the window without the approval of an admin
    window: float  # seconds. 0: this plan alone
    recent: int  # other devices that lost all access in the window
    tripped: bool  # the guard does not permit this without approval
    approved: bool  # the guard tripped, but an admin approved exactly this

    @property
    def withheld(self) -> frozenset[str]:
        """Ids of the devices that keep their access until an admin approves the plan."""
        return self.counted if self.tripped and not self.approved else frozenset()


def judge_access(
    counted: frozenset[str], devices: int, limits: RemovalLimits, memory: AccessMemory, approved: str | None, *,
    is_emptied: bool,
) -> AccessVerdict:  # fmt: skip
    """The verdict. ``is_emptied``: no policy allows anything, so somebody emptied the tables.

    ``approved``: the plan id that an admin approved, or None. Devices that were added since raise no limit.
    """
    fresh = len(counted - memory.recorded)
    judged: list[tuple[float, float, float, int]] = []  # what is left, and what it was made from
    for window in WINDOWS:
        some = [one for one in memory.losses if -one.at <= window]
        recent = sum(one.removed for one in some)
        limit = limits.max_removals(min([devices, *(one.peers for one in some)]))
        judged.append((limit - recent - fresh, window, limit, recent))
    lately = sum(one.removed for one in memory.losses if -one.at <= TEN_MINUTES)
    if lately + fresh <= limits.small_node:
        judged = judged[:1]  # few enough for the memory, but not for the plan alone
    left, window, limit, recent = min(judged)
    tripped = bool(fresh) and (left < 0 or (is_emptied and len(counted) > 1))
    plan_id = access_id(counted)
    return AccessVerdict(plan_id, counted, devices, limit, window, recent, tripped, tripped and approved == plan_id)


def access_id(devices: Iterable[str]) -> str:
    """The plan id: 128 bits in hexadecimal digits that name exactly these devices, for an admin to approve."""
    return hashlib.sha256("\0".join(("access", *sorted(devices))).encode()).hexdigest()[:32]
