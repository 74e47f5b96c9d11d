"""A spool in memory, which behaves like the one in a file and fails when told to."""

from __future__ import annotations

import itertools
from dataclasses import replace

from tests.fakes import Crash
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.errors import SpoolCorrupt, SpoolError

_STREAMS = itertools.count(1)


class FakeSpool:
    """Implements the port Spool in memory. What was saved survives a restart of the process.

    Faults:

    - ``full``: nothing can be saved
    - ``damaged``: the next load quarantines what was saved
    - ``unreadable``: the file cannot be read now
    - ``next_saves``: the fates of the next saves in order: "ok", "fails", "crash before", "crash after"
    """

    def __init__(self, node: str = "r640") -> None:
        self.kept: Backlog | None = None
        self.kept_for = node  # the node name in the file
        self.full = self.damaged = self.unreadable = False
        self.next_saves: list[str] = []
        self.saves = 0
        self.open(node)

    def open(self, node: str) -> None:
        """A process of this node begins."""
        self._node = node

    def begin(self) -> Backlog:
        """An empty backlog. No stream has the name of another one, even on another machine."""
        return Backlog(f"stream{next(_STREAMS)}")

    def set_aside(self) -> str:
        """Forget what was saved."""
        self.kept = None
        return "spool.bad1"

    def load(self) -> Backlog | None:
        """The backlog that was saved last, or None."""
        if self.unreadable:
            raise SpoolError("spool cannot be read: Input/output error")
        if self.damaged:
            self.damaged = False
            raise SpoolCorrupt("spool is set aside as spool.bad1: torn", self.set_aside())
        other_node = "" if self.kept_for == self._node else self.kept_for
        return self.kept and replace(self.kept, other_node=other_node)

    def probe(self) -> None:
        """Fails as a save would."""
        if self.full:
            raise SpoolError("spool cannot be written: No space left on device")

    def save(self, backlog: Backlog) -> None:
        """Keep a backlog in place of the one that was saved before."""
        fate = self.next_saves.pop(0) if self.next_saves else "ok"
        if self.full or fate == "fails":
            raise SpoolError("spool cannot be written: No space left on device")
        if fate == "crash before":
            raise Crash
        self.kept, self.kept_for = backlog, backlog.other_node or self._node
        self.saves += 1
        if fate == "crash after":
            raise Crash
