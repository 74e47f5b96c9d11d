"""The shell around core: gather, decide, act. One thread, no lock; whoever holds the agent calls one method at a time.

    reconcile: read the interfaces · load the rows · book the dumps · take the steps that are due in devices' lives ·
               plan · guard · commit baseline zero · apply · read back · write down what was done
    account:   read the interfaces · book the dumps · take the steps that are due

Each may fail at any line (StoreError) and be called again: what it did is found in the kernel and in the ledger, what
it did not is done then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from wgsyncd import log
from wgsyncd.announce import announce
from wgsyncd.books import Books
from wgsyncd.core import lifecycle, recording, usage
from wgsyncd.core.audit import Entry, Scribe
from wgsyncd.core.desired import Policy, Site, build_desired
from wgsyncd.core.ledger import Ledger, Writes
from wgsyncd.core.model import Change, InterfaceState, Kind, PublicKey, Row, Transition, encode_key
from wgsyncd.core.outlook import Limits, Outlook, look_ahead
from wgsyncd.core.plan import make_plan
from wgsyncd.errors import StoreError, WireGuardError
from wgsyncd.health import Health
from wgsyncd.interfaces import Interfaces, Live
from wgsyncd.picture import draw, recount
from wgsyncd.ports import Snapshot, Store, WireGuard
from wgsyncd.settings import Settings


@dataclass(frozen=True, slots=True)
class Clock:
    """UNIX seconds, which may step; and seconds that only go forward."""

    now: Callable[[], float]
    monotonic: Callable[[], float]


class Agent:
    """Keeps one node's interfaces equal to the store's rows, and the store's figures equal to the interfaces'."""

    def __init__(self, settings: Settings, wireguard: WireGuard, store: Store, health: Health, clock: Clock) -> None:
        self.settings, self.wireguard, self.store, self.health, self.clock = settings, wireguard, store, health, clock
        self._log = log.get("agent")
        self._scribe = Scribe(settings.audit.language)
        self._sites = tuple(
            Site(name, one.rows, one.networks, one.own_hosts, int(one.persistent_keepalive))
            for name, one in settings.interfaces.items()
        )
        self._interface_of = {site.rows: site.interface for site in self._sites}
        self._policy = Policy(
            frozenset(settings.node.elsewhere), settings.peers.foreign, frozenset(settings.peers.always_keep)
        )
        self._limits = Limits(settings.guard.min_removals, settings.guard.share)
        self._max_rates = {name: float(one.max_rate) for name, one in settings.interfaces.items()}
        self._edge = log.Edge()
        self._interfaces = Interfaces(settings, wireguard, health)
        self._books = Books(store, health)
        self._waiting: tuple[Row, ...] = ()  # rows that a handshake or a deadline can change, as last loaded
        self._loaded = False  # rows were read completely once
        self._epochs: dict[str, str] = {}  # of the interfaces as the last reconcile found them
        self.found_new = False  # an account found an interface that is new: it waits to be filled
        self._first_seen: dict[PublicKey, int] = {}  # earliest handshake seen of the keys of waiting rows
        self._accounted: dict[str, float] = {}  # monotonic time at which each interface was last booked completely
        self._rolled: tuple[int, str] | None = None
        self._unbooked: list[InterfaceState] = []  # last samples of peers removed while the store was away

    def inherit(self, old: Agent) -> None:
        """Take over what the agent of the previous configuration had seen."""
        self._first_seen, self._accounted, self._unbooked = old._first_seen, old._accounted, old._unbooked
        self._waiting, self._loaded = old._waiting, old._loaded
        self._books.inherit(old._books)
        self._interfaces.inherit(old._interfaces)

    def note(self, action: str, **facts: object) -> None:
        """Audit something about the daemon itself, with the next transaction."""
        self._books.note(self._scribe.entry(action, self.settings.node.name, **facts))

    def next_deadline(self) -> float | None:
        """UNIX seconds of the nearest QR end that is known."""
        return lifecycle.next_deadline(self._waiting, self.clock.now())

    # -- the two pieces of work

    def account(self) -> None:
        """Book what the counters and handshakes say. No statement is sent where nothing moved."""
        now = self.clock.now()
        live = self._interfaces.read()
        steps = self._due(self._waiting, live, now)
        try:
            # An end is left to the reconcile, which takes the peer out in the same cycle.
            self._book(live, now, [step for step in steps if step.kind != "expire"], None)
        except StoreError:
            self._honour_deadlines(live, steps)
            raise
        recount(self.health, live, now)
        self.found_new = any(self._epochs.get(name) != state.epoch for name, state in live.items())
        self._roll(self._windows(now))

    def reconcile(self) -> Outlook:
        """Make the kernel what the rows say, and write down what was done."""
        now = self.clock.now()
        live = self._interfaces.read()
        try:
            snapshot = self._snapshot()
        except StoreError:
            self._honour_deadlines(live, self._due(self._waiting, live, now))
            raise
        steps = self._due(snapshot.rows, live, now)
        taken = frozenset(step.row.id for step in steps)
        windows = self._windows(now)
        try:
            taken = self._book(live, now, steps, snapshot.rows)
            if steps:
                snapshot = self._snapshot()
            outlook = self._decide(snapshot, live, self._books.ledger(windows), now)
            self._before(outlook, windows)
        except StoreError:  # it answered, but takes nothing in, or went away right after it did
            self._honour_deadlines(live, [step for step in steps if step.row.id in taken])
            raise
        self._epochs, self.found_new = {name: state.epoch for name, state in live.items()}, False
        after = self._interfaces.apply(outlook.plan, live)
        # One made anew in between is for the next cycle: what it says was not asked of it.
        after = {name: state for name, state in after.items() if state.epoch == live[name].epoch}
        drift = make_plan(outlook.desired, after, self._books.ledger(windows).records, self._policy)
        undone = {(c.kind, c.interface, c.public_key) for c in outlook.plan.withheld}
        remaining = [c for c in drift.changes if (c.kind, c.interface, c.public_key) not in undone]
        if self._edge("drift", len(remaining)) and remaining:
            self._log.warning("drift after apply, tried again next cycle", peers=len(remaining))
        self._after(outlook, after, snapshot, windows)
        draw(self.health, self.settings, outlook, after, remaining, snapshot, now)
        self._roll(windows)
        return outlook

    def preview(self) -> Outlook:
        """What :meth:`reconcile` would do now; writes nothing anywhere."""
        now = self.clock.now()
        live = self._interfaces.read(create=False)
        snapshot = self.store.snapshot()
        return self._decide(snapshot, live, self.store.ledger(self._windows(now), begin=False), now)

    def settle(self) -> None:
        """Commit notes that wait for a transaction."""
        if self._books.has_notes:
            self._books.commit(Writes(), self._windows(self.clock.now()))

    def purge(self) -> None:
        """Forget figures that are older than they are kept."""
        self.store.purge(self._windows(self.clock.now()), int(self.settings.usage.keep_days // 86400))

    # -- gather

    def _snapshot(self) -> Snapshot:
        snapshot = self.store.snapshot()
        self._waiting = tuple(row for row in snapshot.rows if lifecycle.awaits(row))
        self._loaded = True
        self.health.database_read_at = self.clock.now()
        return snapshot

    def _windows(self, now: float) -> usage.Windows:
        return usage.Windows(now, int(self.settings.usage.bucket), self.settings.node.zone)

    # -- decide

    def _due(self, rows: Iterable[Row], live: Live, now: float) -> list[Transition]:
        waiting = [row for row in rows if lifecycle.awaits(row)]
        self._first_seen = lifecycle.observe(waiting, live, self._first_seen)
        return lifecycle.next_steps(waiting, self._interface_of, live, self._first_seen, now, self._policy.elsewhere)

    def _decide(self, snapshot: Snapshot, live: Live, ledger: Ledger, now: float) -> Outlook:
        steps = tuple(self._due(snapshot.rows, live, now))
        rows = lifecycle.assume(snapshot.rows, steps)
        desired = build_desired(rows, self._sites, self._policy, live, now, ledger.installed())
        plan = make_plan(desired, live, ledger.records, self._policy)
        outlook = look_ahead(desired, plan, live, self._limits, snapshot.approved)
        return replace(outlook, steps=steps, troubles=self._interfaces.troubles)

    # -- act

    def _book(self, live: Live, now: float, steps: list[Transition], rows: tuple[Row, ...] | None) -> frozenset[int]:
        """Book dumps and take steps, in one go; the ids of the rows whose step was taken."""
        windows, mono = self._windows(now), self.clock.monotonic()
        since = {name: now - (mono - at) for name, at in self._accounted.items()}
        while self._unbooked:
            last = self._unbooked[0]
            self._commit_booking({last.name: last}, windows, since, [], None)
            del self._unbooked[0]
        taken = self._commit_booking(live, windows, since, steps, rows)
        self._accounted |= dict.fromkeys(live, mono)
        return taken

    def _roll(self, windows: usage.Windows) -> None:
        """Roll the rolling and monthly figures on where an edge has passed. Last of all work: a row that somebody has
        locked must not keep a revoked peer in."""
        if self._rolled != windows.mark:
            self.store.roll(windows)
            self._rolled = windows.mark

    def _commit_booking(
        self,
        live: Live,
        windows: usage.Windows,
        since: Mapping[str, float],
        steps: list[Transition],
        rows: tuple[Row, ...] | None,
    ) -> frozenset[int]:
        ledger = self._books.ledger(windows)
        unknown = _rows_of_unrecorded(live, ledger, rows) if rows is not None else None
        booking = usage.book(live, ledger, windows, since=since, max_rates=self._max_rates, rows=unknown)
        writes = booking.writes + Writes(
            steps=tuple((step, self._word(step)) for step in steps),
            audit=tuple(
                self._scribe.entry(
                    "usage_anomaly", a.device, interface=a.interface, what=a.kind, old_rx=a.was.rx, rx=a.found.rx,
                    old_tx=a.was.tx, tx=a.found.tx,
                )
                for a in booking.anomalies
            ),
        )  # fmt: skip
        if not writes:
            return frozenset()
        taken = self._books.commit(writes, windows)
        for anomaly in booking.anomalies:
            self.health.add("anomalies", anomaly.kind)
            self._log.warning("usage anomaly", kind=anomaly.kind, interface=anomaly.interface, device=anomaly.device)
        for step in steps:
            if step.row.id in taken:
                self.health.add("transitions", step.kind)
                self._log.info("device step", step=step.kind, device=step.row.device, contract=step.row.contract)
        self._waiting = lifecycle.assume(self._waiting, [step for step in steps if step.row.id in taken])
        return taken

    def _word(self, step: Transition) -> Entry | None:
        action = {"activate": "device_activated", "expire": "qr_expired"}.get(step.kind)
        if action is None:
            return None
        at = self._windows(step.at).local(step.at)
        return self._scribe.entry(action, step.row.device, at=at)

    def _before(self, outlook: Outlook, windows: usage.Windows) -> None:
        writes = recording.before_apply(
            self._books.ledger(windows), outlook.plan.changes, outlook.live, outlook.desired, self._scribe, windows.now
        )
        if outlook.approved:
            count = len(outlook.plan.of(Kind.REMOVE))
            node = self.settings.node.name
            entry = self._scribe.entry("guard_approved", node, count=count, plan=outlook.plan_id)
            # The condition ends here, so that removals which fail and are withheld again are told again.
            over = frozenset(c for c in self._books.ledger(windows).conditions if c.kind == "guard_tripped")
            writes += Writes(approval_used=True, audit=(entry,), ended=over)
        if writes:
            self._books.commit(writes, windows)

    def _after(self, outlook: Outlook, after: Live, snapshot: Snapshot, windows: usage.Windows) -> None:
        ledger = self._books.ledger(windows)
        writes = recording.after_apply(ledger, after, outlook.desired, self._scribe, windows.now)
        node = self.settings.node.name
        missing, conflicts = self._interfaces.missing, snapshot.conflicts
        if conflicts is None and self._edge("conflicts", "unseen"):
            self._log.warning("v_parent_conflicts cannot be read: parent conflicts are not watched")
        standing = recording.standing(outlook, conflicts, missing, node, ledger)
        writes += recording.conditions(ledger, standing, self._scribe)
        if snapshot.approved and not outlook.tripped:
            writes += Writes(approval_used=True)  # for a set of removals that nobody wants any more
        if writes or self._books.has_notes:
            self._books.commit(writes, windows)
        announce(writes, outlook)  # once it is written: what fails is tried again, and would be said again

    def _honour_deadlines(self, live: Live, steps: list[Transition]) -> None:
        """While the store is away: a QR whose known end has passed without a handshake lets nobody in any more. The
        row follows when the store is back; the peer's last sample is kept until then."""
        if not self._loaded:
            return
        ended = {step.row.public_key: step.row for step in steps if step.kind == "expire"}
        going = {
            name: [
                _expiry(name, state, key, ended[encode_key(key)])
                for key in state.peers
                if key not in self._policy.always_keep and encode_key(key) in ended
            ]
            for name, state in live.items()
        }
        if not self._limits.allow(sum(map(len, going.values())), sum(len(s.peers) for s in live.values())):
            return
        for name, changes in going.items():
            if not changes:
                continue
            state = live[name]
            try:
                failed = {one.change.public_key for one in self.wireguard.apply(name, changes)}
            except WireGuardError as error:
                if self._edge(("ended", name), error.name):
                    self._log.error("ended QR could not be removed", interface=name, error=str(error))
                continue
            peers = {c.public_key: state.peers[c.public_key] for c in changes if c.public_key not in failed}
            if peers:
                self._unbooked.append(replace(state, peers=peers))
                self._log.warning("QR ended while the database is away: removed", interface=name, peers=len(peers))


def _expiry(name: str, state: InterfaceState, key: PublicKey, row: Row) -> Change:
    peer = state.peers[key].peer
    return Change(Kind.REMOVE, name, key, peer, None, row.id, row.device, row.contract, "QR ended, not scanned")


def _rows_of_unrecorded(live: Live, ledger: Ledger, rows: Iterable[Row]) -> dict[PublicKey, Row]:
    """The rows whose key is live but not in the books. Usually none, so no row's key is decoded for it."""
    unrecorded = {
        encode_key(key): key for name, state in live.items() for key in state.peers if (name, key) not in ledger.records
    }
    return {unrecorded[row.public_key]: row for row in rows if row.public_key in unrecorded} if unrecorded else {}
