"""Allow once what the guard withholds, or say that another key or port of an interface is right.

The guard withholds a plan that removes so many peers, or so much access, that it may be a mistake. `wgsyncd plan`
shows it. The running daemon carries the plan out at once, and records who approved it. If the rows want other removals
by now, the plan has another id, and nothing is removed. If no daemon runs, the next daemon's first cycle carries the
plan out, if it is still the same plan.

`wgsyncd status` shows another key or port of an interface, and its id. wgsyncd remembers it as right from then on.

exit status: 0 done, 1 failed (also: nothing waits for approval, or something else does), 2 bad configuration or usage
"""

import argparse
import re

from wgsyncd.cli import client, options, output, wiring
from wgsyncd.config import load
from wgsyncd.daemon.admin_report import ApproveReport


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    options.add_json(parser)
    parser.add_argument(
        "plan_id", type=_plan_id, metavar="ID", help="the id that `wgsyncd plan` or `wgsyncd status` prints"
    )


def run(args: argparse.Namespace) -> int:
    report, why = client.ask_daemon(args, ApproveReport, "/approve", body={"plan": args.plan_id})
    text = f"{args.plan_id} approved. The daemon carries it out in its next cycle"
    if report is None:
        wiring.open_agent(load.load(args.config)).approve(args.plan_id)
        client.print_note(why.text)
        report = ApproveReport(plan=args.plan_id, approved=True, carried_out=False, removed=None)
    elif report.carried_out:
        removed = f": {report.removed} removed" if report.removed else ""
        text = f"{args.plan_id} approved and carried out{removed}"
    output.print_report(report, [(text, "")], json=args.json)
    return 0


def _plan_id(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no id, which `wgsyncd plan` or `wgsyncd status` prints: 32 digits from 0 to f"
        )
    return text
