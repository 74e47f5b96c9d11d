"""The spooler keeps samples that the store does not take, in memory and in the spool's file."""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from typing import NamedTuple

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import InterfaceState
from wgsyncd.core.records import PeerId
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.core.usage.calendar import BOUNDARY_GRACE, UsageCalendar
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.state_cache import StateCache
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import SpoolCorrupt, SpoolError
from wgsyncd.ports import Clock, Spool


class Samples(NamedTuple):
    """The dumps of interfaces, and the time of the dumps by both clocks."""

    actual: Mapping[str, InterfaceState]  # by interface name
    now: float  # UNIX seconds
    monotonic: float  # seconds

    def without(self, peers: Set[PeerId]) -> "Samples":
        if not peers:
            return self
        rest = {
            name: {key: found for key, found in state.peers.items() if (name, key) not in peers}
            for name, state in self.actual.items()
        }
        return self._replace(actual={name: replace(self.actual[name], peers=one) for name, one in rest.items()})


class Spooler:
    """Keeps the backlog of one node, in memory and in the spool's file.

    :mod:`wgsyncd.core.usage.backlog` says which samples a backlog keeps and why late posting is exact.
    """

    def __init__(
        self, settings: Settings, spool: Spool, status: DaemonStatus, clock: Clock, state: AgentState,
        cache: StateCache, calendar: Callable[[float], UsageCalendar],
    ) -> None:  # fmt: skip
        self._settings, self._spool, self._status, self._clock, self._state = settings, spool, status, clock, state
        self._cache, self._calendar = cache, calendar
        self._log = log.get("accounting")
        self._changed = log.OnChange()

    def drained(self) -> None:
        """Note that the backlog is posted and the spool has room. A later lack of room is logged again."""
        self._changed("full", False)

    def end(self) -> int:
        """The number that the next kept sample gets."""
        return self.load().next_number

    def note_sampled(self, actual: Iterable[str], now: float) -> None:
        """Note that all bytes that these interfaces counted until ``now`` (UNIX seconds) are posted or kept."""
        before = {name: at for name, at in self._state.sampled_at.items() if name in self._settings.interfaces}
        self._state.sampled_at = self._status.sampled_at = {**before, **dict.fromkeys(actual, now)}

    def keep(self, samples: Samples, *, whole: bool = True) -> None:
        """Keep what these samples say and the store does not have, until it can be posted.

        A spool that cannot be written raises no error: the samples wait in memory, and the log says so once.
        ``whole``: the samples have all peers of their interfaces.
        """
        actual, now, monotonic = samples
        before, states = self.load(), tuple(actual.values())
        backlog, kept = self._with(before, states, now, now - monotonic, 0)
        if backlog is not before or not self._state.spool_up:
            if not self.save(backlog):
                # The file stays as it is, so no sample that is in the file may be replaced.
                backlog, kept = self._with(before, states, now, now - monotonic, self._state.durable_position)
                self._show(backlog)
            self._state.backlog = backlog
        if whole:
            self._state.last_samples = {**self._state.last_samples, **dict.fromkeys(kept, monotonic)}
        if whole and self._state.spool_up:
            self.note_sampled(kept, now)

    def keep_restarted(self, samples: Samples, peers: Set[PeerId]) -> None:
        """Keep the samples of ``peers``, which are about to be removed, whose counters restarted at zero.

        The last sample, which follows, may not show the restart any more. A second posting of such a sample is
        harmless.
        """
        parts = [self.load().restarted(state, peers, self._cache.last_known) for state in samples.actual.values()]
        self.keep(samples._replace(actual={part.name: part for part in parts if part.peers}), whole=False)

    def _with(
        self, backlog: Backlog, states: Iterable[InterfaceState], now: float, ahead: float, durable_position: int
    ) -> tuple[Backlog, list[str]]:
        """The backlog with these dumps added, and the names of the interfaces that had room.

        ``ahead``: UNIX seconds minus monotonic seconds at the dump. Samples up to ``durable_position`` stay unchanged.
        """
        calendar, kept = self._calendar(now), list[str]()
        times = to_unix(self._state.last_samples, ahead)
        for state in states:
            since = times.get(state.name, 0.0)
            day = calendar.day(now - BOUNDARY_GRACE)  # A sample in a day's first second closes the day before.
            day = day if calendar.day(since) == day else ""
            try:
                backlog = backlog.append(
                    state, since, now, day, self._cache.last_known, durable_position=durable_position
                )
            except OverflowError as error:
                if self._changed("full", True):
                    self._log.error("spool is full: later samples wait in the kernel only", why=str(error))
                continue
            kept.append(state.name)
        return backlog, kept

    def load(self) -> Backlog:
        """The backlog. The first call reads it from the spool's file.

        If the file is damaged, the spool renames it, and the loss is logged and audited. If the file cannot be read, it
        is never overwritten, and samples wait in memory only.
        """
        if self._state.backlog is not None:
            return self._state.backlog
        found: Backlog | None = None
        try:
            found = self._spool.load()
        except SpoolCorrupt as error:
            self._report_loss(str(error), error.name)
        except SpoolError as error:
            self._keep_unread(error)
        self._state.backlog = found or self._spool.begin()
        self._state.first_number = self._state.backlog.next_number
        self._state.durable_position = self._state.first_number - 1 if found is not None else 0
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for sample in self._state.backlog.samples:
            if sample.at <= now:
                self._state.last_samples[sample.state.name] = monotonic - (now - sample.at)
        self._show(self._state.backlog)
        if found is not None and found.samples:
            self._log.info("spooled samples found", samples=len(found.samples), peers=found.peers)
        return self._state.backlog

    def own(self) -> Backlog:
        """The backlog of this node. The store must have answered, so that a renamed node has its former backlog.

        The samples of any other node are put aside, and the loss is logged and audited.
        """
        backlog = self.load()
        if not backlog.other_node:
            return backlog
        own = tuple(one for one in backlog.samples if one.number >= self._state.first_number)
        if len(own) < len(backlog.samples):
            try:
                name = self._spool.set_aside()
                self._report_loss(f"the spool belongs to node {backlog.other_node}. It is now {name}", name)
            except SpoolError as error:
                self._keep_unread(error)
        self._state.durable_position = 0
        self._state.backlog = replace(self._spool.begin(), next_number=backlog.next_number, samples=own)
        self.save(self._state.backlog)
        return self._state.backlog

    def rename_from(self, node: str) -> None:
        """Give the spool's file of ``node``, the former name of this node, the present name.

        A file that cannot be written keeps its name until a later save. Its samples are in memory, and are posted next.
        """
        if self.load().other_node == node:
            self._state.backlog = replace(self.load(), other_node="")
            self.save(self._state.backlog)

    def recall(self, position: str) -> None:
        """Let posted samples wait again that the node state does not have any more. It went back to ``position``."""
        before = self.load()
        if before.other_node:
            return
        backlog = self._state.backlog = before.recall(position)
        if lost := len(backlog.samples) - len(before.samples):
            self._log.warning("the database lost the posting of spooled samples: they are posted again", samples=lost)
            self.save(backlog)

    def _report_loss(self, why: str, file: str) -> None:
        self._status.spool_corruptions += 1
        self._log.error("the spool is damaged: its samples are not posted", why=why)
        self._cache.queue_audit(AuditEvent(AuditAction.SPOOL_CORRUPT, self._settings.node.name, AuditFacts(file=file)))

    def _keep_unread(self, error: SpoolError) -> None:
        """Write nothing to the file, because it has samples that nobody has read."""
        self._state.may_save = False
        self._set_spool_up(False)
        self._log.error("spool cannot be read: samples that cannot be posted wait in memory", why=str(error))

    def save(self, backlog: Backlog) -> bool:
        """Write the backlog to the spool's file. Whether the file has the backlog now."""
        self._show(backlog)
        if not self._state.may_save or not self._works(lambda: self._spool.save(backlog)):
            return False
        self._state.durable_position = backlog.next_number - 1
        return True

    def probe(self) -> None:
        """Find out whether the spool could be written, before it is needed. Otherwise a full disk would look well."""
        if self._state.may_save and self._state.spool_up:
            self._works(self._spool.probe)

    def _works(self, write: Callable[[], None]) -> bool:
        try:
            write()
        except SpoolError as error:
            self._set_spool_up(False)
            if self._changed("spool", True):
                self._log.error("spool cannot be written: samples wait in memory", why=str(error))
            return False
        self._set_spool_up(True)
        self._changed("spool", False)
        return True

    def _set_spool_up(self, up: bool) -> None:
        self._state.spool_up = self._status.spool_up = up

    def _show(self, backlog: Backlog) -> None:
        self._status.spool_pending_counters = backlog.peers
        self._status.spooled_since = min((sample.at for sample in backlog.samples), default=0.0)


def to_unix(times: Mapping[str, float], ahead: float) -> dict[str, float]:
    """Monotonic seconds as UNIX seconds, by interface. ``ahead``: UNIX seconds minus monotonic seconds at the dump.

    The wall clock may have been set since, so times are kept by the monotonic clock.
    """
    return {name: at + ahead for name, at in times.items()}
