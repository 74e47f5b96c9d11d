"""Check everything around wgsyncd. Print the command that fixes each fault.

The command changes nothing. Run it as root: without root it warns about everything that it cannot see.

exit status: 0 no faults (there may be warnings), 1 faults
"""

import argparse
import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from msgspec import Struct

from wgsyncd import log
from wgsyncd.cli import client, options, output, wiring
from wgsyncd.cli.commands.status import WAIT
from wgsyncd.cli.doctor import files, interfaces, policies, shaping, system
from wgsyncd.cli.output import Line
from wgsyncd.config import load
from wgsyncd.core.inspect.finding import Finding, Severity, fault, warning
from wgsyncd.engine.status_report import StatusReport
from wgsyncd.errors import ConfigError, UserError

_LOG = "journalctl -u wgsyncd -n 30 --no-pager"
_OURS = re.compile(r"(\bwgsyncd (?:init-db|check-config|doctor|plan)\b)")


class DoctorReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd doctor --json`."""

    faults: int
    warnings: int
    checks: list[Finding]


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    options.add_json(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="also list the checks that are ok")


def run(args: argparse.Namespace) -> int:
    log.configure("warning")
    with output.waiting("checking"):
        checks = [_with_file(one, args.config) for one in _check(args.config)]
    severities = [one.severity for one in checks]
    report = DoctorReport(
        faults=severities.count(Severity.FAULT), warnings=severities.count(Severity.WARNING), checks=checks
    )
    output.print_report(report, _lines(report, verbose=args.verbose), json=args.json)
    return 1 if report.faults else 0


def _check(config_file: Path) -> Iterator[Finding]:
    """All checks, in order."""
    try:
        pid, unseen = client.running_daemon(config_file), ""
    except UserError as error:
        pid, unseen = None, str(error)
    if not unseen:
        yield from _daemons_own(config_file, pid)
    unit = system.show()
    try:
        settings = load.load(config_file)
    except ConfigError as error:
        if os.geteuid() and config_file.parent.exists() and not os.access(config_file, os.R_OK):
            yield warning("configuration", f"{error.faults[0]}", "sudo wgsyncd doctor")
            return
        for one in error.faults:
            yield fault("configuration", f"{error.path}: {one}", f"editor {config_file} && wgsyncd check-config")
        yield from system.check(None, pid, unseen, unit)
        return
    yield files.configuration(config_file, f"node {settings.node.name}, interfaces {', '.join(settings.interfaces)}")
    yield from files.check(settings, system.who(pid, unit), wiring.spool_directory(), system.copied_secrets(unit))
    yield from wiring.check_store(settings)
    yield from interfaces.check(settings, wiring.open_wireguard(), wiring.read_link)
    nft = wiring.open_nft()
    yield from policies.check(settings, nft.version, nft.flowtables)
    with contextlib.closing(wiring.open_tc()) as tc:
        yield from shaping.check(settings, tc.read)
    yield from system.pair(settings, wiring.interface_of)
    yield from system.check(settings, pid, unseen, unit)


def _daemons_own(config_file: Path, pid: int | None) -> Iterator[Finding]:
    """What the daemon says of itself: the findings of `wgsyncd status`. It may lack rights that this command has."""
    args = argparse.Namespace(config=config_file, no_daemon=False)
    try:
        with client.within(WAIT, client.SilentDaemonError(f"the daemon does not answer within {WAIT:g} s")):
            report, why = client.ask_daemon(args, StatusReport, "/status", "GET", timeout=WAIT)
    except client.SilentDaemonError as error:
        yield fault("daemon", str(error), "systemctl restart wgsyncd")
        return
    except UserError as error:
        yield warning("daemon", str(error), "sudo wgsyncd doctor")
        return
    if report is None and pid is not None:
        yield fault("daemon", why, "systemctl restart wgsyncd")
    if report is not None and report.policies is not None:
        yield from policies.profiles(report.policies.profiles)
    for one in report.troubles if report else ():
        mend = _LOG if one.fix == "sudo wgsyncd doctor" else one.fix  # The other checks know more.
        yield replace(one, check=f"daemon: {one.check}", fix=mend)


def _with_file(one: Finding, config_file: Path) -> Finding:
    """The finding, with the configuration's file in each command of wgsyncd that fixes it."""
    if config_file == options.DEFAULT_CONFIG:
        return one
    return replace(one, fix=_OURS.sub(rf"\1 --config {config_file}", one.fix))


def _lines(report: DoctorReport, *, verbose: bool = False) -> Iterator[Line]:
    """The warnings, and then the faults, so that they stand at the end. The other checks are counted."""
    order = (Severity.OK, Severity.WARNING, Severity.FAULT)[0 if verbose else 1 :]
    shown = [one for severity in order for one in report.checks if one.severity is severity]
    width = max((len(one.check) for one in shown), default=0)
    for one in shown:
        word = "FAULT" if one.severity is Severity.FAULT else one.severity.value
        yield f"{word:8} {one.check:{width}}  {one.message}", one.severity.value
        if one.fix:
            yield " " * (11 + width) + one.fix, "head"
    faults, warnings = report.faults, report.warnings
    good = len(report.checks) - faults - warnings
    yield f"{faults} fault{'s'[: faults != 1]}, {warnings} warning{'s'[: warnings != 1]}, {good} ok", ""
