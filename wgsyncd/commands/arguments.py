"""The command line: which commands there are and what they may be told. Nothing slow is imported here: `run` installs
its signal handlers after it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

from wgsyncd import __version__

DEFAULT_CONFIG = Path("/etc/wgsyncd/wgsyncd.toml")
PROGRAM = "Keeps WireGuard's peers equal to a MariaDB table and books their traffic."
EXIT_CODES = "exit status: 0 done, 1 failed, 2 bad configuration or usage"
USAGE = """\
Bytes are WireGuard's, as booked; KiB, MiB, ... are powers of 1024, --csv and --json have exact bytes. rx and tx mean
what they mean in the devices' columns. Hours reach back two to three days, days as far as usage.keep_days.

exit status: 0 done, 1 failed (also: no such device or contract), 2 bad configuration or usage"""
EXPLAIN = """\
Writes nothing. Without root or CAP_NET_ADMIN the kernel's part is missing, and said to be. Its own public key is the
only key that is printed.

exit status: 0 done, 1 failed (also: no such device), 2 bad configuration or usage"""

DOCTOR = """\
Changes nothing. Run it as root: who may not see something says so, as a warning.

exit status: 0 no faults (there may be warnings), 1 faults"""


def parser(of_demo: Callable[[argparse.ArgumentParser], None]) -> argparse.ArgumentParser:
    """Of the whole command line; ``of_demo`` adds what the demo may be told."""
    top = argparse.ArgumentParser(prog="wgsyncd", description=PROGRAM, epilog=EXIT_CODES)
    top.add_argument("--version", action="version", version=f"wgsyncd {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, epilog: str = EXIT_CODES) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name not in ("demo", "sync"):
            one.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
        return one

    command("run", "Run the daemon.", "exit status: 0 stopped, 1 refused to start, 2 bad configuration, 70 a bug")
    plan = command("plan", "Show what a cycle would do; do nothing.", "exit status: 0 nothing, 2 changes, 1 error")
    plan.add_argument("--json", action="store_true", help="one JSON object instead of text")
    approve = command("approve", "Let exactly the removals of a withheld plan through, once.")
    approve.add_argument("plan_id", help="the id that `wgsyncd plan` prints")
    status = command("status", "Show interfaces, peers, rejected rows and the guard.")
    status.add_argument("--json", action="store_true", help="one JSON object instead of text")
    verify = command("verify", "Hold kernel, baselines, buckets, days and figures against each other; change nothing.",
                     "exit status: 0 all adds up, 1 something does not, or an error")  # fmt: skip
    verify.add_argument("--json", action="store_true", help="one JSON object instead of text")
    quarantine = command("quarantine", "Show traffic that was held back since no link carries it; release or drop it.")
    quarantine.add_argument("action", nargs="?", choices=("list", "release", "drop"), default="list",
                            help="release: book it after all; drop: forget it; default: list")  # fmt: skip
    quarantine.add_argument("ids", nargs="*", type=int, metavar="ID", help="as the list has them")
    quarantine.add_argument("--json", action="store_true", help="one JSON object instead of text")
    sync = command("sync", "Have the running daemon compare everything, or a few devices, now; wait until it has.")
    sync.add_argument("device", nargs="*", help="device ids; default: all")
    sync.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: %(default)s")
    command("check-config", "Check the configuration; print every fault with its key and reason.")
    init = command("init-db", "Create wgsyncd's own tables (safe to run twice), with an admin's account.")
    init.add_argument("--user", default="root", help="the admin's account; default: %(default)s")
    init.add_argument("--socket", help="the server's unix socket; default: the configuration's host and port")
    init.add_argument("--password-file", type=Path, help="file with the admin's password; default: none is sent")
    init.add_argument("--grants", metavar="ACCOUNT", help="also grant the daemon's rights, as \"'mikyun'@'127.0.0.1'\"")
    doctor = command("doctor", "Look for what is wrong around wgsyncd; say what mends it.", DOCTOR)
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of text")
    _explain(command("explain", "Tell why a device has a peer, or has none.", EXPLAIN))
    _usage(command("usage", "Show booked bytes by hour, day or month.", USAGE))
    of_demo(command("demo", "Show wgsyncd at work on a database, interfaces and customers of its own."))
    return top


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE", help="a device id, a row's id, a tunnel address or a public key")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _usage(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(fail=parser.error)
    parser.add_argument("name", nargs="?", metavar="DEVICE|CONTRACT", help="a device id, a contract id, or a row's id;"
                        " default: all")  # fmt: skip
    parser.add_argument("--by", choices=("hour", "day", "month"), default="day", help="default: %(default)s")
    parser.add_argument("--since", type=_date, metavar="DATE", help="first day, as 2026-09-01; default: the last 24"
                        " hours, 30 days or 12 months")  # fmt: skip
    parser.add_argument("--until", type=_date, metavar="DATE", help="last day, in it; default: today")
    parser.add_argument("--top", type=_count, metavar="N", help="instead of periods: who moved most")
    parser.add_argument("--contracts", action="store_true", help="with --top: contracts instead of devices")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    form.add_argument("--csv", action="store_true", help="CSV with a head instead of a table")
    form.add_argument("--svg", type=Path, metavar="FILE", help="write a bar chart")
    form.add_argument("--png", type=Path, metavar="FILE", help="the same; needs the extra wgsyncd[plot]")


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day of the configured zone
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date, as 2026-09-01 is") from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)
