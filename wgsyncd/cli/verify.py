"""`wgsyncd verify` and `wgsyncd quarantine`: whether the books add up, and what they hold back."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Iterator

from wgsyncd.cli import output
from wgsyncd.cli.render_verify import findings_as_data, findings_as_text, held_as_data, held_as_text
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditMessages
from wgsyncd.core.inspect.verify import faults
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.daemon import lock
from wgsyncd.engine import quarantine as held_back
from wgsyncd.engine.agent import Agent
from wgsyncd.errors import UserError

LOOK_AGAIN = 1.0  # seconds between two looks of `verify` at what the daemon may be about to book


def verify(args: argparse.Namespace, settings: Settings, agent: Agent) -> int:
    """Look, and say what does not add up."""
    with output.waiting("holding kernel, baselines, buckets, days and figures against each other") as say:
        findings = agent.inspector.verify(_rounds(settings, say))
    print(json.dumps(findings_as_data(findings), ensure_ascii=False) if args.json else findings_as_text(findings))
    return 1 if faults(findings) else 0


def _rounds(settings: Settings, say: Callable[[str], None]) -> Iterator[None]:
    """Until the daemon has surely been at everything; none where nobody is at work."""
    with contextlib.suppress(UserError):  # who may not know whether one runs waits for it
        if lock.holder(lock.path()) is None:
            return
    plan = settings.schedule
    patience = int(max(3 * plan.poll_interval, plan.resync_interval + plan.poll_interval)) + 10
    for turn in range(patience):
        say(f"looking again, {turn + 1} of {patience} times at most: the daemon may be about to book what differs")
        time.sleep(LOOK_AGAIN)
        yield


def check(args: argparse.Namespace) -> None:
    """Refused where `quarantine` is told ids without what to do with them, or the other way round."""
    if (args.action == "list") == bool(args.ids):
        raise UserError("wgsyncd quarantine [list], or wgsyncd quarantine release|drop ID …")


def quarantine(args: argparse.Namespace, settings: Settings, agent: Agent) -> int:
    """List, release or drop."""

    def calendar() -> UsageCalendar:
        return UsageCalendar(agent.clock.now(), int(settings.usage.bucket_width), settings.node.zone)

    if args.action == "list":
        held = agent.store.quarantine()
    else:
        work = {"release": held_back.release, "drop": held_back.drop}[args.action]
        held = work(agent.store, frozenset(args.ids), AuditMessages(settings.audit.language), calendar)
    print(json.dumps(held_as_data(held)) if args.json else held_as_text(held, calendar(), args.action))
    return 0
