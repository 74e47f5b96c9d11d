"""Reads the configuration file into settings, and reports every fault of the file at once.

msgspec decodes the values. msgspec stops at the first fault, so each key is converted on its own.
"""

import bisect
import contextlib
import dataclasses
import json
import math
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from wgsyncd import stores
from wgsyncd.config import secret_file
from wgsyncd.config.check import faults_between
from wgsyncd.config.renamed import present_name
from wgsyncd.config.schema import Bandwidth, Interface, Settings, StoreSettings
from wgsyncd.config.values import SECRET, convert, meant, show
from wgsyncd.errors import ConfigError, ConfigIssue

_WITH_LINES, _SHORT = 20, 20_000  # so many faults get a line, in a text of at most so many characters
_APART = ("interfaces", "control_plane", "store", "bandwidth")  # fields that :func:`parse` reads by itself


def load(path: Path) -> Settings:
    """The settings of a file. ConfigError if the file cannot be read or has faults."""
    try:
        text = secret_file.read_plain(path).decode("utf-8-sig")  # Some editors write a byte order mark.
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8"
        why += ". --config names another one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(str(path), [ConfigIssue("(file)", "", f"cannot be read: {why}")]) from None
    return parse(text, str(path))


def parse(text: str, path: str = "wgsyncd.toml") -> Settings:
    """The settings of a configuration's text. ConfigError with every fault of the text."""
    raw = _toml(text, path)
    faults: list[ConfigIssue] = []
    as_written = _leaves(raw)
    interfaces = _interfaces(raw.pop("interfaces", None), faults)
    control_plane, store = _store(raw, faults)
    bandwidth = _profiles(raw.pop("bandwidth", {}), faults)
    rest = _table(Settings, raw, "", faults)
    settings = Settings(interfaces=interfaces, control_plane=control_plane, store=store, bandwidth=bandwidth, **rest)
    known = {fault.key for fault in faults}
    faults += [fault for fault in faults_between(settings, as_written) if fault.key not in known]
    if faults:
        first = [dataclasses.replace(one, line=_line_of(one.key, text)) for one in faults[:_WITH_LINES]]
        first.sort(key=lambda one: one.line or math.inf)  # what is not in the file comes last
        raise ConfigError(path, [*first, *faults[_WITH_LINES:]])
    node = settings.node
    return msgspec.structs.replace(
        settings, node=msgspec.structs.replace(node, name=node.name or socket.gethostname().partition(".")[0])
    )


def _toml(text: str, path: str) -> dict[str, Any]:
    try:
        raw = tomllib.loads(text)
        json.dumps(raw, default=str)  # A dotted key makes tables inside tables, which the parser does not limit.
        return raw
    except tomllib.TOMLDecodeError as error:
        why = str(error)
    except RecursionError:
        why = f"tables or arrays are nested too deeply (at line {_line(text, RecursionError)})"
    except ValueError as error:  # an integer with thousands of digits
        why = f"{error} (at line {_line(text, ValueError)})"
    raise ConfigError(path, [ConfigIssue("(file)", "", f"is not TOML: {why}")])


def _line(text: str, kind: type[Exception]) -> int:
    """The first line with which the text makes the parser raise this error, which names no line itself."""
    lines = text.split("\n")

    def raises(count: int) -> bool:
        try:
            json.dumps(tomllib.loads("\n".join(lines[:count])), default=str)
        except (ValueError, RecursionError) as error:
            return type(error) is kind
        return False

    return bisect.bisect_left(range(len(lines)), True, key=raises)


def _line_of(key: str, text: str) -> int | None:
    """The line on which the text first names this dotted key. None if the text does not, or if it is long.

    tomllib knows no lines. So this function looks for the shortest beginning of the text that has the key. A text that
    ends inside a value is no TOML. Such a beginning counts as the next longer one that is TOML.
    """
    lines = text.replace("\r\n", "\n").split("\n") if len(text) <= _SHORT else []

    def has_key(count: int) -> bool:
        for end in range(count, len(lines) + 1):
            with contextlib.suppress(tomllib.TOMLDecodeError):
                return _names(tomllib.loads("\n".join(lines[:end])), key)
        return True

    found = bisect.bisect_left(range(len(lines) + 1), True, key=has_key)
    return found if 0 < found <= len(lines) else None


def _names(table: Mapping[str, object], key: str, path: str = "") -> bool:
    """Whether a dotted key, or the table of this name, is in a table of the file."""
    return any(
        f"{path}{name}" == key or (isinstance(one, dict) and _names(one, key, f"{path}{name}."))
        for name, one in table.items()
    )


def check_files(settings: Settings, path: str) -> None:
    """ConfigError if a file that the settings name cannot be read or is empty.

    :func:`load` does not ask this: a reload must not fail because a file is missing for a moment.
    """
    named = {f"{settings.control_plane}.{key}": file for key, file in settings.store.secret_files().items()}
    named |= {f"interfaces.{name}.private_key_file": one.private_key_file for name, one in settings.interfaces.items()}
    faults: list[ConfigIssue] = []
    for key, file in named.items():
        try:
            if file is not None and not secret_file.read(file).strip():
                faults.append(ConfigIssue(key, str(file), "is empty"))
        except OSError as error:
            faults.append(ConfigIssue(key, str(file), f"cannot be read: {error.strerror}"))
    if faults:
        raise ConfigError(path, faults)


def _store(raw: dict[str, Any], faults: list[ConfigIssue]) -> tuple[str, StoreSettings]:
    """The name of the control plane, and its settings, which are in the table with this name."""
    names = list(stores.CONTROL_PLANES)
    name = raw.pop("control_plane", names[0])
    if name not in names:
        faults.append(
            ConfigIssue(
                "control_plane", show("control_plane", name), f"is none of {', '.join(names)}{meant(str(name), names)}"
            )
        )
        name = names[0]
    kind = stores.settings_type(name)
    return name, kind(**_table(kind, raw.pop(name, {}), name, faults))


def _interfaces(tables: object, faults: list[ConfigIssue]) -> dict[str, Interface]:
    if tables and not isinstance(tables, dict):
        faults.append(ConfigIssue("interfaces", show("interfaces", tables), "is not a table: write [interfaces.wg0]"))
        return {}
    if not isinstance(tables, dict) or not tables:
        faults.append(ConfigIssue("interfaces", "", "is missing: name at least one, as [interfaces.wg0]"))
        return {}
    found: dict[str, Interface] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            faults.append(ConfigIssue(f"interfaces.{name}", show(name, table), "is not a table"))
            continue
        one = Interface(**_table(Interface, table, f"interfaces.{name}", faults))
        found[name] = msgspec.structs.replace(one, store_name=one.store_name or name)
    return found


def _profiles(tables: object, faults: list[ConfigIssue]) -> dict[str, Bandwidth]:
    if not isinstance(tables, dict):
        faults.append(ConfigIssue("bandwidth", show("bandwidth", tables), "is not a table of profiles"))
        return {}
    return {name: Bandwidth(**_table(Bandwidth, table, f"bandwidth.{name}", faults)) for name, table in tables.items()}


def _table(kind: type[msgspec.Struct], raw: object, path: str, faults: list[ConfigIssue]) -> dict[str, Any]:
    """The good values of one table of the file. The bad ones keep their defaults, so the other checks can go on."""
    if not isinstance(raw, dict):
        faults.append(ConfigIssue(path, show(path, raw), "is not a table"))
        return {}
    fields = {field.name: field.type for field in msgspec.structs.fields(kind) if field.name not in _APART}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = f"{path}.{key}".lstrip(".")
        if key not in fields:
            faults.append(_unknown(name, value, fields))
        elif isinstance(fields[key], type) and issubclass(fields[key], msgspec.Struct):
            values[key] = fields[key](**_table(fields[key], value, name, faults))
        else:
            try:
                values[key] = convert(value, fields[key])
            except (msgspec.ValidationError, ValueError) as error:
                faults.append(ConfigIssue(name, show(key, value), str(error)))
    return values


def _unknown(key: str, value: object, fields: Mapping[str, Any]) -> ConfigIssue:
    """What is wrong with a key or section that wgsyncd does not know."""
    if present := present_name(key):
        return ConfigIssue(key, "", f"is now {present}")
    if key in stores.CONTROL_PLANES:
        return ConfigIssue(key, "", "belongs to a control plane that control_plane does not name")
    if isinstance(value, dict) and "." not in key:
        sections = [
            name for name, kind in fields.items() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        ]
        known = ("interfaces", "bandwidth", *sections, *stores.CONTROL_PLANES)
        return ConfigIssue(
            key, "", f"is not a section that wgsyncd knows ({', '.join(known)}){meant(key.rpartition('.')[2], known)}"
        )
    hint = " (secrets stand in files: password_file, private_key_file)" if SECRET.search(key) else ""
    alike = meant(key.rpartition(".")[2], fields)
    return ConfigIssue(key, show(key, value), f"is not a key that wgsyncd knows{hint}{alike}")


def _leaves(table: Mapping[str, object], path: str = "") -> dict[str, object]:
    """The file's values by dotted key."""
    found: dict[str, object] = {}
    for key, value in table.items():
        found |= _leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found
