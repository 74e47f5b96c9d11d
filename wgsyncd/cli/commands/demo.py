"""Show wgsyncd at work with a private database, private interfaces and made-up clients.

exit status: 0 every scenario holds, 1 one does not, 2 not started, or bad usage, 130 interrupted
"""

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path

from wgsyncd.cli import output
from wgsyncd.cli.commands import devices
from wgsyncd.cli.watch import watch
from wgsyncd.demo import run as demo
from wgsyncd.engine.reports.devices import Selection


def register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--control-plane",
        choices=tuple(demo.DEMOS),
        default=next(iter(demo.DEMOS)),
        help="whose tables the demo has (default: %(default)s)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave it running, with its devices and its page, until q or ^C"
    )
    parser.add_argument("--install", action="store_true", help="install missing Debian packages with apt-get")
    parser.add_argument("--json", action="store_true", help="print what was seen of each scenario as one JSON object")
    parser.add_argument(
        "--seconds",
        type=_bound,
        default=60,
        metavar="N",
        help="the time limit of the whole demo. A slow machine needs more (default: 60)",
    )


def run(args: argparse.Namespace) -> int:
    status, report = demo.main(args, _keep if args.keep else None)
    if args.json and report is not None:
        output.print_json(report)
    return status


def _keep(page: str, config: Path) -> None:
    """Show the devices of the demo's daemon. The demo ends when this function returns."""
    print(f"\npage: {page}   q or Ctrl-C ends the demo", file=sys.stderr, flush=True)
    os.environ["RUNTIME_DIRECTORY"] = str(config.parent)
    if not output.is_terminal():
        while True:
            signal.pause()
    asked = argparse.Namespace(config=config)
    watch(devices.drawing(asked, Selection(), [(f"page: {page}", "head")]), 1.0)


def _bound(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 5 <= float(text) <= 86400:
            return float(text)
    raise argparse.ArgumentTypeError("is not a number between 5 and 86400")
