"""Accounting posts samples to the store: the backlog first, then the samples just taken.

If the store takes nothing, the caller hands the samples to the spooler, and a later call posts them.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.model import DeviceId, DeviceRow, InterfaceState, PeerState, PublicKey, RowKey
from wgsyncd.core.network import parse_host
from wgsyncd.core.peers.renaming import renames
from wgsyncd.core.state import InterfaceCheckpoint, NodeState, WriteBatch
from wgsyncd.core.usage import posting
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.holding import Holding
from wgsyncd.engine.spooler import Samples, Spooler, to_unix
from wgsyncd.engine.state_cache import StateCache, Until, never
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.ports import Clock, Spool, Store

NOTHING = WriteBatch()
_WAITING = {
    Obstacle.LOCKED: "another program has locked rows: their bytes are posted later",
    Obstacle.LATE: "the database is too slow to change rows: their bytes are posted later",
}


class Accounting:
    """Posts what the counters of one node's interfaces say, and keeps the usage windows up to date."""

    def __init__(
        self, settings: Settings, store: Store, spool: Spool, status: DaemonStatus, clock: Clock,
        state: AgentState, holding: Holding,
    ) -> None:  # fmt: skip
        self._settings, self._store, self._status, self._state = settings, store, status, state
        self._log = log.get("accounting")
        self._changed = log.OnChange()
        self._max_rates = {name: float(one.line_rate) for name, one in settings.interfaces.items()}
        self.cache = StateCache(store, status, state, holding)
        self.spooler = Spooler(settings, spool, status, clock, state, self.cache, self.calendar)
        holding.before_rename = self.spooler.rename_from
        self.cache.recall = self.spooler.recall
        state.refreshed = None
        self._refused: dict[str, str] = {}  # devices with a row that the server refuses to change, and its error

    def calendar(self, now: float) -> UsageCalendar:
        """The usage calendar at ``now`` (UNIX seconds)."""
        return UsageCalendar(now, int(self._settings.usage.bucket_width), self._settings.node.zone)

    # -- into the store

    def must_come_first(self, actual: Mapping[str, InterfaceState], now: float, rows: Sequence[DeviceRow]) -> bool:
        """Whether something must be posted before the kernel is changed.

        That is a backlog, because none of its peers may be added again before its samples are posted. It is also a
        peer of ``rows`` that has no record, because it was there before wgsyncd. After a rename of an interface, the
        samples come first, too. ``now``: UNIX seconds.
        """
        node_state = self.cache.current(self.calendar(now))
        if renames(node_state, actual, self._settings.interfaces):
            return True
        return bool(self.spooler.load().samples) or bool(_rows_of_unrecorded(actual, node_state, rows, now))

    def post(
        self, samples: Samples, more: WriteBatch = NOTHING, rows: Sequence[DeviceRow] | None = None, *,
        until: Until = never, end: int | None = None,
    ) -> frozenset[DeviceId] | None:  # fmt: skip
        """Post the backlog and then these samples. Returns the ids of the rows whose transition was committed.

        The last transaction also commits ``more``. If nothing moved and ``more`` is empty, nothing is written. If
        ``rows`` were just read, a peer without a record is adopted.

        ``until`` is asked after each transaction that posted something. If it says yes, None is returned. A call with
        the same samples then posts the rest. ``end``: samples of the backlog with this number or a higher one wait.
        They are the last samples of peers that were removed meanwhile, so they are later than ``samples``.
        StoreError if a transaction failed.
        """
        actual, now, monotonic = samples
        devices = self.cache.devices_posted

        def is_told_to_stop() -> bool:
            nonlocal devices
            before, devices = devices, self.cache.devices_posted
            return devices > before and until()  # So every call makes progress, even if ``until`` always says yes.

        self._follow_renames(actual, now)
        if not self.post_backlog(now, is_told_to_stop, end):
            return None
        calendar = self.calendar(now)
        unknown = _rows_of_unrecorded(actual, self.cache.current(calendar), rows, now) if rows is not None else None
        if unknown:
            why = "no record has their baseline: only devices without usage get the bytes until now"
            self._log.warning("peers without a record are taken over", peers=len(unknown), why=why)
        since = to_unix(self._state.last_samples, now - monotonic)
        account = partial(posting.post, calendar=calendar, since=since, max_rates=self._max_rates)
        for part in posting.chunks(actual, self.cache.current(calendar), {step.row.id for step, _ in more.transitions}):
            some = account(part, self.cache.current(calendar), complete=False)
            if self._commit(some, NOTHING, calendar, is_told_to_stop) is None or is_told_to_stop():
                return None
        rest = account(actual, self.cache.current(calendar), rows=unknown, former=self._state.former)
        applied = self._commit(rest, more, calendar, is_told_to_stop)
        if applied is None:
            return None
        self._state.last_samples = {**self._state.last_samples, **dict.fromkeys(actual, monotonic)}
        self.spooler.note_sampled(actual, now)
        self.spooler.probe()
        if rows is not None:
            self._state.former = None  # no peer without a record is left
        return applied

    def _post_set_aside(self, now: float, blocked: Set[DeviceId]) -> None:
        if not self._state.rows_loaded:
            return  # nobody knows which transitions are due
        left = self._status.set_aside = tuple(self._store.post_set_aside(self.calendar(now), blocked))
        for obstacle, what in _WAITING.items():
            rows = len(self._status.rows_set_aside(obstacle))
            if self._changed(obstacle, bool(rows)) and rows:
                self._log.warning(what, rows=rows)
        refused = {one.device: one.detail for one in left if one.obstacle is Obstacle.REFUSED}
        before, self._refused = self._refused, refused
        for device, why in refused.items():
            if before.get(device) != why:
                self._log.error("the server refuses to change a row: its bytes are set aside", device=device, why=why)
        for device in before.keys() - refused.keys():
            self._log.info("the row can be changed again: its bytes are posted", device=device)

    def post_backlog(self, now: float, until: Until = never, end: int | None = None) -> bool:
        """Post the backlog, one sample after the other. False if ``until`` said yes before the end of the backlog.

        The transaction that completes a sample also stores its position: see :mod:`wgsyncd.core.usage.backlog`.
        ``now``: UNIX seconds. ``end``: see :meth:`post`. StoreError if a transaction failed.
        """
        calendar = self.calendar(now)
        position = self.cache.current(calendar).spool_position
        backlog = self.spooler.own()
        if not backlog.samples:
            if not self._state.spool_up:  # The file may still have samples that are posted by now.
                self.spooler.save(backlog)
            return True
        backlog = self._state.backlog = backlog.after(position)
        dropped = 0
        waiting = [sample for sample in backlog.samples if end is None or sample.number < end]
        for sample in waiting:
            node_state = self.cache.current(calendar)
            name = node_state.recorded_name(sample.state) or sample.state.name
            span = sample.at - sample.since
            since = {name: min(sample.at, now) - span} if sample.since else {}
            result = posting.post(
                {name: sample.state}, node_state, calendar,
                since=since, max_rates=self._max_rates, at=sample.at, complete=False,
            )  # fmt: skip
            # A sample that is not in the file needs no position of its own. The node state keeps the one that it has.
            position = (
                backlog.position(sample)
                if sample.number <= self._state.durable_position
                else node_state.spool_position or f"{backlog.stream}:0"
            )
            if self._commit(result, WriteBatch(spool_position=position), calendar, until) is None:
                return False
            unknown = sample.state.peers.keys() - node_state.records.of(name).keys()
            dropped += len(unknown)
            if unknown:
                why = "no record has the baseline of these peers"
                self._log.warning("spooled sample dropped", interface=name, peers=len(unknown), why=why)
            left = self._state.backlog
            left = left.retain(sample) if sample.number <= self._state.durable_position else left
            later = tuple(one for one in left.samples if one.number > sample.number)
            self._state.backlog = replace(left, samples=later)
            if until():
                self.spooler.save(self._state.backlog)  # Otherwise the posted samples would stay in the file.
                return False
        if backlog.samples and not waiting:
            return True
        self.spooler.save(self._state.backlog)
        self.spooler.drained()
        if posted := sum(len(one.state.peers) for one in waiting) - dropped:
            self._log.info("spooled samples posted", samples=len(waiting), peers=posted)
        return True

    def _follow_renames(self, actual: Mapping[str, InterfaceState], now: float) -> bool:
        """Let the records of a renamed interface go on under its present name. Whether there was one."""
        calendar = self.calendar(now)
        writes = renames(self.cache.current(calendar), actual, self._settings.interfaces)
        if not writes:
            return False
        self.post_backlog(now)  # The waiting samples need the records that go.
        for old, new in writes.renamed.items():
            peers = len(self.cache.current(calendar).records.of(old))
            if new is not None:
                self._log.info("interface was renamed: its records go on", interface=new, previous=old, peers=peers)
            else:
                self._log.info("interface is not configured any more: its records go", interface=old, peers=peers)
        self.cache.commit(writes, calendar)
        return True

    def refresh(self, now: float, blocked: Set[DeviceId]) -> None:
        """Post what was set aside, and bring the store's figures that depend on the time up to date after a boundary.

        ``now``: UNIX seconds. ``blocked``: ids of the rows with a transition that was not made. They wait, because a
        posted handshake would hide the transition. A cycle does this last, so that a row that another transaction has
        locked delays no removal. If rows were locked, the next call tries again.
        """
        self._post_set_aside(now, blocked)
        self._status.unwritten_audit_rows = self._store.unwritten
        calendar = self.calendar(now)
        if (before := self._state.refreshed) != calendar.version:
            self.cache.look_at_revision(calendar)
            # Without a refresh in this month, the columns may be of another one. A locked row delays the refresh.
            if before is not None and before[1] == calendar.month[0] and self._state.compared != calendar.version:
                self.cache.look_for_older_columns(calendar)
                self._state.compared = calendar.version
            _, locked = self._store.refresh(calendar)
            if not locked:
                self._state.refreshed = calendar.version

    def checkpoints(self, now: float) -> WriteBatch:
        """The times of the last samples, as checkpoints to commit. ``now``: UNIX seconds.

        After a restart, posting knows by the checkpoints that the new bytes came later. At other times, checkpoints
        are written only together with bytes.
        """
        marks = self.cache.current(self.calendar(now)).interfaces
        at = {name: min(seconds, now) for name, seconds in self._state.sampled_at.items()}
        return WriteBatch(checkpoints={
            name: InterfaceCheckpoint(mark.epoch, at[name])
            for name, mark in marks.items()
            if at.get(name, 0.0) > mark.at
        })  # fmt: skip

    def _commit(
        self, result: posting.PostingResult, more: WriteBatch, calendar: UsageCalendar, until: Until
    ) -> frozenset[DeviceId] | None:
        writes = result.writes + WriteBatch(audit=tuple(map(_event, result.anomalies))) + more
        if not writes:
            return frozenset()
        done = self.cache.commit(writes, calendar, until)
        if self._state.backlog is not None:
            self._state.backlog = self._state.backlog.forget(calendar.now)
        if done is None:
            return None  # The anomalies come again: their rows are in the last transaction, which was not committed.
        labels = Labels.of_rows(self._status.rows or (), {one.device for one in result.anomalies})
        for one in result.anomalies:
            self._status.anomalies.add(one.kind)
            facts = {"kind": one.kind, "interface": one.interface, "device": one.device}
            self._log.warning("usage anomaly", **facts, **labels.fact(one.device))
        return done


def _rows_of_unrecorded(
    actual: Mapping[str, InterfaceState], node_state: NodeState, rows: Iterable[DeviceRow], now: float
) -> dict[PublicKey, DeviceRow]:
    """The rows whose key has an actual peer without a record, by key. ``rows`` are in the order of their ids.

    If several rows have the same key, a row that asks for a peer at ``now`` wins. Among these rows, the row with the
    peer's address wins, else the row with the lowest id. The plan decides in the same way.
    """
    unrecorded: Mapping[RowKey, PeerState] = {
        key: found
        for name, state in actual.items()
        for key, found in state.peers.items()
        if key not in node_state.records.of(name)
    }
    whose: dict[PublicKey, tuple[tuple[bool, bool], DeviceRow]] = {}
    for row in rows if unrecorded else ():
        found = unrecorded.get(row.public_key)
        if found is None:
            continue
        rank = row.inactive_reason(now) is not None, not _has_address(found, row)  # the lowest rank wins
        rival = whose.get(found.config.public_key)
        if rival is None or rank < rival[0]:
            whose[found.config.public_key] = rank, row
    return {key: row for key, (_, row) in whose.items()}


def _has_address(found: PeerState, row: DeviceRow) -> bool:
    for text in row.addresses:
        with contextlib.suppress(ValueError):
            if parse_host(text) in found.config.allowed_ips:
                return True
    return False


def _event(anomaly: posting.Anomaly) -> AuditEvent:
    facts = AuditFacts(
        interface=anomaly.interface, anomaly=anomaly.kind, previous=anomaly.previous, current=anomaly.current
    )
    return AuditEvent(AuditAction.USAGE_ANOMALY, anomaly.device, facts)
