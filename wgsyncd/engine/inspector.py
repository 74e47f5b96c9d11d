"""What would be done now, and whether kernel, books and figures add up. Reads and asks core; writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect import verify
from wgsyncd.core.inspect.verify import Finding
from wgsyncd.core.peers.guard import Outlook
from wgsyncd.core.state import Ledger
from wgsyncd.core.usage.calendar import Windows
from wgsyncd.engine.interfaces import Interfaces, Live
from wgsyncd.engine.status import Health
from wgsyncd.ports import Snapshot, Store

EARLY = 4  # o'clock
DAY = 25 * 3600.0  # seconds: the longest that a zone has
LINES = 20  # of the log; the rest is counted

_log = log.get("verify")


class View(NamedTuple):
    """An outlook and what it was decided from."""

    outlook: Outlook
    snapshot: Snapshot
    ledger: Ledger
    now: float


class Inspector:
    """Looks at one node. ``windows``, ``now`` and ``decide`` are the agent's: which peers are wanted is decided in one
    place."""

    def __init__(
        self, settings: Settings, store: Store, interfaces: Interfaces, windows: Callable[[float], Windows],
        now: Callable[[], float], decide: Callable[[Snapshot, Live, Ledger, float], Outlook],
    ) -> None:  # fmt: skip
        self._settings, self._store, self._interfaces = settings, store, interfaces
        self._windows, self._now, self._decide = windows, now, decide

    def preview(self) -> Outlook:
        """What a cycle would do now."""
        return self.look().outlook

    def look(self) -> View:
        """The same, with what it was decided from."""
        now = self._now()
        live = self._interfaces.read(create=False)
        snapshot = self._store.snapshot()
        ledger = self._store.ledger(self._windows(now), begin=False)
        outlook = replace(self._decide(snapshot, live, ledger, now), quarantined=snapshot.quarantined)
        return View(outlook, snapshot, ledger, now)

    def verify(self, rounds: Iterator[None]) -> tuple[Finding, ...]:
        """What does not add up, and notes. Kernel and books are never read at one moment, so while bytes flow there is
        always something: it stands if it is found again after each of ``rounds``, in which the daemon works."""
        return _until_sure(self._at_the_kernel, rounds) + _until_sure(self._at_the_figures, rounds)

    def prove(self, work: Callable[[], object], health: Health) -> None:
        """The daemon's own verification, to metrics and log. ``work`` is its round between two looks."""

        def rounds() -> Iterator[None]:
            work()
            yield

        tell(self.verify(rounds()), health)

    def _at_the_kernel(self) -> list[Finding]:
        now = self._now()
        snapshot, ledger = self._store.snapshot(), self._store.ledger(self._windows(now), begin=False)
        live = self._interfaces.read(create=False)
        desired = self._decide(snapshot, live, ledger, now).desired
        return [
            *verify.unread(self._interfaces.troubles),
            *verify.of_kernel(live, ledger, desired),
            *verify.waiting(snapshot.quarantined),
        ]

    def _at_the_figures(self) -> list[Finding]:
        sides = ("tx", "rx") if self._settings.usage.perspective == "device" else ("rx", "tx")
        figures = self._store.figures(verify.scope(self._windows(self._now())))
        return list(verify.of_figures(figures, sides))


def _until_sure(look: Callable[[], Sequence[Finding]], rounds: Iterator[None]) -> tuple[Finding, ...]:
    """What is found and found again: done as soon as nothing stands, or when there are no rounds left."""
    found = tuple(look())
    while verify.faults(found):
        try:
            next(rounds)
        except StopIteration:
            break
        found = verify.standing(found, look())
    return found


def is_due(health: Health, now: float, zone: ZoneInfo) -> bool:
    """Asked every hour. Once a day, before people get up; and in any hour where none succeeded for a day (the daemon is
    new, or they failed), or the last one found something."""
    early = datetime.fromtimestamp(now, zone).hour == EARLY
    return early or any(health.findings.values()) or now - health.succeeded_at.get("verify", 0.0) > DAY


def tell(findings: Sequence[Finding], health: Health) -> None:
    """In the metrics and, where something is wrong, in the log."""
    faults = verify.faults(findings)
    health.findings = {check.value: sum(1 for one in faults if one.check is check) for check in verify.FAULTS}
    for one in faults[:LINES]:
        _log.warning("does not add up", check=one.check.value, device=one.device, what=one.text)
    if len(faults) > LINES:
        _log.warning("more does not add up: see `wgsyncd verify`", findings=len(faults) - LINES)
