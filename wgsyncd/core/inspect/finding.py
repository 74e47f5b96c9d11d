"""What a checkup is made of: findings, and the facts about a database that some are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says: one line why, and the command that mends it ("" where there is nothing to mend)."""

    check: str
    severity: Severity
    message: str
    fix: str = ""


def ok(check: str, why: str) -> Finding:
    """All is well."""
    return Finding(check, Severity.OK, why)


def warning(check: str, why: str, mend: str) -> Finding:
    """It works, but not for ever, or nobody can tell."""
    return Finding(check, Severity.WARNING, why, mend)


def fault(check: str, why: str, mend: str) -> Finding:
    """It does not work, or gives something away."""
    return Finding(check, Severity.FAULT, why, mend)


@dataclass(frozen=True, slots=True)
class Database:
    """What a database says of itself and of our account. Texts name accounts, tables and columns only."""

    version: str  # as the server writes it: "10.11.19-MariaDB-0+deb12u1"
    account: str  # as GRANT wants it: 'mikyun'@'localhost'
    socket: str
    schema: str  # what is wrong with our own tables, "" where nothing is
    nodes: tuple[str, ...]  # whose books there are
    lacking: tuple[str, ...]  # rights that are granted by the shipped script and not had
    secrets: tuple[str, ...]  # columns that must not be read and can be
    extra: tuple[str, ...]  # further rights that are had and not needed
    session_offset: int  # seconds east of UTC, in our session
    server_offset: int  # the same where a client says nothing
    ahead: float  # seconds by which the server's clock is ahead of ours; within ``doubt``
    doubt: float
    newest: float | None  # UNIX seconds of the latest time that the application wrote, in our zone


def version_of(text: str) -> tuple[int, ...] | None:
    """The numbers of a server's version; None where it is not MariaDB."""
    number = text.partition("-")[0]
    if "MariaDB" not in text or not all(part.isdecimal() for part in number.split(".")):
        return None
    return tuple(map(int, number.split(".")))
