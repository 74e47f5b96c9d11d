"""Show wgsyncd at work on a database, interfaces and customers of its own.

exit status: 0 every scenario holds, 1 one does not, 2 not started, or bad usage, 130 interrupted
"""

from __future__ import annotations

import argparse
import contextlib

from wgsyncd.cli import output
from wgsyncd.demo import run as demo


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
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
    """Run every scenario."""
    status, report = demo.main(args)
    if args.json and report is not None:
        output.print_json(report)
    return status


def _bound(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 5 <= float(text) <= 86400:
            return float(text)
    raise argparse.ArgumentTypeError("is not a number between 5 and 86400")
