"""What a cycle is about to do and has done is written down, in the books and in the log; and who approved of it."""

from __future__ import annotations

from collections.abc import Iterable

from wgsyncd import log
from wgsyncd.core.audit import Scribe
from wgsyncd.core.model import Kind
from wgsyncd.core.peers import recording
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.core.state import Ledger, Writes
from wgsyncd.core.usage.calendar import Windows
from wgsyncd.engine.announce import announce
from wgsyncd.engine.interfaces import Live
from wgsyncd.engine.state_cache import Books
from wgsyncd.ports import Snapshot


class Chronicle:
    """One node's. ``approver``: who has let the plan through that the next cycle carries out."""

    def __init__(self, node: str, books: Books, scribe: Scribe) -> None:
        self._node, self._books, self._scribe = node, books, scribe
        self._log = log.get("agent")
        self._edge = log.Edge()
        self.approver = ""

    def before(self, outlook: Outlook, windows: Windows) -> None:
        """Baseline zero of who is about to be added, and what else must stand before the kernel is changed."""
        writes = recording.before_apply(
            self._books.ledger(windows), outlook.plan.changes, outlook.live, outlook.desired, self._scribe, windows.now
        )
        if outlook.approved:
            count = len(outlook.plan.of(Kind.REMOVE))
            facts = {"count": count, "plan": outlook.plan_id, "by": self.approver}
            # The condition ends here, so that removals which fail and are withheld again are told again.
            over = frozenset(c for c in self._books.ledger(windows).conditions if c.kind == "guard_tripped")
            entry = self._scribe.entry("guard_approved", self._node, **facts)
            writes += Writes(approval_used=True, audit=(entry,), ended=over)
        if writes:
            self._books.commit(writes, windows)
        if outlook.approved:
            self.approver = ""

    def after(
        self, outlook: Outlook, after: Live, snapshot: Snapshot, missing: frozenset[str], windows: Windows
    ) -> None:
        """What came of it, by the dump ``after``, and what stands since or no longer."""
        parts = recording.after_apply(self._books.ledger(windows), after, outlook.desired, self._scribe, windows.now)
        writes = self._all_but_the_last(parts, windows)
        ledger = self._books.ledger(windows)
        conflicts = snapshot.conflicts
        if conflicts is None and self._edge("conflicts", "unseen"):
            self._log.warning("v_parent_conflicts cannot be read: parent conflicts are not watched")
        standing = recording.standing(outlook, conflicts, missing, self._node, ledger)
        writes += recording.conditions(ledger, standing, self._scribe)
        if snapshot.approved and not outlook.approved:
            writes += Writes(approval_used=True)  # for another set of removals than what is wanted now
            self.approver = ""
        if writes or self._books.has_notes:
            self._books.commit(writes, windows)
        announce(writes, outlook)  # once it is written: what fails is tried again, and would be said again

    def after_some(self, outlook: Outlook, after: Live, ledger: Ledger, windows: Windows) -> None:
        """The same for a few devices: ``ledger`` and ``after`` have theirs alone, and nothing is said of the rest."""
        parts = recording.after_apply(ledger, after, outlook.desired, self._scribe, windows.now)
        writes = self._all_but_the_last(parts, windows)
        if writes:
            self._books.commit(writes, windows)
        announce(writes, outlook)

    def _all_but_the_last(self, parts: Iterable[Writes], windows: Windows) -> Writes:
        """Commit these; the last one is left to be committed with more."""
        last = Writes()
        for part in parts:
            if last:
                self._books.commit(last, windows)
            last = part
        return last
