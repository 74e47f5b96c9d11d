"""What can go wrong, by what is to be done about it. Raised at the edges, where a library's error is kept as cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class WgsyncdError(Exception):
    """Any failure that wgsyncd knows and names. Its text says what, where, why and what to do; never a key."""


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """One thing wrong with the configuration."""

    key: str  # dotted, as in the file
    value: str  # as written; "" where it is missing or must not be shown
    why: str

    def __str__(self) -> str:
        return f"{self.key}{f' = {self.value}' if self.value else ''}: {self.why}"


class ConfigError(WgsyncdError):
    """The configuration cannot be used; all its faults at once."""

    def __init__(self, path: str, faults: Sequence[ConfigIssue]) -> None:
        self.path, self.faults = path, tuple(faults)
        super().__init__(f"{path}: {'; '.join(map(str, faults))}")


class UserError(WgsyncdError):
    """wgsyncd will not start, or not do what was asked, and says what to do first."""


class StoreError(WgsyncdError):
    """Passing trouble with the database: it is away, slow, read-only or deadlocked. The next tick tries again.

    ``number`` is MariaDB's error number where it gave one.
    """

    def __init__(self, text: str, number: int | None = None) -> None:
        self.number = number
        super().__init__(text)


class SchemaError(StoreError):
    """wgsyncd's own tables are missing or of another version."""


class InDoubt(StoreError):
    """The answer to a COMMIT is lost: it has happened or it has not, and only looking tells."""


class RowsLocked(StoreError):
    """Somebody else has rows locked that cannot be left out of a transaction: nothing of it is written."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"1205: somebody else has locked {rows} rows", 1205)


class RevisionConflict(StoreError):
    """The books in memory are not those of the database (another writer, or a commit whose answer was lost)."""


class SpoolError(WgsyncdError):
    """The spool cannot be read or written now."""


class SpoolCorrupt(SpoolError):
    """The spool was torn or foreign and has been set aside under ``name``."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        super().__init__(text)


class WireGuardError(WgsyncdError):
    """Passing trouble with one interface. ``name`` is the errno's name (``EPERM``, ``ENOBUFS`` …)."""

    def __init__(self, interface: str, name: str, text: str) -> None:
        self.interface, self.name, self.text = interface, name, text
        super().__init__(f"{interface}: {name}: {text}")


class InterfaceMissing(WireGuardError):
    """There is no such interface (ENODEV)."""


class DumpInterrupted(WireGuardError):
    """The kernel's dump was interrupted (NLM_F_DUMP_INTR) each time it was asked for."""
