"""The shell around core: gather, decide, act. One thread, no lock; whoever holds the agent calls one method at a time.

    reconcile: read the interfaces · load the rows · book the dumps · take the steps that are due in devices' lives ·
               plan · guard · commit baseline zero · apply · read back · write down what was done
    account:   read the interfaces · book the dumps · take the steps that are due

Each may fail at any line (StoreError) and be called again: what it did is found in the kernel and in the ledger, what
it did not is done then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from wgsyncd import inspection, log
from wgsyncd.accounting import Accounting
from wgsyncd.announce import announce
from wgsyncd.core import lifecycle, recording
from wgsyncd.core.audit import Entry, Scribe
from wgsyncd.core.desired import Policy, Site, build_desired
from wgsyncd.core.ledger import Ledger, Writes
from wgsyncd.core.model import InterfaceState, Kind, PublicKey, Row, Transition
from wgsyncd.core.outlook import Limits, Outlook, look_ahead
from wgsyncd.core.plan import Plan, make_plan
from wgsyncd.core.usage import Windows
from wgsyncd.core.verify import Finding
from wgsyncd.errors import StoreError
from wgsyncd.health import Health
from wgsyncd.inspection import Inspector
from wgsyncd.interfaces import Interfaces, Live
from wgsyncd.picture import draw, recount
from wgsyncd.ports import Clock, Snapshot, Spool, Store, WireGuard
from wgsyncd.settings import Settings


class Agent:
    """Keeps one node's interfaces equal to the store's rows, and the store's figures equal to the interfaces'."""

    def __init__(
        self, settings: Settings, wireguard: WireGuard, store: Store, spool: Spool, health: Health, clock: Clock
    ) -> None:
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
        self._edge = log.Edge()
        self._interfaces = Interfaces(settings, wireguard, health)
        self._accounting = Accounting(settings, store, spool, health, clock, self._scribe)
        self._books = self._accounting.books
        self._waiting: tuple[Row, ...] = ()  # rows that a handshake or a deadline can change, as last loaded
        self._loaded = False  # rows were read completely once
        self._epochs: dict[str, str] = {}  # of the interfaces as the last reconcile found them
        self.found_new = False  # an account found an interface that is new: it waits to be filled
        self._first_seen: dict[PublicKey, int] = {}  # earliest handshake seen of the keys of waiting rows

    def inherit(self, old: Agent) -> None:
        """Take over what the agent of the previous configuration had seen."""
        self._first_seen, self._waiting, self._loaded = old._first_seen, old._waiting, old._loaded
        self._accounting.inherit(old._accounting)
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
            self._do_without_store(live, now, None, steps)
            raise
        recount(self.health, live, now)
        self.found_new = any(self._epochs.get(name) != state.epoch for name, state in live.items())
        self._accounting.roll(now)

    def reconcile(self) -> Outlook:
        """Make the kernel what the rows say, and write down what was done."""
        now = self.clock.now()
        live = self._interfaces.read()
        try:
            snapshot = self._snapshot()
        except StoreError:
            self._do_without_store(live, now, None, self._due(self._waiting, live, now))
            raise
        steps = self._due(snapshot.rows, live, now)
        windows = self._accounting.windows(now)
        refused: frozenset[int] = frozenset()
        try:
            taken = self._book(live, now, steps, snapshot.rows)
            refused = frozenset(step.row.id for step in steps) - taken
            if steps:
                snapshot = self._snapshot()
            outlook = self._decide(snapshot, live, self._books.ledger(windows), now)
            self._before(outlook, windows)
        except StoreError:  # it answered, but takes nothing in, or went away right after it did
            self._do_without_store(live, now, snapshot, [step for step in steps if step.row.id not in refused], refused)
            raise
        self._epochs, self.found_new = {name: state.epoch for name, state in live.items()}, False
        after = self._interfaces.apply(outlook.plan, live, self._keep_last)
        self._accounting.book_backlog(self.clock.now())  # the last samples of those that went
        # One made anew in between is for the next cycle: what it says was not asked of it.
        after = {name: state for name, state in after.items() if state.epoch == live[name].epoch}
        drift = make_plan(outlook.desired, after, self._books.ledger(windows).records, self._policy)
        undone = {(c.kind, c.interface, c.public_key) for c in outlook.plan.withheld}
        remaining = [c for c in drift.changes if (c.kind, c.interface, c.public_key) not in undone]
        if self._edge("drift", len(remaining)) and remaining:
            self._log.warning("drift after apply, tried again next cycle", peers=len(remaining))
        self._after(outlook, after, snapshot, windows)
        draw(self.health, self.settings, outlook, after, remaining, snapshot, now)
        self._accounting.roll(now)
        return outlook

    def preview(self) -> Outlook:
        """What :meth:`reconcile` would do now; writes nothing anywhere."""
        now = self.clock.now()
        live = self._interfaces.read(create=False)
        snapshot = self.store.snapshot()
        outlook = self._decide(snapshot, live, self.store.ledger(self._accounting.windows(now), begin=False), now)
        return replace(outlook, quarantined=snapshot.quarantined)

    def verify(self, rounds: Iterator[None]) -> tuple[Finding, ...]:
        """What does not add up; writes nothing. See :meth:`wgsyncd.inspection.Inspector.look`."""
        inspector = Inspector(self.settings, self.store, self._interfaces, self.clock.now, self._decide)
        return inspector.look(rounds)

    def prove(self, worked: Callable[[], object]) -> None:
        """The daemon's own verification, to metrics and log. Between two looks it reconciles, and calls ``worked``."""

        def rounds() -> Iterator[None]:
            self.reconcile()
            worked()
            yield

        inspection.tell(self.verify(rounds()), self.health)

    def settle(self) -> None:
        """Commit notes that wait for a transaction."""
        if self._books.has_notes:
            self._books.commit(Writes(), self._accounting.windows(self.clock.now()))

    def purge(self) -> None:
        """Forget figures that are older than they are kept."""
        self.store.purge(self._accounting.windows(self.clock.now()), int(self.settings.usage.keep_days // 86400))

    # -- gather

    def _snapshot(self) -> Snapshot:
        snapshot = self.store.snapshot()
        self._waiting = tuple(row for row in snapshot.rows if lifecycle.awaits(row))
        self._loaded = True
        self.health.database_read_at = self.clock.now()
        return snapshot

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
        more = Writes(steps=tuple((step, self._word(step)) for step in steps))
        taken = self._accounting.book(live, now, more, rows)
        for step in steps:
            if step.row.id in taken:
                self.health.add("transitions", step.kind)
                self._log.info("device step", step=step.kind, device=step.row.device, contract=step.row.contract)
        self._waiting = lifecycle.assume(self._waiting, [step for step in steps if step.row.id in taken])
        return taken

    def _keep_last(self, state: InterfaceState) -> None:
        self._accounting.keep([state], whole=False)

    def _word(self, step: Transition) -> Entry | None:
        action = {"activate": "device_activated", "expire": "qr_expired"}.get(step.kind)
        if action is None:
            return None
        at = self._accounting.windows(step.at).local(step.at)
        return self._scribe.entry(action, step.row.device, at=at)

    def _before(self, outlook: Outlook, windows: Windows) -> None:
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

    def _after(self, outlook: Outlook, after: Live, snapshot: Snapshot, windows: Windows) -> None:
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

    def _do_without_store(
        self,
        live: Live,
        now: float,
        snapshot: Snapshot | None,
        steps: list[Transition],
        refused: frozenset[int] = frozenset(),
    ) -> None:
        """The store takes nothing in. What was counted is kept in the spool; and nobody stays in whom a row shuts out:
        by the rows as just read (``snapshot``), or where they cannot be read, those whose QR has ended since. The books
        follow when the store is back. ``refused``: rows that are not as ``snapshot`` has them any more."""
        self._accounting.keep(live.values())
        known = self._books.known
        if snapshot is not None and known is not None:
            # An approval that cannot be used up would be used again.
            outlook = self._decide(replace(snapshot, approved=None), live, known, now)
            out = outlook.desired.revoked
            going = [c for c in outlook.plan.of(Kind.REMOVE) if c.public_key in out and c.row_id not in refused]
        elif self._loaded:
            going = lifecycle.ended(steps, live, self._policy.always_keep)
            if not self._limits.allow(len(going), sum(len(state.peers) for state in live.values())):
                return
        else:
            return
        if going:
            self._log.warning("database takes nothing in: peers that are shut out are removed", peers=len(going))
            self._interfaces.apply(Plan(tuple(going), 0, {}), live, self._keep_last)
