"""The configuration file: TOML into settings; every fault is told at once.

Decoding and types are msgspec's. msgspec stops at the first fault, so :func:`_section` hands it one key at a time.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin
from zoneinfo import ZoneInfo

import msgspec

from wgsyncd.config.schema import BitRate, Interface, Seconds, Settings
from wgsyncd.core.model import PublicKey, decode_key
from wgsyncd.core.network import Network, parse_host, parse_network
from wgsyncd.errors import ConfigError, ConfigIssue

T = TypeVar("T")
_SECRET = re.compile(r"pass|secret|private_?key|preshared|psk|://[^/]*:[^/]*@", re.IGNORECASE)
_LONGEST = 36500 * 86400.0  # seconds
_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
_RATES = {"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "Tbit": 1e12}


def _with_unit(text: object, units: Mapping[str, float], example: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"is not a number with a unit ({', '.join(units)}), such as {example}")
    return float(match[1]) * units[match[2]]


def _special(kind: type, value: object) -> object:
    """msgspec's hook for the types it does not know; a ValueError becomes the fault's reason."""
    if kind is Seconds:
        seconds = Seconds(_with_unit(value, _UNITS, '"15s"'))
        if seconds > _LONGEST:
            raise ValueError("is longer than a hundred years")
        return seconds
    if kind is BitRate:
        return BitRate(_with_unit(value, _RATES, '"25Gbit"'))
    if not isinstance(value, str):
        raise ValueError(f"is not a text, which a {kind.__name__} is written as")
    if kind is ZoneInfo:
        try:
            return ZoneInfo(value)
        except (KeyError, OSError, ValueError):
            raise ValueError("is not a time zone of this system's tz database") from None
    if kind is Network:
        return parse_network(value)
    if kind is Path:
        if not value.startswith("/"):
            raise ValueError("is not an absolute path")
        return Path(value)
    raise TypeError(kind)


def _show(key: str, value: object) -> str:
    """The value, unless it may hold a password: by its key, by a key inside it, or as part of a URL."""
    shown = repr(value)
    return "" if _SECRET.search(key) or _SECRET.search(shown) else shown


def _section(kind: Any, raw: object, path: str, faults: list[ConfigIssue]) -> Any:
    """One table of the file as ``kind``, fault by fault; None where too little of it can be read."""
    if not isinstance(raw, dict):
        faults.append(ConfigIssue(path, _show(path, raw), "is not a table"))
        return None
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = f"{path}.{key}".lstrip(".")
        if key not in fields:
            hint = " (secrets stand in files: password_file, private_key_file)" if _SECRET.search(key) else ""
            faults.append(ConfigIssue(name, _show(key, value), f"is not a key that wgsyncd knows{hint}"))
            continue
        try:
            values[key] = _convert(value, fields[key].type)
        except (msgspec.ValidationError, ValueError) as error:
            faults.append(ConfigIssue(name, _show(key, value), str(error)))
    for name, field in fields.items():
        if field.required and name not in raw:
            faults.append(ConfigIssue(f"{path}.{name}".lstrip("."), "", "is missing"))
    whole = all(name in values or not field.required for name, field in fields.items())
    return kind(**values) if whole else None  # with the defaults, so that what hangs together is checked all the same


def _convert(value: object, kind: Any) -> Any:
    if kind == tuple[PublicKey, ...]:  # a NewType over bytes: msgspec would take any base64
        return tuple(PublicKey(key) for key in _each(value, decode_key, "public keys"))
    if kind == tuple[Network, ...]:  # msgspec would take a NamedTuple for an array
        return tuple(_each(value, parse_network, "networks"))
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise ValueError(f"is none of {', '.join(map(str, get_args(kind)))}")
    converted = msgspec.convert(value, kind, dec_hook=_special)
    if isinstance(value, str) and "\0" in value:  # no file, host or account can be called that
        raise ValueError("has a NUL character in it")
    return converted


def _each(value: object, parse_one: Callable[[str], T], what: str) -> list[T]:
    """Every entry of a list; all the bad ones are told, by their place."""
    if not isinstance(value, list):
        raise ValueError(f"is not a list of {what}")
    good: list[T] = []
    bad: list[str] = []
    for place, one in enumerate(value, 1):
        try:
            good.append(parse_one(str(one)))
        except ValueError as error:
            bad.append(f"entry {place}: {error}")
    if bad:
        raise ValueError("; ".join(bad))
    return good


def parse(text: str, path: str = "wgsyncd.toml") -> Settings:
    """Settings of a configuration's text. ConfigError with every fault in it."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [ConfigIssue("(file)", "", f"is not TOML: {error}")]) from None
    faults: list[ConfigIssue] = []
    as_written = _leaves(raw)
    interfaces: dict[str, Interface] = {}
    tables = raw.pop("interfaces", None)
    if not isinstance(tables, dict) or not tables:
        faults.append(ConfigIssue("interfaces", "", "is missing: name at least one, as [interfaces.wg0]"))
        tables = {}
    for name, table in tables.items():
        one = _section(Interface, table, f"interfaces.{name}", faults)
        if one is not None:
            interfaces[name] = msgspec.structs.replace(one, store_name=one.store_name or name)
    sections: dict[str, Any] = {}
    kinds = {f.name: f.type for f in msgspec.structs.fields(Settings) if f.name != "interfaces"}
    for name, table in raw.items():
        if name not in kinds:
            faults.append(
                ConfigIssue(name, "", f"is not a section that wgsyncd knows ({', '.join(kinds)}, interfaces)")
            )
        else:
            sections[name] = _section(kinds[name], table, name, faults)
    good = {name: section for name, section in sections.items() if section is not None}
    settings = Settings(interfaces=interfaces, **good)
    known = {fault.key for fault in faults}
    faults += [fault for fault in _faults_between(settings, as_written) if fault.key not in known]
    if faults:
        raise ConfigError(path, faults)
    node = settings.node
    return msgspec.structs.replace(
        settings, node=msgspec.structs.replace(node, name=node.name or socket.gethostname().partition(".")[0])
    )


def load(path: Path) -> Settings:
    """Settings of a file. ConfigError where it cannot be read or has faults."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "is not UTF-8"
        raise ConfigError(str(path), [ConfigIssue("(file)", "", f"cannot be read: {why}")]) from None
    return parse(text, str(path))


def check_files(settings: Settings, path: str) -> None:
    """Whether the files that the settings name can be read and hold something. ConfigError if not. Not asked by
    :func:`load`: a file that is away just now is no reason to stop."""
    named: dict[str, Path | None] = {"database.password_file": settings.database.password_file}
    named |= {f"interfaces.{name}.private_key_file": one.private_key_file for name, one in settings.interfaces.items()}
    faults: list[ConfigIssue] = []
    for key, file in named.items():
        try:
            if file is not None and not file.read_bytes().strip():
                faults.append(ConfigIssue(key, str(file), "is empty"))
        except OSError as error:
            faults.append(ConfigIssue(key, str(file), f"cannot be read: {error.strerror}"))
    if faults:
        raise ConfigError(path, faults)


def _leaves(table: Mapping[str, object], path: str = "") -> dict[str, object]:
    """The file's values by dotted key."""
    found: dict[str, object] = {}
    for key, value in table.items():
        found |= _leaves(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def _faults_between(settings: Settings, as_written: Mapping[str, object]) -> list[ConfigIssue]:
    """What no single value shows: ranges, and values that do not fit each other."""
    faults: list[ConfigIssue] = []

    def check(good: bool, key: str, value: object, why: str) -> None:
        if not good:
            faults.append(ConfigIssue(key, _show(key, as_written.get(key, value)), why))

    by_rows: dict[str, str] = {}
    for name, one in settings.interfaces.items():
        key = f"interfaces.{name}"
        check(bool(re.fullmatch(r"[^\s/:]{1,15}", name)), key, name, "is not an interface name (1 to 15 characters)")
        other = by_rows.setdefault(one.store_name, name)
        check(other == name, f"{key}.store_name", one.store_name, f"is also interfaces.{other}'s")
        check(
            one.store_name not in settings.node.ignored_interfaces,
            f"{key}.store_name",
            one.store_name,
            "stands in node.ignored_interfaces too",
        )
        check(bool(one.networks), f"{key}.networks", [], "is missing or empty: no row could be served")
        check(0 <= one.listen_port < 65536, f"{key}.listen_port", one.listen_port, "is not a port")
        check(one.mtu == 0 or 576 <= one.mtu <= 65535, f"{key}.mtu", one.mtu, "is not between 576 and 65535")
        check(
            0 <= one.persistent_keepalive <= 65535 and float(one.persistent_keepalive).is_integer(),
            f"{key}.persistent_keepalive", float(one.persistent_keepalive), "is not whole seconds from 0 to 65535",
        )  # fmt: skip
        check(one.line_rate > 0, f"{key}.line_rate", float(one.line_rate), "is not above 0")
        for address in one.addresses:
            host, _, prefix = address.partition("/")
            try:
                parse_host(host)
                check(prefix.isdigit() and int(prefix) <= (128 if ":" in host else 32), f"{key}.addresses", address,
                      "needs a prefix length, as in 10.200.0.1/24")  # fmt: skip
            except ValueError:
                check(False, f"{key}.addresses", address, "is not an address, as 10.200.0.1/24 is")
        if one.create:
            check(one.private_key_file is not None, f"{key}.private_key_file", None, "is needed with create = true")
            check(one.listen_port > 0, f"{key}.listen_port", one.listen_port, "is needed with create = true")
            check(bool(one.addresses), f"{key}.addresses", [], "is needed with create = true")
    database, schedule, usage = settings.database, settings.schedule, settings.usage
    check(0 < database.port < 65536, "database.port", database.port, "is not a port")
    check(0.1 <= database.timeout <= 30, "database.timeout", float(database.timeout), "is not between 100ms and 30s")
    check(bool(re.fullmatch(r"\S{1,64}", database.name)), "database.name", database.name, "is not a database's name")
    for task in ("poll_interval", "resync_interval"):
        check(1 <= getattr(schedule, task) <= 86400, f"schedule.{task}", None, "is not between 1s and 24h")
    watch = float(schedule.watch_interval)
    check(
        watch == 0 or 0.1 <= watch <= 86400,
        "schedule.watch_interval",
        watch,
        "is neither 0s (off) nor from 100ms to 24h",
    )
    check(settings.qr.lifetime > 0, "qr.lifetime", float(settings.qr.lifetime), "is not above 0")
    check(settings.guard.always_allowed >= 0, "guard.always_allowed", settings.guard.always_allowed, "is below 0")
    check(0 <= settings.guard.max_share <= 1, "guard.max_share", settings.guard.max_share, "is not between 0 and 1")
    whole = float(usage.bucket_width).is_integer() and usage.bucket_width >= 60 and 3600 % int(usage.bucket_width) == 0
    check(whole, "usage.bucket_width", float(usage.bucket_width), "is not whole minutes that divide an hour")
    check(usage.retention >= 62 * 86400, "usage.retention", float(usage.retention), "is below 62d (two months)")
    if settings.metrics.listen:
        host, _, port = settings.metrics.listen.rpartition(":")
        check(bool(host) and port.isdecimal() and int(port) < 65536, "metrics.listen", settings.metrics.listen,
              "is not host:port, as 127.0.0.1:9586 is")  # fmt: skip
    limit = settings.metrics.per_peer_limit
    check(limit >= 0, "metrics.per_peer_limit", limit, "is below 0")
    name = settings.node.name
    check(len(name) <= 64 and name.isprintable(), "node.name", name, "is longer than 64 characters or unprintable")
    return faults
