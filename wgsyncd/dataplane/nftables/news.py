"""Tells whether the table has to be read again, and which other program changed it.

The kernel tells which tables each commit has changed. So programs that change tables of their own cost nothing here,
however often they do it. Where news may be missing, the table is read.
"""

from wgsyncd.dataplane.nftables.netfilter import Commit, Netfilter


class News:
    """Knows in which generation of the kernel's rules the table was read."""

    def __init__(self, netfilter: Netfilter) -> None:
        self._netfilter = netfilter
        self._generation: int | None = None  # None: the table has to be read
        self._heard: list[Commit] = []  # since the last read
        self._own: set[int] = set()  # ids of our nft processes since then
        self.culprit = ""  # the process that changed the table last, and its id

    def is_due(self) -> bool:
        """Whether the table may have changed since it was read."""
        if self._generation is None:
            return True
        present = self._netfilter.generation()
        if present == self._generation:
            return False
        self._heard += self._netfilter.commits()
        for one in self._heard:
            if one.generation == self._generation + 1 and not one.may_be_ours:
                self._generation = one.generation
        self._heard = [one for one in self._heard if one.generation > self._generation or one.may_be_ours]
        return self._generation != present  # The kernel counts a commit before it tells of it.

    def forget(self) -> None:
        """Read the table in any case."""
        self._generation = None

    def note_own(self, pid: int) -> None:
        """Note a process of our own that commits."""
        self._own.add(pid)

    def begin(self) -> int:
        """Begin to read the table. Returns the generation that :meth:`end` needs."""
        generation, self._generation = self._netfilter.generation(), None
        self._heard += self._netfilter.commits()
        others = [one for one in self._heard if one.may_be_ours and one.pid not in self._own]
        self._heard.clear()
        self._own.clear()
        if others:
            self.culprit = f"{others[-1].process} ({others[-1].pid})"
        return generation

    def end(self, generation: int) -> None:
        """Note that the table was read since it was in this generation."""
        self._generation = generation
