"""The findings of `wgsyncd doctor`."""

from dataclasses import dataclass
from enum import StrEnum

NTP = "timedatectl set-ntp true || apt-get install -y --no-install-recommends systemd-timesyncd"
"""Turns NTP on. The first command fails where no service for NTP is installed."""
ADMIN_PASSWORD = "/run/wgsyncd-admin-password"  # noqa: S105 - a file in memory: it is gone after a reboot
"""The file that a command makes for the password of the database's administrator."""


class Severity(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: one line of explanation, and the command that fixes it ("" if nothing is wrong)."""

    check: str
    severity: Severity
    message: str
    fix: str = ""


def ok(check: str, why: str) -> Finding:
    """A finding that says that all is well."""
    return Finding(check, Severity.OK, why)


def warning(check: str, why: str, fix: str) -> Finding:
    """A finding about something that works only for now, or that cannot be checked."""
    return Finding(check, Severity.WARNING, why, fix)


def fault(check: str, why: str, fix: str) -> Finding:
    """A finding about something that does not work or that reveals a secret."""
    return Finding(check, Severity.FAULT, why, fix)
