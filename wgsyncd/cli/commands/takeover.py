"""Let this server run its node, in place of another server.

Each node belongs to one machine, which writes a heartbeat to the database every minute. The command says which machine
that is, and takes the node over when you confirm. The wgsyncd of the other machine can write nothing more and ends. Its
peers stay in place, and nobody counts their bytes any more. So take its interfaces down. Then start wgsyncd here.

A server whose last heartbeat is older than three minutes needs no takeover: wgsyncd takes the node over when it starts.

exit status: 0 done, or nothing to do, 1 failed (also: not confirmed), 2 bad configuration or usage
"""

import argparse
import sys
from collections.abc import Iterator

from msgspec import Struct

from wgsyncd.cli import options, output, wiring
from wgsyncd.cli.output import Line
from wgsyncd.config import load
from wgsyncd.core.identity import Holder, Verdict
from wgsyncd.errors import UserError


class HolderReport(Struct, frozen=True, kw_only=True):
    """The machine that ran the node until now."""

    host: str
    boot: str
    heartbeat_age: int | None  # seconds. null: its wgsyncd has stopped


class TakeoverReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd takeover --json`."""

    node: str
    holder: HolderReport | None  # null: no machine has run the node yet
    taken_over: bool  # false: the node is this machine's, or nobody's


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    options.add_json(parser)
    parser.add_argument("--yes", action="store_true", help="take the node over without a question")


def run(args: argparse.Namespace) -> int:
    settings = load.load(args.config)
    node, agent = settings.node.name, wiring.open_agent(settings, claims=True)
    holder, verdict = agent.holding.look()
    if verdict is Verdict.OWN or holder is None:
        output.print_report(_report(node, holder, taken_over=False), _lines(node, holder), json=args.json)
        return 0
    if not args.yes:
        _confirm(node, holder)
    agent.holding.take_over(holder, options.admin(), agent.inspector.calendar())
    report = _report(node, holder, taken_over=True)
    todo = f"node {node} is this machine's now: start wgsyncd here (systemctl start wgsyncd)"
    output.print_report(report, [*_lines(node, holder), (todo, "")], json=args.json)
    return 0


def _report(node: str, holder: Holder | None, *, taken_over: bool) -> TakeoverReport:
    known = None
    if holder is not None and holder.identity.machine:
        age = None if holder.age is None else max(0, round(holder.age))
        known = HolderReport(host=holder.identity.host, boot=holder.identity.boot, heartbeat_age=age)
    return TakeoverReport(node=node, holder=known, taken_over=taken_over)


def _lines(node: str, holder: Holder | None) -> Iterator[Line]:
    known = _report(node, holder, taken_over=False).holder
    if known is None:
        yield f"no machine has run node {node} yet: start wgsyncd here", ""
        return
    heard = "stopped" if known.heartbeat_age is None else f"heartbeat {known.heartbeat_age} s ago"
    yield f"node {node} was last run by host {known.host} (boot {known.boot}), {heard}", ""


def _confirm(node: str, holder: Holder) -> None:
    """Ask for the node's name on a terminal. UserError if the answer is another one, or if nobody can answer."""
    if not sys.stdin.isatty():
        raise UserError("nobody can confirm this takeover: run this on a terminal, or with --yes")
    for line, _ in _lines(node, holder):
        print(output.sanitize(line), file=sys.stderr)
    print(
        "If that machine still runs, its wgsyncd ends. Its peers stay in place, and nobody counts their bytes.\n"
        f"Type the node's name ({node}) to take it over: ",
        end="", file=sys.stderr, flush=True,
    )  # fmt: skip
    if sys.stdin.readline().strip() != node:
        raise UserError("not confirmed: nothing is taken over")
