"""What the commands' parsers share: options, types of values, and the words about exit statuses.

Every start of the program imports this module and each command's file. So they import nothing slow at their top: `run`
installs its signal handlers after them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT_CONFIG = Path("/etc/wgsyncd/wgsyncd.toml")
EXIT_STATUS = "exit status: 0 done, 1 failed, 2 bad configuration or usage"


def add_command(
    commands: Commands,
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], int],
    epilog: str = EXIT_STATUS,
    *,
    config: bool = True,
    config_fault_status: int = 2,
) -> argparse.ArgumentParser:
    """Add a command to the command line. ``config_fault_status`` is its exit status for a bad configuration."""
    parser = commands.add_parser(
        name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run, config_fault_status=config_fault_status)
    if config:
        parser.add_argument(
            "--config",
            type=Path,
            default=DEFAULT_CONFIG,
            metavar="FILE",
            help="the configuration file (default: %(default)s)",
        )
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def add_no_daemon(parser: argparse.ArgumentParser) -> None:
    """Add ``--no-daemon``."""
    parser.add_argument(
        "--no-daemon",
        action="store_true",
        help="do not ask the running daemon, but look with the configuration file as it is now (needs root)",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add ``--timeout``."""
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for the answer (default: %(default)g)",
    )


def seconds(text: str) -> float:
    """The type of an option that takes seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 86400")
    return value
