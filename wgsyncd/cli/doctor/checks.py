"""All checks of `wgsyncd doctor`, in order, and their lines."""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from wgsyncd.cli import output, wiring
from wgsyncd.cli.doctor import files, interfaces, system
from wgsyncd.cli.doctor.report import doctor_report
from wgsyncd.cli.options import DEFAULT_CONFIG
from wgsyncd.cli.output import print_line
from wgsyncd.config import load
from wgsyncd.core.inspect.finding import Finding, Severity, fault, warning
from wgsyncd.errors import ConfigError

_OURS = re.compile(r"(\bwgsyncd (?:init-db|check-config|doctor|plan)\b)")


def run(args: argparse.Namespace) -> int:
    """Run every check and print the findings."""
    findings: list[Finding] = []
    with output.waiting("checking"):
        findings += (_of(one, args.config) for one in _look(args))
    if args.json:
        output.print_json(doctor_report(findings))
    else:
        _print(findings)
    return 1 if any(one.severity is Severity.FAULT for one in findings) else 0


def _look(args: argparse.Namespace) -> Iterator[Finding]:
    pid, unseen = system.holder()
    unit = system.show()
    try:
        settings = load.load(args.config)
    except ConfigError as error:
        if os.geteuid() and args.config.parent.exists() and not os.access(args.config, os.R_OK):
            yield warning("configuration", f"{error.faults[0]}", "sudo wgsyncd doctor")
            return
        for one in error.faults:
            yield fault("configuration", f"{error.path}: {one}", f"editor {args.config} && wgsyncd check-config")
        yield from system.check(None, pid, unseen, unit)
        return
    yield files.configuration(args.config, f"node {settings.node.name}, interfaces {', '.join(settings.interfaces)}")
    yield from files.check(settings, system.who(pid, unit), wiring.spool_directory())
    yield from wiring.check_store(settings)
    yield from interfaces.check(settings, wiring.open_wireguard(), wiring.read_link)
    yield from system.check(settings, pid, unseen, unit)


def _of(one: Finding, config_file: Path) -> Finding:
    """The finding, with the configuration's file in each command of wgsyncd that fixes it."""
    if config_file == DEFAULT_CONFIG:
        return one
    return replace(one, fix=_OURS.sub(rf"\1 --config {config_file}", one.fix))


def _print(findings: list[Finding]) -> None:
    width = max(len(one.check) for one in findings)
    for one in findings:
        word = one.severity.value if one.severity is not Severity.FAULT else "FAULT"
        print_line((f"{word:8} ", one.severity.value), f"{one.check:{width}}  {one.message}")
        if one.fix:
            print_line(" " * (11 + width), (one.fix, "head"))
    count = Counter(one.severity for one in findings)
    faults, warnings = count[Severity.FAULT], count[Severity.WARNING]
    print_line(f"{faults} fault{'s'[: faults != 1]}, {warnings} warning{'s'[: warnings != 1]}, {count[Severity.OK]} ok")
