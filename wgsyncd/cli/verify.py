"""`wgsyncd verify` compares kernel, baselines, buckets, days and columns."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from wgsyncd.cli import options

if TYPE_CHECKING:
    from wgsyncd.cli.options import Commands
    from wgsyncd.config.schema import Settings

LOOK_AGAIN = 1.0  # seconds between two comparisons, in which the daemon may account what differs


def register(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = options.add_command(
        commands,
        "verify",
        "Compare kernel, baselines, buckets, days and columns. Change nothing.",
        run,
        "exit status: 0 all adds up, 1 something does not, or an error, 2 bad configuration or usage",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compare, and print every discrepancy."""
    from wgsyncd.cli import output, wiring
    from wgsyncd.cli.render_verify import findings_as_lines
    from wgsyncd.cli.verify_report import verify_report
    from wgsyncd.config import load
    from wgsyncd.core.inspect.verify import faults

    settings = load.load(args.config)
    agent = wiring.open_agent(settings)
    with output.waiting("comparing kernel, baselines, buckets, days and columns") as say:
        findings = agent.inspector.verify(_rounds(settings, say))
    if args.json:
        output.print_json(verify_report(findings))
    else:
        print("\n".join(findings_as_lines(findings)))
    return 1 if faults(findings) else 0


def _rounds(settings: Settings, say: Callable[[str], None]) -> Iterator[None]:
    """Rounds until the daemon has surely accounted everything. None if no daemon runs."""
    import contextlib

    from wgsyncd.daemon import lock
    from wgsyncd.errors import UserError

    with contextlib.suppress(UserError):  # a user who may not see whether a daemon runs waits, too
        if lock.holder(lock.path()) is None:
            return
    plan = settings.schedule
    patience = int(max(3 * plan.poll_interval, plan.resync_interval + plan.poll_interval)) + 10
    for turn in range(patience):
        say(f"looking again, {turn + 1} of {patience} times at most: the daemon may account what differs")
        time.sleep(LOOK_AGAIN)
        yield
