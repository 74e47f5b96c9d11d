"""Renamed interfaces: the records of a peer go on under the new name of its interface.

The epoch of an interface (boot id and interface index) says which counters are meant. An interface that gets another
name keeps its index. So a recorded interface was renamed if an interface of another name has its epoch now. Its mark
has the epoch, or at least its records have it: baselines are committed before the mark.
"""

from collections.abc import Collection, Mapping

from wgsyncd.core.model import InterfaceState
from wgsyncd.core.records import boot_of
from wgsyncd.core.state import NodeState, WriteBatch


def renames(node_state: NodeState, actual: Mapping[str, InterfaceState], configured: Collection[str]) -> WriteBatch:
    """What to write so that each record has the present name of its interface. An empty batch if all have.

    Records of an interface that is not in ``configured`` any more are removed once the machine has booted again. Their
    baselines are of no use then. Post the waiting samples first: they may need these records.
    """
    marks = node_state.interfaces
    moves: dict[str, str | None] = {}
    for name, state in actual.items():
        if name in marks and marks[name].epoch == state.epoch:
            continue  # usually all names are the recorded ones
        old = node_state.recorded_name(state)
        if old is not None and old != name and (old not in actual or node_state.recorded_name(actual[old]) != old):
            moves.setdefault(old, name)
    boots = {boot_of(state.epoch) for state in actual.values()}
    for name, mark in marks.items():
        if boots and name not in moves and name not in configured and boot_of(mark.epoch) not in boots:
            moves[name] = None
    # An interface of an earlier life had the new name before. Nothing goes on from its baselines.
    outdated = [name for name in moves.values() if name is not None and name not in moves]
    gone = [name for name, new in moves.items() if new is None]
    removed = tuple(record.peer_id for name in (*outdated, *gone) for record in node_state.records.of(name).values())
    return WriteBatch(removed=removed, renamed=moves)
