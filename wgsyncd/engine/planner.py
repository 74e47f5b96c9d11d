"""From rows and dumps to an outlook, with what has to be kept in mind between cycles to do so: which rows wait for a
handshake or a deadline, and when their devices were first seen to shake hands. Asks nobody and writes nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import replace

from wgsyncd.config.schema import Settings
from wgsyncd.core.model import Change, Kind, PublicKey, Row, Transition
from wgsyncd.core.peers import lifecycle
from wgsyncd.core.peers.desired import Policy, build_desired
from wgsyncd.core.peers.guard import Limits, Outlook, look_ahead
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.peers.validate import Site, Want
from wgsyncd.core.state import Ledger
from wgsyncd.engine.interfaces import Live
from wgsyncd.ports import Snapshot


class Decider:
    """One node's."""

    def __init__(self, settings: Settings) -> None:
        self._sites = tuple(
            Site(name, one.rows, one.networks, one.own_hosts, int(one.persistent_keepalive))
            for name, one in settings.interfaces.items()
        )
        self._interface_of = {site.rows: site.interface for site in self._sites}
        self._limits = Limits(settings.guard.min_removals, settings.guard.share)
        self.policy = Policy(
            frozenset(settings.node.elsewhere), settings.peers.foreign, frozenset(settings.peers.always_keep)
        )
        self.waiting: tuple[Row, ...] = ()  # rows that a handshake or a deadline can change, as last loaded
        self._ends: list[float] = []  # of their QR codes, sorted: asked for at every turn of the daemon's loop
        self.loaded = False  # rows were read completely once
        self._peers: Mapping[str, Mapping[PublicKey, Want]] = {}  # as last wanted: the same row is not read twice
        self._first_seen: dict[PublicKey, int] = {}  # earliest handshake seen of the keys of waiting rows

    def inherit(self, old: Decider) -> None:
        """Take over what the decider of the previous configuration had seen."""
        self._first_seen, self.loaded = old._first_seen, old.loaded
        self._await(old.waiting)

    # -- what is kept in mind

    def load(self, rows: Iterable[Row]) -> None:
        """All rows, as just read."""
        self._await(filter(lifecycle.awaits, rows))
        self.loaded = True

    def load_some(self, rows: Iterable[Row]) -> None:
        """Some rows, as just read."""
        some = {row.id: row for row in rows}
        others = (row for row in self.waiting if row.id not in some)
        self._await((*others, *filter(lifecycle.awaits, some.values())))

    def took(self, steps: Iterable[Transition]) -> None:
        """These steps are written."""
        self._await(lifecycle.assume(self.waiting, steps))

    def next_deadline(self, now: float) -> float | None:
        """UNIX seconds of the nearest QR end that is known."""
        at = bisect_left(self._ends, now)
        return self._ends[at] if at < len(self._ends) else None

    def _await(self, rows: Iterable[Row]) -> None:
        self.waiting = tuple(rows)
        self._ends = lifecycle.deadlines(self.waiting)

    # -- deciding

    def due(self, rows: Iterable[Row], live: Live, now: float, *, some: bool = False) -> list[Transition]:
        """The steps that are due in devices' lives. ``some``: these are not all rows."""
        waiting = [row for row in rows if lifecycle.awaits(row)]
        seen = lifecycle.observe(waiting, live, self._first_seen)
        self._first_seen = {**self._first_seen, **seen} if some else seen
        return lifecycle.next_steps(waiting, self._interface_of, live, self._first_seen, now, self.policy.elsewhere)

    def decide(
        self, snapshot: Snapshot, live: Live, ledger: Ledger, now: float, *, part_of: int | None = None
    ) -> Outlook:
        """What a cycle would do. ``part_of``: how many peers there are, where ``live`` holds some of them."""
        steps = tuple(self.due(snapshot.rows, live, now, some=part_of is not None))
        rows = lifecycle.assume(snapshot.rows, steps)
        desired = build_desired(
            rows, self._sites, self.policy, live, now, ledger.installed,
            self._let_go() if part_of is None else self._peers,
        )  # fmt: skip
        if part_of is None:
            self._peers = desired.peers
        plan = make_plan(desired, live, ledger.records, self.policy)
        plan = plan if part_of is None else replace(plan, live=part_of)
        return replace(look_ahead(desired, plan, live, self._limits, snapshot.approved), steps=steps)

    def _let_go(self) -> Mapping[str, Mapping[PublicKey, Want]]:
        """The peers as last wanted, whose table is needed no more once the next one is made."""
        peers, self._peers = self._peers, {}
        return peers

    def drift(self, outlook: Outlook, after: Live, ledger: Ledger) -> list[Change]:
        """What still differs after a plan was applied, but for what it withheld."""
        if not outlook.plan.changes:
            return []
        plan = make_plan(outlook.desired, after, ledger.records, self.policy)
        undone = {(c.kind, c.interface, c.public_key) for c in outlook.plan.withheld}
        return [c for c in plan.changes if (c.kind, c.interface, c.public_key) not in undone]

    def shut_out(self, snapshot: Snapshot, live: Live, known: Ledger, now: float) -> list[Change]:
        """The removals of peers whose row wants none, as far as the guard lets them. They need nothing written first,
        unless the row's QR has just ended."""
        # An approval that cannot be used up would be used again.
        outlook = self.decide(replace(snapshot, approved=None), live, known, now)
        return [c for c in outlook.plan.of(Kind.REMOVE) if c.public_key in outlook.desired.revoked]

    def ended(self, steps: Iterable[Transition], live: Live) -> list[Change]:
        """The removals of peers whose QR has ended by these steps, if the guard lets them."""
        going = lifecycle.ended(steps, live, self.policy.always_keep)
        return going if self._limits.allow(len(going), sum(len(state.peers) for state in live.values())) else []
