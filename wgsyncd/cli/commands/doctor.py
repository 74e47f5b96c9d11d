"""Check everything around wgsyncd. Print the command that fixes each fault.

The command changes nothing. Run it as root: without root it warns about everything that it cannot see.

exit status: 0 no faults (there may be warnings), 1 faults
"""

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from wgsyncd.cli import client, options, output, wiring
from wgsyncd.cli.commands import status
from wgsyncd.cli.doctor import files, interfaces, policies, routes, shaping, system
from wgsyncd.cli.output import Line
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding, Severity, fault, warning
from wgsyncd.errors import ConfigError, UserError, in_short

_LOG = "journalctl -u wgsyncd -n 30 --no-pager"
CHECK_TIMEOUT = 90.0  # seconds for one check. The longest one, of the database, stops to ask after 60
T = TypeVar("T")


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
    with output.waiting("checking"):
        checks = _Checks(args.config).all()
    severities = [one.severity for one in checks]
    report = DoctorReport(
        faults=severities.count(Severity.FAULT), warnings=severities.count(Severity.WARNING), checks=checks
    )
    output.print_report(report, _lines(report, verbose=args.verbose), json=args.json)
    return 1 if report.faults else 0


class _Checks:
    """Collects findings. A check that fails, or takes too long, is a finding itself, and the other checks go on."""

    def __init__(self, config_file: Path) -> None:
        self._file = config_file
        self._found: list[Finding] = []

    def all(self) -> list[Finding]:
        """The findings of all checks, in order."""
        unit = self._fact("unit", system.show)
        try:
            pid, unseen = self._fact("daemon", lambda: client.running_daemon(self._file), UserError), ""
        except UserError as error:
            pid, unseen = None, str(error)
        if not unseen:
            self._add("daemon", lambda: _daemons_own(self._file, pid))
        try:
            settings = self._fact("configuration", lambda: load.load(self._file), ConfigError)
        except ConfigError as error:
            if os.geteuid() and self._file.parent.exists() and not os.access(self._file, os.R_OK):
                return [*self._found, warning("configuration", f"{error.faults[0]}", "sudo wgsyncd doctor")]
            mend, settings = f"editor {self._file} && wgsyncd check-config", None
            self._found += [fault("configuration", f"{error.path}: {one}", mend) for one in error.faults]
        if settings is not None:
            self._of_settings(settings, pid, unit)
        self._add("daemon", lambda: system.check(settings, pid, unseen, unit))
        return self._found

    def _of_settings(self, settings: Settings, pid: int | None, unit: Mapping[str, str] | None) -> None:
        names = f"node {settings.node.name}, interfaces {', '.join(settings.interfaces)}"
        who = self._fact("user", lambda: system.who(pid, unit))
        self._add("configuration", lambda: [files.configuration(self._file, names, who)])
        self._add("files", lambda: files.check(settings, who, wiring.spool_directory(), system.copied_secrets(unit)))
        self._add("database", lambda: wiring.check_store(settings))
        self._add("interfaces", lambda: _interfaces(settings, who))
        self._add("policies", lambda: _policies(settings))
        self._add("bandwidth", lambda: _bandwidth(settings))
        self._add("pair", lambda: system.pair(settings, wiring.interface_of))

    def _add(self, check: str, findings: Callable[[], Iterable[Finding]]) -> None:
        def take() -> None:
            for one in findings():  # one by one: those before a failure stay
                self._found.append(one)

        self._fact(check, take)

    def _fact(
        self, check: str, ask: Callable[[], T], reraised: type[UserError | ConfigError] | tuple[()] = ()
    ) -> T | None:
        """What ``ask`` returns. If it fails, that is a finding, and None is returned."""
        try:
            return client.within(CHECK_TIMEOUT, UserError(f"it took longer than {CHECK_TIMEOUT:g} s"), ask)
        except reraised:
            raise
        except Exception as error:
            mend = "sudo wgsyncd doctor" if os.geteuid() else _LOG
            self._found.append(fault(check, f"this check failed, so it found nothing more: {in_short(error)}", mend))
            return None


def _interfaces(settings: Settings, who: files.Who | None) -> Iterator[Finding]:
    with contextlib.closing(wiring.open_wireguard()) as wireguard:
        yield from interfaces.check(settings, wireguard, wiring.read_link, who=who)
        yield from routes.check(settings, wireguard)


def _policies(settings: Settings) -> Iterator[Finding]:
    nft = wiring.open_nft()
    yield from policies.check(settings, nft.version, nft.flowtables)


def _bandwidth(settings: Settings) -> Iterator[Finding]:
    with contextlib.closing(wiring.open_tc()) as tc:
        yield from shaping.check(settings, tc.read)


def _daemons_own(config_file: Path, pid: int | None) -> Iterator[Finding]:
    """What the daemon says of itself: the findings of `wgsyncd status`. It may lack rights that this command has."""
    try:
        report, why = status.ask_daemon(argparse.Namespace(config=config_file))
    except client.SilentDaemonError as error:
        yield fault("daemon", str(error), "systemctl restart wgsyncd")
        return
    except UserError as error:
        yield warning("daemon", str(error), "sudo wgsyncd doctor")
        return
    if report is None and pid is not None:
        yield fault("daemon", why.text, "systemctl restart wgsyncd")
    if report is not None and report.policies is not None:
        yield from policies.profiles(report.policies.profiles)
    for one in report.troubles if report else ():
        mend = _LOG if one.fix.startswith("sudo wgsyncd doctor") else one.fix  # The other checks know more.
        yield replace(one, check=f"daemon: {one.check}", fix=mend)


def _lines(report: DoctorReport, *, verbose: bool = False) -> Iterator[Line]:
    """The warnings, and then the faults, so that they stand at the end. The other checks are counted."""
    order = (Severity.OK, Severity.WARNING, Severity.FAULT)[0 if verbose else 1 :]
    shown = [one for severity in order for one in report.checks if one.severity is severity]
    width = max((len(one.check) for one in shown), default=0)
    for one in shown:
        word = "FAULT" if one.severity is Severity.FAULT else one.severity.value
        yield f"{word:8} {one.check:{width}}  {one.message}", one.severity.value
        if one.fix:
            yield f"    {one.fix}", "head"  # far to the left, so that a long command fits in 80 columns
    faults, warnings = report.faults, report.warnings
    good = len(report.checks) - faults - warnings
    yield (
        f"{faults} fault{'s'[: faults != 1]}, {warnings} warning{'s'[: warnings != 1]}, {good} ok",
        "fault" if faults else "warning" if warnings else "ok",
    )
