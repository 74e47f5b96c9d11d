"""The errors of wgsyncd, one class for each way to react.

The code at the edges (database, kernel, files) raises them. A library's error is kept as the cause.
"""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class WgsyncdError(Exception):
    """Any failure that wgsyncd knows. Its text says what failed, where, why and what to do. It never contains a key."""


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """Describes one fault of the configuration."""

    key: str  # dotted, such as `guard.max_share`
    value: str  # as written. "" if the value is missing or must not be shown
    why: str
    line: int | None = None  # of the file, where the key begins. None: the key is not in the file

    def __str__(self) -> str:
        line = f" (line {self.line})" if self.line else ""
        return f"{self.key}{f' = {self.value}' if self.value else ''}{line}: {self.why}"


class ConfigError(WgsyncdError):
    """The configuration cannot be used. ``faults`` lists all its faults, ``path`` names its file."""

    def __init__(self, path: str, faults: Sequence[ConfigIssue]) -> None:
        self.path, self.faults = path, tuple(faults)
        super().__init__(f"{path}: {'; '.join(map(str, faults))}")


class UserError(WgsyncdError):
    """wgsyncd refuses to start or to do what was asked. The text says what to do first."""


class NotHolder(WgsyncdError):
    """Another machine holds this node, so this process must not write. ``lost``: it wrote before."""

    def __init__(self, text: str, *, lost: bool) -> None:
        self.lost = lost
        super().__init__(text)


class StoreErrorCode(Enum):
    """What a store's failure means, so that a caller can react to it."""

    UNREACHABLE = "unreachable"  # the store does not answer
    UNRESOLVED = "unresolved"  # nor is its address known: no name server says it
    DENIED = "denied"  # the account may not enter or may not do this
    SCHEMA = "schema"  # wgsyncd's own tables are missing or of another version
    LOCKED = "locked"  # another program has locked what is needed
    OTHER = "other"


NO_ANSWER = (StoreErrorCode.UNREACHABLE, StoreErrorCode.UNRESOLVED)


class StoreError(WgsyncdError):
    """A temporary fault of the store: it is away, slow, read-only or deadlocked. The daemon tries again.

    ``todo``: the command that helps, for root. "": only a look at the configuration can tell it.
    """

    def __init__(self, text: str, code: StoreErrorCode = StoreErrorCode.OTHER, todo: str = "") -> None:
        self.text, self.code, self.todo = text, code, todo
        super().__init__(f"{text}. As root: {todo}" if todo else text)


class SchemaError(StoreError):
    """wgsyncd's own tables are missing or of another version."""

    def __init__(self, text: str, todo: str = "") -> None:
        super().__init__(text, StoreErrorCode.SCHEMA, todo)


class InDoubt(StoreError):
    """COMMIT got no answer, so it may or may not have happened. Only reading the store again shows which."""


class RevisionConflict(StoreError):
    """The node state in memory has another revision than the store: another writer, or a commit in doubt."""


class SpoolError(WgsyncdError):
    """The spool cannot be read or written at present."""


class SpoolCorrupt(SpoolError):
    """The spool was damaged or unreadable. It was renamed to ``name``."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        super().__init__(text)


class WireGuardError(WgsyncdError):
    """A temporary fault of one interface. ``name`` is the errno's name (``EPERM``, ``ENOBUFS`` …)."""

    def __init__(self, interface: str, name: str, text: str) -> None:
        self.interface, self.name, self.text = interface, name, text
        super().__init__(f"{interface}: {name}: {text}")


class FilterError(WireGuardError):
    """A temporary fault of the packet filter: it cannot be read or changed. What it had stays as it was."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__("packet filter", name, text)


class ShapingError(WireGuardError):
    """A temporary fault of shaping: tc cannot be read. What it had stays as it was."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__("shaping", name, text)


class InterfaceMissing(WireGuardError):
    """No interface has this name (ENODEV)."""


class ModuleMissing(InterfaceMissing):
    """No interface has this name, and the kernel's WireGuard is not loaded, so no interface can be made."""


class DumpInterrupted(WireGuardError):
    """Each attempt at a dump was interrupted (NLM_F_DUMP_INTR in uapi/linux/netlink.h)."""


def place_of(error: BaseException) -> str:
    """The type of an unexpected error, and its place in the program. Its text is left out, because it may be a key."""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return " in ".join((type(error).__name__, *(f"{Path(one.filename).name}:{one.lineno}" for one in place)))


def in_short(error: Exception) -> str:
    """What a command says of any error: the text of a known one, else :func:`place_of` a bug."""
    if isinstance(error, WgsyncdError):
        return str(error)
    if isinstance(error, OSError):
        return ": ".join(str(one) for one in (error.filename, error.strerror or error) if one is not None)
    if isinstance(error, ModuleNotFoundError):  # an interrupted upgrade, a full disk
        again = "Install wgsyncd again. The package: dpkg --install wgsyncd_*.deb, see Upgrade in man wgsyncd-install"
        return f"this installation is not whole: the module {error.name} is missing. {again}"
    return f"a bug: {place_of(error)}. Please report it with the output of `wgsyncd --version`"
