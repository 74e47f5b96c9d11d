"""The options that several commands have, and the types of their values.

Every command imports this module, and `run` installs its signal handlers after that. So it imports nothing slow.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/wgsyncd/wgsyncd.toml")


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
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def add_no_daemon(parser: argparse.ArgumentParser) -> None:
    """Add ``--no-daemon``."""
    parser.add_argument(
        "--no-daemon",
        action="store_true",
        help="do not ask the running daemon, but read everything with the configuration file of now (needs root)",
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


def admin() -> str:
    """Who runs the command, for the audit row."""
    return os.environ.get("SUDO_USER") or f"uid {os.getuid()}"


def seconds(text: str) -> float:
    """The type of an option that takes seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 86400")
    return value
