"""Which removals count for the guard, and which ones the records do not show yet."""

from collections.abc import Collection, Mapping, Set

from wgsyncd.core.model import InterfaceState, PublicKey
from wgsyncd.core.peers.desired import Desired
from wgsyncd.core.reasons import ChangeCause
from wgsyncd.core.records import PeerId, PeerRecord, RecordState
from wgsyncd.core.state import InterfaceCheckpoint, NodeState, Removal

DEMANDED = frozenset((ChangeCause.INACTIVE, ChangeCause.KEY_REPLACED))
"""The causes of removals that a row itself demands: by its status, by its owner, or by its new key."""


def is_move(cause: ChangeCause, key: PublicKey, desired: Desired, actual: Collection[str]) -> bool:
    """Whether a removal is a move: the row asks for the peer on another interface, of this node or of another one.

    ``actual``: the interfaces that could be read. Any other interface of this node takes no peer, so a move there is a
    loss.
    """
    return cause is ChangeCause.MOVED_TO and ((name := desired.interface_of(key)) is None or name in actual)


def is_unused(key: PublicKey, desired: Desired, handshake: int) -> bool:
    """Whether a removal is the end of a device that was never used. ``handshake``: of its peer, 0 = never.

    An UPDATE can make a used device look unused. Its peer or its record still shows a handshake.
    """
    row, _ = desired.revoked.get(key, (None, None))
    return row is not None and row.is_unused and not handshake


def is_lost(record: PeerRecord, state: InterfaceState, marks: Mapping[str, InterfaceCheckpoint]) -> bool:
    """Whether the peer went because its interface was made again, and the interface's mark does not tell that yet.

    Its counters then begin at zero, and a baseline of another epoch means zero to them. A peer whose addition was never
    told is a new one.
    """
    mark = marks.get(record.interface)
    return (
        record.state is not RecordState.ADDING
        and record.epoch != state.epoch
        and (mark is None or mark.epoch != state.epoch)
    )


def unrecorded(
    node_state: NodeState, actual: Mapping[str, InterfaceState], desired: Desired, now: float, peers: int,
    approved: Set[PeerId],
) -> tuple[Removal, ...]:  # fmt: skip
    """The removals that are done and that no transaction has recorded yet, as one entry for the guard's memory.

    They are the records of peers that are neither actual nor desired. So a removal counts from the moment when the
    kernel made it. It counts once, because the transaction that stores the entry also deletes these records.
    ``now``: seconds since the boot. ``peers``: how many actual peers the node has. ``approved``: removals that an admin
    approved. A process that is killed forgets these, and then they count.
    """
    causes: list[ChangeCause] = []
    for name, state in actual.items():
        recorded, wanted = node_state.records.of(name), desired.peers.get(name, {})
        for key, record in recorded.items():
            if key in state.peers:  # nearly all. A set of the others would take half a MiB on the way
                continue
            # A peer that its interface lost is no removal of ours, nor is a foreign one that somebody may add again.
            lost = is_lost(record, state, node_state.interfaces) or record.state is RecordState.ADDING
            if lost or record.row_id is None or key in wanted or record.peer_id in approved:
                continue
            reason = desired.removal_reason(key, record.row_id, record.device)
            if reason is None and desired.key_of(record.row_id, record.device) is not None:
                continue  # somebody else removed the peer of a rejected row
            cause = reason.cause if reason is not None else ChangeCause.ROW_GONE
            if not is_move(cause, key, desired, actual) and not is_unused(key, desired, record.handshake):
                causes.append(cause)
    if not causes:
        return ()
    return (Removal(now, len(causes), sum(cause in DEMANDED for cause in causes), peers + len(causes)),)
