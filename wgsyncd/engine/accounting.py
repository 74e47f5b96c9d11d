"""From dumps to booked bytes: at once where the store takes them in, through the spool where it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from functools import partial

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import Scribe
from wgsyncd.core.model import InterfaceState, PeerState, PublicKey, Row, RowKey
from wgsyncd.core.network import parse_host
from wgsyncd.core.records import Slot
from wgsyncd.core.state import Ledger, Sampled, Writes
from wgsyncd.core.usage import posting
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.core.usage.calendar import EDGE, Windows
from wgsyncd.engine.state_cache import Books
from wgsyncd.engine.status import Health
from wgsyncd.errors import RowsLocked, SpoolDamaged, SpoolError
from wgsyncd.ports import Clock, Spool, Store

NOTHING = Writes()


class Accounting:
    """One node's account of its interfaces' counters."""

    def __init__(
        self, settings: Settings, store: Store, spool: Spool, health: Health, clock: Clock, scribe: Scribe
    ) -> None:
        self._settings, self._store, self._spool = settings, store, spool
        self._health, self._clock, self._scribe = health, clock, scribe
        self._log = log.get("accounting")
        self._edge = log.Edge()
        self._max_rates = {name: float(one.max_rate) for name, one in settings.interfaces.items()}
        self.books = Books(store, health)
        # Monotonic time of the last look at each interface, all of which is booked or kept.
        self._looked_at: dict[str, float] = {}
        self._late: dict[int, dict[str, float]] = {}  # the same for the rows that were locked since
        self._rolled: tuple[int, str] | None = None
        self._backlog: Backlog | None = None  # None: the spool was not looked into yet
        self._may_save = True
        self._firm = 0  # samples up to this number stand in the file as they do in memory, or are booked
        self._posting: tuple[Mapping[str, InterfaceState], float, float] | None = None  # what :meth:`book` works on

    def inherit(self, old: Accounting) -> None:
        """Take over what the previous configuration's had seen."""
        self._looked_at, self._late, self._backlog = old._looked_at, old._late, old._backlog
        self._may_save, self._firm = old._may_save, old._firm
        self.books.inherit(old.books)

    def windows(self, now: float) -> Windows:
        """The windows at an instant."""
        return Windows(now, int(self._settings.usage.bucket), self._settings.node.zone)

    # -- into the store

    def must_come_first(self, live: Mapping[str, InterfaceState], now: float, rows: Sequence[Row]) -> bool:
        """Whether there is something to book before the kernel is changed: samples that wait (a peer among them must
        not be added anew before they are booked), or peers of rows that were there before us."""
        ledger = self.books.ledger(self.windows(now))
        return bool(self._load().samples) or bool(_rows_of_unrecorded(live, ledger, rows))

    def book(
        self,
        live: Mapping[str, InterfaceState],
        now: float,
        mono: float,
        more: Writes = NOTHING,
        rows: Sequence[Row] | None = None,
        *,
        may_leave_off: bool = False,
    ) -> frozenset[int]:
        """Book what waits, then these dumps, in one go with ``more``; the ids of the rows whose step was taken. Nothing
        is sent where nothing moved. ``now``, ``mono``: when they were asked for, by both clocks. ``rows``: where they
        were just read, peers without a record may be adopted."""
        self._posting = live, now, mono
        try:
            self.book_backlog(now)
            windows = self.windows(now)
            unknown = _rows_of_unrecorded(live, self.books.ledger(windows), rows) if rows is not None else None
            since = _wall(self._looked_at, now - mono)
            late = {row_id: _wall(looked, now - mono) for row_id, looked in self._late.items()}
            account = partial(posting.book, windows=windows, since=since, late=late, max_rates=self._max_rates)
            for part in posting.portions(live, self.books.ledger(windows), {step.row.id for step, _ in more.steps}):
                some = account(part, self.books.ledger(windows), whole=False)
                with suppress(RowsLocked):  # what of it is not booked is a part of the rest, which says so
                    self._commit(some, NOTHING, windows, may_leave_off=may_leave_off)
                self.books.between(may_leave_off=may_leave_off)
            rest = account(live, self.books.ledger(windows), rows=unknown)
            taken, left_out = self._commit(rest, more, windows, may_leave_off=may_leave_off)
            self._health.locked_rows = len(left_out)
            if self._edge("locked", bool(left_out)) and left_out:
                self._log.warning("rows are locked by somebody else: booked once they are free", rows=len(left_out))
            self._late = {row_id: self._late.get(row_id, self._looked_at) for row_id in left_out}
            self._looked_at = {**self._looked_at, **dict.fromkeys(live, mono)}
            if not left_out:
                self._note_sampled(live, now)
            return taken
        finally:
            self._posting = None

    def book_backlog(self, now: float) -> None:
        """Book the samples that wait, each in a transaction that says so: see :mod:`wgsyncd.core.usage.backlog`."""
        backlog = self._load()
        if not backlog.samples:
            if not self._health.spool_ok:  # what was booked still stands in the file
                self._save(backlog)
            return
        windows = self.windows(now)
        backlog = self._backlog = backlog.unbooked(self.books.ledger(windows).spool)
        for sample in backlog.samples:
            name, span = sample.state.name, sample.at - sample.since
            since = {name: min(sample.at, now) - span} if sample.since else {}
            ledger = self.books.ledger(windows)
            booking = posting.book(
                {name: sample.state}, ledger, windows, since=since, max_rates=self._max_rates, at=sample.at, whole=False
            )
            # One that no file has needs no mark of its own; that of the file stays.
            mark = backlog.mark(sample) if sample.number <= self._firm else ledger.spool or f"{backlog.stream}:0"
            self._commit(booking, Writes(spool=mark), windows)
            later = tuple(one for one in self._backlog.samples if one.number > sample.number)
            self._backlog = replace(self._backlog, samples=later)
        self._save(self._backlog)
        self._edge("full", False)
        self._log.info("spooled samples booked", samples=len(backlog.samples), peers=backlog.peers)

    def roll(self, now: float) -> None:
        """Roll the rolling and monthly figures on where an edge has passed. Last of all work: a row that somebody has
        locked must not keep a revoked peer in."""
        windows = self.windows(now)
        if self._rolled != windows.mark:
            _, locked = self._store.roll(windows)
            if not locked:
                self._rolled = windows.mark

    def settled(self, now: float) -> Writes:
        """When the interfaces were last looked at, for the books: what is booked after a restart came later than that.
        Otherwise this is written only with bytes."""
        marks = self.books.ledger(self.windows(now)).interfaces
        at = {name: min(seconds, now) for name, seconds in self._health.sampled_at.items()}
        return Writes(sampled={
            name: Sampled(mark.epoch, at[name]) for name, mark in marks.items() if at.get(name, 0.0) > mark.at
        })  # fmt: skip

    def _commit(
        self, booking: posting.Booking, more: Writes, windows: Windows, *, may_leave_off: bool = False
    ) -> tuple[frozenset[int], frozenset[int]]:
        words = tuple(
            self._scribe.entry(
                "usage_anomaly", a.device, interface=a.interface, what=a.kind, old_rx=a.was.rx, rx=a.found.rx,
                old_tx=a.was.tx, tx=a.found.tx,
            )
            for a in booking.anomalies
        )  # fmt: skip
        writes = booking.writes + Writes(audit=words) + more
        if not writes:
            return frozenset(), frozenset()
        done = self.books.commit(writes, windows, may_leave_off=may_leave_off)
        for anomaly in booking.anomalies:
            self._health.add("anomalies", anomaly.kind)
            self._log.warning("usage anomaly", kind=anomaly.kind, interface=anomaly.interface, device=anomaly.device)
        return done

    def _note_sampled(self, live: Iterable[str], now: float) -> None:
        before = {name: at for name, at in self._health.sampled_at.items() if name in self._settings.interfaces}
        self._health.sampled_at = {**before, **dict.fromkeys(live, now)}

    # -- into the spool

    def keep(self, states: Iterable[InterfaceState], now: float, mono: float, *, whole: bool = True) -> None:
        """Keep what these dumps say and the books do not have, until it can be booked. Never raises: where it cannot be
        written it waits in memory, which is said once. ``now``, ``mono``: when they were asked for, by both clocks.
        ``whole``: they are of all peers."""
        before, states = self._load(), tuple(states)
        backlog, kept = self._with(before, states, now, now - mono, 0)
        if backlog is not before or not self._health.spool_ok:
            if not self._save(backlog):
                backlog, kept = self._with(before, states, now, now - mono, self._firm)
                self._show(backlog)
            self._backlog = backlog
        if whole:
            self._looked_at = {**self._looked_at, **dict.fromkeys(kept, mono)}
            self._late = {} if len(kept) == len(states) else self._late
        if whole and self._health.spool_ok:
            self._note_sampled(kept, now)

    def keep_unposted(self, slots: Set[Slot]) -> None:
        """Keep what the dumps say that :meth:`book` works on, of peers that are about to be removed. Their last sample
        follows. These dumps may show that a counter began anew; the last sample alone may not show this any more."""
        if self._posting is None:
            return
        live, now, mono = self._posting
        peers = {name: {k: v for k, v in state.peers.items() if (name, k) in slots} for name, state in live.items()}
        self.keep([replace(live[name], peers=some) for name, some in peers.items() if some], now, mono, whole=False)

    def _with(
        self, backlog: Backlog, states: Iterable[InterfaceState], now: float, ahead: float, firm: int
    ) -> tuple[Backlog, list[str]]:
        """The backlog with these dumps, and the interfaces for which there was room."""
        windows, kept = self.windows(now), list[str]()
        looked = [_wall(one, ahead) for one in (self._looked_at, *self._late.values())]
        for state in states:
            since = min(one.get(state.name, 0.0) for one in looked)
            day = windows.day(now - EDGE)  # a look on a day's first second closes the day before
            day = day if windows.day(since) == day else ""
            try:
                backlog = backlog.keep(state, since, now, day, self.books.known, firm=firm)
            except OverflowError as error:
                if self._edge("full", True):
                    self._log.error("spool is full: later samples wait in the kernel only", why=str(error))
                continue
            kept.append(state.name)
        return backlog, kept

    def _load(self) -> Backlog:
        if self._backlog is not None:
            return self._backlog
        found: Backlog | None = None
        try:
            found = self._spool.load()
        except SpoolDamaged as error:
            self._health.spools_set_aside += 1
            self._log.error("spooled samples are lost to the books", why=str(error))
            self.books.note(self._scribe.entry("spool_set_aside", self._settings.node.name, file=error.name))
        except SpoolError as error:
            self._may_save = False  # else what cannot be read would be overwritten
            self._health.spool_ok = False
            self._log.error("spool cannot be used: samples that cannot be booked wait in memory", why=str(error))
        self._backlog = found or self._spool.begin()
        self._firm = self._backlog.next_number - 1 if found is not None else 0
        now, mono = self._clock.now(), self._clock.monotonic()
        for sample in self._backlog.samples:
            if sample.at <= now:
                self._looked_at[sample.state.name] = mono - (now - sample.at)
        self._show(self._backlog)
        if found is not None and found.samples:
            self._log.info("spooled samples found", samples=len(found.samples), peers=found.peers)
        return self._backlog

    def _save(self, backlog: Backlog) -> bool:
        """Whether it stands in the file now."""
        self._show(backlog)
        if not self._may_save:
            return False
        try:
            self._spool.save(backlog)
        except SpoolError as error:
            self._health.spool_ok = False
            if self._edge("spool", str(error)):
                self._log.error("spool cannot be written: samples wait in memory", why=str(error))
            return False
        self._firm = backlog.next_number - 1
        self._health.spool_ok = True
        self._edge("spool", "")
        return True

    def _show(self, backlog: Backlog) -> None:
        self._health.spooled = backlog.peers
        self._health.spooled_since = min((sample.at for sample in backlog.samples), default=0.0)


def _wall(looked_at: Mapping[str, float], ahead: float) -> dict[str, float]:
    """Monotonic seconds as UNIX seconds of the clock as it went at the dump: it may have been set since."""
    return {name: at + ahead for name, at in looked_at.items()}


def _rows_of_unrecorded(
    live: Mapping[str, InterfaceState], ledger: Ledger, rows: Iterable[Row]
) -> dict[PublicKey, Row]:
    """The rows whose key is live but not in the books. Of several rows with one key it is the one whose address the
    peer has, else the lowest id: as the plan decides too."""
    unrecorded: Mapping[RowKey, PeerState] = {
        key: found
        for name, state in live.items()
        for key, found in state.peers.items()
        if key not in ledger.records.of(name)
    }
    whose: dict[PublicKey, Row] = {}
    for row in rows if unrecorded else ():
        found = unrecorded.get(row.public_key)
        if found is None:
            continue
        rival = whose.get(found.peer.public_key)
        if rival is None or (_has_address(found, row) and not _has_address(found, rival)):
            whose[found.peer.public_key] = row
    return whose


def _has_address(found: PeerState, row: Row) -> bool:
    try:
        return parse_host(row.address) in found.peer.allowed_ips
    except ValueError:
        return False
