"""The options that several commands have, and the types of their values.

Every command imports this module, and `run` installs its signal handlers after that. So it imports nothing slow.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from wgsyncd.redact import DEFAULT_CONFIG

if TYPE_CHECKING:
    from wgsyncd.core.network import Network


def add_config(parser: argparse.ArgumentParser, *, fault_status: int = 2) -> None:
    """Add ``--config``. ``fault_status`` is the command's exit status for a bad configuration."""
    parser.set_defaults(config_fault_status=fault_status)
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help="the configuration file (default: %(default)s)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def add_no_daemon(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-daemon",
        action="store_true",
        help="do not ask the running daemon, but read everything with the configuration file of now (needs root)",
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for the answer (default: %(default)g)",
    )


def add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=2.0,
        metavar="SECONDS",
        help="keep the screen up to date, every 2 seconds or as often as you say, until q or ^C",
    )


def admin() -> str:
    """Who runs the command, for the audit row."""
    return os.environ.get("SUDO_USER") or f"uid {os.getuid()}"


def number(text: str, below: int = 1 << 63) -> int:
    """The type of an argument that takes a whole number above 0."""
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < below:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def count(text: str) -> int:
    """The type of an option that takes a number of things."""
    return number(text, 1_000_000)


def name(text: str) -> str:
    """The type of an argument that names a device or an owner."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty text names nothing")
    return text


def host(text: str) -> "Network":
    """The type of an option that takes one address. Policies have no ports, so an address with a port is refused."""
    from wgsyncd.core.network import parse_host

    try:
        return parse_host(text)
    except ValueError:
        told = f"{text!r} is not one IPv4 or IPv6 address, such as 10.0.5.7. Policies have no ports"
        raise argparse.ArgumentTypeError(told) from None


def seconds(text: str) -> float:
    """The type of an option that takes seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 86400")
    return value
