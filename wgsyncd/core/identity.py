"""Identity: which machine runs a node, and whether another machine may run it instead.

Two machines that run one node would post the same traffic again and again. So the node state names its holder: a
machine, a network namespace in it, and a boot. The holder writes a heartbeat every :data:`BEAT`. The store's clock
gives the ages of heartbeats, so the clocks of two machines need not agree.
"""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

BEAT = 60.0  # seconds between two heartbeats
TWIN_WITHIN = 600.0  # seconds: a machine that was put back finds a strange revision once, a running copy again soon
LOST_TIME = 30.0  # seconds: a machine that was put back has lost more by its uptime than clocks differ in a day
PUT_BACK = -1.0  # an uptime below every recorded one: it says that the machine was put back
SILENCE = 180.0  # seconds without a heartbeat after which another machine may take the node over


@dataclass(frozen=True, slots=True)
class Identity:
    """Names one daemon's place."""

    machine: str  # a digest of what stays the same from boot to boot, "" if nobody is named
    namespace: str  # the network namespace, within one boot. "": any
    boot: str  # the boot id
    host: str = ""  # the host name, for people
    folder: str = ""  # a digest of the state directory, which the daemon has locked. "": any

    def is_beside(self, other: "Identity") -> bool:
        """Whether both places have the same interfaces: the same boot and network namespace."""
        return self.boot == other.boot and self.namespace in ("", other.namespace)


NOBODY = Identity("", "", "")


class Holder(NamedTuple):
    """The holder of a node, as the store has it."""

    identity: Identity
    heartbeat: float  # the time of the last heartbeat by the store's clock. 0.0: the holder has stopped
    age: float | None  # seconds since then. None: the holder has stopped
    revision: int = 0  # of the node state


class OtherNode(NamedTuple):
    """A node with another name."""

    node: str
    holder: Holder
    interfaces: frozenset[str]  # what its daemon serves, or served last
    boots: frozenset[str] = frozenset()  # the boots in which it wrote, under any name


class Verdict(Enum):
    """What a daemon that starts may do with its node."""

    OWN = "own"  # go on: the node is this machine's, or nobody's
    STOPPED = "stopped"  # take over: the holder has stopped
    SILENT = "silent"  # take over: the holder sent no heartbeat for SILENCE
    TAKEN = "taken"  # refuse: the holder lives


def judge(holder: Holder | None, me: Identity, uptime: float) -> Verdict:
    """Whether ``me`` may run the node. ``uptime``: seconds since the machine booted.

    - The same boot, network namespace and state directory is the same place. This process has the directory's lock, so
      the daemon that wrote the heartbeat is gone. Another daemon of this machine has a directory of its own.
    - A machine that has booted since the last heartbeat has ended the daemon that sent it. A heartbeat that is younger
      than the boot came from elsewhere: from a clone with the same machine id.
    """
    if holder is None or not holder.identity.machine:
        return Verdict.OWN
    known = holder.identity
    same_machine, here = known.machine == me.machine, known.is_beside(me)
    if here and ("" in (known.folder, me.folder) or known.folder == me.folder):
        return Verdict.OWN
    if holder.age is None:
        return Verdict.OWN if same_machine or here else Verdict.STOPPED
    if same_machine and known.boot != me.boot and holder.age >= uptime:
        return Verdict.OWN
    return Verdict.TAKEN if holder.age <= SILENCE else Verdict.SILENT


class Claimed(NamedTuple):
    """The result of a claim."""

    done: bool  # False: the holder is another one than was seen, so judge again
    came_back: bool = False  # the boot is one of before: see :func:`wgsyncd.core.records.doubted`


class Heartbeat(Enum):
    """The result of a heartbeat."""

    WRITTEN = "written"
    LOST = "lost"  # another machine holds the node
    CLONED = "cloned"  # a later boot of the same machine holds the node, although this one wrote within SILENCE
    CAME_BACK = "came back"  # the machine is still the holder, but was put back to an earlier moment of its boot
