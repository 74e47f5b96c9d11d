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
what they mean in the devices' columns. Hours reach back two to three days, days as far as usage.retention.

exit status: 0 done, 1 failed (also: no such device or contract), 2 bad configuration or usage"""
EXPLAIN = """\
Writes nothing. Without root or CAP_NET_ADMIN the kernel's part is missing, and said to be. Its own public key is the
only key that is printed.

exit status: 0 done, 1 failed (also: no such device), 2 bad configuration or usage"""

PLAN = """\
- is a removal, ~ an update, + an addition, ! one that waits (for an admin, or for an unreadable key to be mended),
> a step in a device's life, ? a row that cannot be followed. Writes nothing. The running daemon is asked; where none
runs, or it has another configuration, the command looks for itself and says so.

exit status: 0 nothing to do, 2 changes, 1 an error, also where an interface could not be compared"""
ADOPT = """\
Says which peers are as their rows want them, which would be changed or removed, and prints the lines of the
configuration that keep those in no row.

exit status: 0 nothing would be changed, 2 something would, 1 an error"""
APPROVE = """\
The running daemon carries them out at once, and writes down who approved. If since then other removals are wanted, the
plan has another id and nothing is let through. Where no daemon runs, its first cycle does it, if the plan is still that
one then.

exit status: 0 done, 1 failed (also: nothing is withheld, or the plan is another one), 2 bad configuration or usage"""
STATUS = """\
What the running daemon knows, as of its last cycle and poll; where none runs, what the command sees by itself.

exit status: 0 done, 1 failed, 2 bad configuration or usage"""
CHECK = """\
exit status: 0 good, 2 faults, or bad usage"""
SYNC = """\
exit status: 0 compared, 1 failed (also: no daemon runs, or no answer in time), 2 bad usage"""
RELOAD = """\
A configuration with faults changes nothing: they are printed, and the daemon goes on with the old one.

exit status: 0 taken, 1 failed (also: no daemon runs, or no answer in time), 2 refused, or bad usage"""
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
        if name not in ("demo", "sync", "reload"):
            one.add_argument(
                "--config",
                type=Path,
                default=DEFAULT_CONFIG,
                metavar="FILE",
                help="the configuration; default: %(default)s",
            )
        return one

    command("run", "Run the daemon.", "exit status: 0 stopped, 1 refused to start, 2 bad configuration, 70 a bug")
    plan = command("plan", "Show what a cycle would do; do nothing.", PLAN)
    _json(plan)
    _no_daemon(plan)
    adopt = command("adopt", "Show what a first start would do to the peers that are live; change nothing.", ADOPT)
    _json(adopt)
    approve = command("approve", "Let exactly the removals of a withheld plan through, once.", APPROVE)
    approve.add_argument("plan_id", metavar="ID", help="the plan's id, which `wgsyncd plan` prints")
    _json(approve)
    status = command("status", "Show interfaces, peers, rejected rows, the guard and the last changes.", STATUS)
    status.add_argument("--watch", nargs="?", type=_seconds, const=2.0, metavar="SECONDS", help="keep it on the screen"
                        " and draw it anew, every 2 seconds unless told otherwise; ^C ends it")  # fmt: skip
    _json(status)
    _no_daemon(status)
    verify = command("verify", "Hold kernel, baselines, buckets, days and figures against each other; change nothing.",
                     "exit status: 0 all adds up, 1 something does not, or an error")  # fmt: skip
    _json(verify)
    quarantine = command("quarantine", "Show traffic that was held back since no link carries it; release or drop it.")
    quarantine.add_argument("action", nargs="?", choices=("list", "release", "drop"), default="list",
                            help="release: book it after all; drop: forget it; default: list")  # fmt: skip
    quarantine.add_argument("ids", nargs="*", type=int, metavar="ID", help="as the list has them")
    _json(quarantine)
    sync = command(
        "sync", "Have the running daemon compare everything, or a few devices, now; wait until it has.", SYNC
    )
    sync.add_argument("device", nargs="*", metavar="DEVICE", help="device ids; default: all")
    _patience(sync)
    _json(sync)
    reload = command("reload", "Have the running daemon read its configuration again; wait until it has.", RELOAD)
    _patience(reload)
    _json(reload)
    check = command("check-config", "Check the configuration; print every fault with its key and reason.", CHECK)
    _json(check)
    init = command("init-db", "Create wgsyncd's own tables (safe to run twice), with an admin's account.")
    init.add_argument("--user", metavar="ACCOUNT", default="root", help="the admin's account; default: %(default)s")
    init.add_argument(
        "--socket",
        type=Path,
        metavar="FILE",
        help="the server's unix socket; default: the configuration's host and port",
    )
    init.add_argument(
        "--password-file", type=Path, metavar="FILE", help="file with the admin's password; default: none is sent"
    )
    init.add_argument("--grants", metavar="ACCOUNT", help="also grant the daemon's rights, as \"'mikyun'@'127.0.0.1'\"")
    doctor = command("doctor", "Look for what is wrong around wgsyncd; say what mends it.", DOCTOR)
    _json(doctor)
    _explain(command("explain", "Tell why a device has a peer, or has none.", EXPLAIN))
    _usage(command("usage", "Show booked bytes by hour, day or month.", USAGE))
    of_demo(command("demo", "Show wgsyncd at work on a database, interfaces and customers of its own."))
    return top


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEVICE", help="a device id, a row's id, a tunnel address or a public key")
    _json(parser)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _no_daemon(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-daemon", action="store_true", help="do not ask the running daemon: look with the"
                        " configuration as the file has it now; needs root")  # fmt: skip


def _patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="how long to wait for the"
                        " answer; default: %(default)g")  # fmt: skip


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
    form.add_argument("--svg", type=Path, metavar="FILE", help="write a bar chart; needs the extra wgsyncd[plot]")


def _date(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day of the configured zone
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date, as 2026-09-01 is") from None


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 86400")
    return value
