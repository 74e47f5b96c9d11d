"""The findings of `wgsyncd doctor`, and the facts about a database from which some of them come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


def warning(check: str, why: str, mend: str) -> Finding:
    """A finding about something that works only for now, or that cannot be checked."""
    return Finding(check, Severity.WARNING, why, mend)


def fault(check: str, why: str, mend: str) -> Finding:
    """A finding about something that does not work or that reveals a secret."""
    return Finding(check, Severity.FAULT, why, mend)


@dataclass(frozen=True, slots=True)
class Database:
    """Facts about a database and wgsyncd's account in it. The texts name only accounts, tables and columns."""

    version: str  # as the server writes it: "10.11.19-MariaDB-0+deb12u1"
    account: str  # as GRANT expects it: 'mikyun'@'localhost'
    socket: str
    schema: str  # what is wrong with wgsyncd's own tables, or ""
    nodes: tuple[str, ...]  # nodes that have a node state in the database
    lacking: tuple[str, ...]  # rights that the shipped script grants and the account does not have
    secrets: tuple[str, ...]  # columns that the account can read and must not be able to read
    extra: tuple[str, ...]  # rights that the account has and does not need
    session_offset: int  # seconds east of UTC in wgsyncd's session
    server_offset: int  # seconds east of UTC for a client that sets no time zone
    ahead: float  # seconds by which the server's clock is ahead of this machine's clock, plus or minus ``doubt``
    doubt: float  # seconds
    newest: float | None  # UNIX seconds of the latest time that the application wrote, read in the node's zone


def version_of(text: str) -> tuple[int, ...] | None:
    """The numbers of a server's version. None if the server is not MariaDB."""
    number = text.partition("-")[0]
    if "MariaDB" not in text or not all(part.isdecimal() for part in number.split(".")):
        return None
    return tuple(map(int, number.split(".")))
