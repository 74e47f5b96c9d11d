"""Converts single values of the configuration file: durations, rates, networks, keys, paths."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin
from zoneinfo import ZoneInfo

import msgspec

from wgsyncd.config.schema import BitRate, Seconds, Size
from wgsyncd.core.model import PublicKey, decode_key
from wgsyncd.core.network import Network, parse_network

T = TypeVar("T")
SECRET = re.compile(r"pass|secret|private_?key|preshared|psk|://[^/]*:[^/]*@", re.IGNORECASE)
"""Matches the name of a key, or a value, that may contain a password."""
_PLAIN = {
    int: "a whole number, without quotes",
    float: "a number, without quotes",
    bool: "true or false, without quotes",
    str: "a text in quotes",
    str | None: "a text in quotes",
    tuple[str, ...]: 'a list of texts, such as ["one", "two"]',
    dict[str, Path]: 'a table of absolute paths, such as { fra1 = "/etc/wgsyncd/psk-fra1" }',
}
_LONGEST = 36500 * 86400.0  # seconds
_UNITS = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
_SIZES = {"B": 1} | {
    f"{letter}{'i' * (base == 1024)}B": base**power
    for base, letters in ((1000, "kMGT"), (1024, "KMGT"))
    for power, letter in enumerate(letters, 1)
}
_RATES = {"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9, "Tbit": 1e12}


def show(key: str, value: object) -> str:
    """The value for a message. "" if the value, its key or a key inside the value may contain a password."""
    shown = repr(value)
    return "" if SECRET.search(key) or SECRET.search(shown) else shown


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one, as a question. "" if none is like it."""
    alike = difflib.get_close_matches(word, known, n=1)
    return f". Did you mean {alike[0]}?" if alike else ""


def convert(value: object, kind: Any) -> Any:
    """The value as a setting of type ``kind``. ValueError or msgspec.ValidationError with the reason if it is none."""
    if kind == tuple[PublicKey, ...]:  # msgspec knows a NewType over bytes as bytes, and takes any base64
        return tuple(PublicKey(key) for key in _each(value, decode_key, "public keys"))
    if kind == tuple[Network, ...]:  # msgspec takes a NamedTuple for an array
        return tuple(_each(value, parse_network, "networks"))
    if kind == dict[str, str] and not _is_table_of_texts(value):
        raise ValueError('is not a table of texts, such as { staff = "fast" }')
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise ValueError(f"is none of {', '.join(map(str, get_args(kind)))}{meant(str(value), get_args(kind))}")
    try:
        converted = msgspec.convert(value, kind, dec_hook=_special)
    except msgspec.ValidationError:
        if kind not in _PLAIN:
            raise
        raise ValueError(f"is not {_PLAIN[kind]}") from None
    if isinstance(value, str) and "\0" in value:  # no file, host or account has such a name
        raise ValueError("has a NUL character in it")
    return converted


def _special(kind: type, value: object) -> object:
    """msgspec's hook for the types that msgspec does not know. Its ValueError is the fault's reason."""
    if kind is Seconds:
        seconds = Seconds(_with_unit(value, _UNITS, '"15s"'))
        if seconds > _LONGEST:
            raise ValueError("is longer than a hundred years")
        return seconds
    if kind is BitRate:
        return BitRate(_with_unit(value, _RATES, '"25Gbit"'))
    if kind is Size:
        return Size(_with_unit(value, _SIZES, '"500GiB"'))
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


def _is_table_of_texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _with_unit(text: object, units: Mapping[str, float], example: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", text) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"is not a number with a unit ({', '.join(units)}), such as {example}")
    return float(match[1]) * units[match[2]]


def _each(value: object, parse_one: Callable[[str], T], what: str) -> list[T]:
    """Every entry of a list. ValueError names every bad entry by its place."""
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
