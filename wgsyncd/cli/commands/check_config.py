"""Check the configuration. Print every fault with its key and the reason.

With --database, also check the database, and print the command that mends each fault.

exit status: 0 good, 1 faults of the database, 2 faults of the configuration, or bad usage
"""

import argparse
from collections.abc import Iterator, Sequence

from msgspec import Struct

from wgsyncd.cli import options, output, wiring
from wgsyncd.cli.output import Line
from wgsyncd.config import load
from wgsyncd.core.inspect.finding import Finding, Severity
from wgsyncd.errors import ConfigError, ConfigIssue


class CheckConfigReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd check-config --json`."""

    config: str
    faults: list[ConfigIssue]
    database: list[Finding]


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    parser.add_argument("--database", action="store_true", help="also enter the database, and check its tables")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    try:
        settings = load.load(args.config)
        load.check_files(settings, str(args.config))
    except ConfigError as error:
        if not args.json:
            raise
        output.print_json(CheckConfigReport(config=error.path, faults=list(error.faults), database=[]))
        return 2
    text = f"{args.config}: good, node {settings.node.name}, interfaces {', '.join(settings.interfaces)}"
    database = list(wiring.check_store(settings)) if args.database else []
    report = CheckConfigReport(config=str(args.config), faults=[], database=database)
    output.print_report(report, [(text, ""), *_lines(database)], json=args.json)
    return 1 if any(one.severity is Severity.FAULT for one in database) else 0


def _lines(database: Sequence[Finding]) -> Iterator[Line]:
    for one in database:
        if one.severity is not Severity.OK:
            yield f"{one.severity.value}: {one.check}: {one.message}", one.severity.value
            yield f"    {one.fix}", "head"
