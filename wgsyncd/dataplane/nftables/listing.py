"""Pure functions that decode what `nft -j list table` shows: libnftables-json(5)."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from wgsyncd.core.network import Network
from wgsyncd.core.policies.model import Access, Element, Ruleset
from wgsyncd.core.policies.ranges import Range, join
from wgsyncd.core.policies.status import Traffic
from wgsyncd.dataplane.nftables.rules import HASH, MAPS, line, profile_skeleton, skeleton

_OF_PROFILE = re.compile(r"(?:p|d4|d6)_([0-9a-f]{32})")
# nft 1.0.6 shows the port of a connection as a number of a type that it cannot name.
_ODD_PORT = re.compile(r'"0x35 \[invalid type\]"|"domain"')


# Elements are decoded one by one: as JSON objects, the elements of 10,000 devices would take 11 MiB together.
_DOCUMENT = msgspec.json.Decoder(dict[str, list[dict[str, dict[str, msgspec.Raw]]]])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_VALUE = msgspec.json.Decoder()


class Shape(NamedTuple):
    """How an nft shows all but elements and counters: the lines of the table, and the lines of each profile."""

    fixed: frozenset[str]
    profile: frozenset[str]


class Found(NamedTuple):
    """The table as it is."""

    ruleset: Ruleset
    is_intact: bool  # chains, rules and types are as they should be
    is_odd: bool  # some element or profile is none that wgsyncd makes
    shape: Shape
    counters: Mapping[str, Traffic]  # by name


@dataclass(slots=True)
class _Parts:
    sets: dict[str, list[msgspec.Raw]] = field(default_factory=dict)  # elements, by name
    lines: set[str] = field(default_factory=set)  # the skeleton
    profiles: dict[str, set[str]] = field(default_factory=dict)  # their skeletons, by name
    places: dict[str, int] = field(default_factory=dict)  # how many rules each chain had so far
    counters: dict[str, Traffic] = field(default_factory=dict)  # by name
    is_odd: bool = False  # an element is none that wgsyncd makes

    def of(self, name: str) -> Iterator[Any]:
        """The elements of a set or a map, each decoded when it is asked for."""
        return map(_VALUE.decode, self.sets.get(name, ()))


def decode(shown: str, shape: Shape | None = None) -> Found:
    """The table in the JSON that nft shows. ValueError if this is no such JSON.

    ``shape``: how this nft shows the chains, if another one than nft 1.0.6 made them.
    """
    parts = _Parts()
    try:
        for one in _DOCUMENT.decode(shown)["nftables"]:
            _add_part(parts, one)
        return _found(parts, shape)
    except (KeyError, TypeError, AttributeError, IndexError, msgspec.DecodeError) as error:
        raise ValueError(f"unexpected JSON: {error!r}") from error


def _add_part(parts: _Parts, one: dict[str, dict[str, msgspec.Raw]]) -> None:
    ((kind, shown),) = one.items()
    if kind == "metainfo":
        return
    about = {key: _VALUE.decode(value) for key, value in shown.items() if key != "elem"}
    name = str(about.get("chain") or about.get("name", ""))
    rest = {key: value for key, value in about.items() if key not in ("family", "table", "chain", "name", "handle")}
    if kind in ("set", "map"):
        parts.sets[name] = _LIST.decode(shown.get("elem", b"[]"))
    if kind == "counter":
        parts.counters[name] = Traffic(rest.pop("packets"), rest.pop("bytes"))
    if kind == "table":
        said: object = ["table", rest]
    elif kind == "rule":
        place = parts.places[name] = parts.places.get(name, -1) + 1
        said = ["rule", name, place, rest.pop("expr"), *rest]
    else:
        said = [kind, name, rest]
    match = _OF_PROFILE.fullmatch(name)
    if match:
        text = _ODD_PORT.sub("53", line(said)).replace(match[1], HASH)
        parts.profiles.setdefault(match[1], set()).add(text)
    else:
        parts.lines.add(line(said))


def _found(parts: _Parts, shape: Shape | None) -> Found:
    whole = {name for name in parts.profiles if f"d4_{name}" in parts.sets and f"d6_{name}" in parts.sets}
    profiles = {
        name: Access(*(join(map(_range, parts.of(f"d{version}_{name}"))) for version in (4, 6))) for name in whole
    }
    elements = {
        host: element for name in MAPS for host, element in _elements(parts, name) if element.profile in profiles
    }
    rejects = any('"reject"' in text for text in parts.lines)
    judges_local = any('["chain", "input"' in text for text in parts.lines)
    ruleset = Ruleset(
        tunnels=frozenset(parts.of("tunnels")),
        dns=frozenset(_host(one) for name in ("dns4", "dns6") for one in parts.of(name)),
        free=Access(*(join(map(_range, parts.of(f"free{version}"))) for version in (4, 6))),
        sites=Access(*(join(map(_range, parts.of(f"sites{version}"))) for version in (4, 6))),
        profiles=profiles, elements=elements, judges_local=judges_local, rejects=rejects,
    )  # fmt: skip
    shapes = {frozenset(lines) for lines in parts.profiles.values()}
    is_odd = (
        parts.is_odd
        or len(whole) < len(parts.profiles)
        or len(shapes) > 1
        or any(name != access.profile for name, access in profiles.items())
        or len(elements) < sum(len(parts.sets.get(name, ())) for name in MAPS)
    )
    usual = Shape(skeleton(ruleset.tunnels, judges_local=judges_local, rejects=rejects), profile_skeleton())
    found = Shape(frozenset(parts.lines), next(iter(shapes), usual.profile))
    is_intact = not is_odd and found in (usual, shape)
    return Found(ruleset, is_intact, is_odd, found, parts.counters)


def _elements(parts: _Parts, name: str) -> Iterator[tuple[Network, Element]]:
    for key, verdict in parts.of(name):
        about = key["elem"] if isinstance(key, dict) else {"val": key}
        target = verdict.get("goto", {}).get("target", "") if isinstance(verdict, dict) else ""
        match = _OF_PROFILE.fullmatch(target)
        if match is None or about.keys() - {"val", "comment"}:
            parts.is_odd = True
        else:
            yield _host(about["val"]), Element(about.get("comment", ""), match[1])


def _host(shown: str) -> Network:
    packed = ipaddress.ip_address(shown).packed
    return Network(packed, 8 * len(packed))


def _range(shown: Any) -> Range:
    """The addresses of an element of a set: an address, a prefix or a range."""
    if isinstance(shown, str):
        number = int(ipaddress.ip_address(shown))
        return number, number
    if "range" in shown:
        first, last = shown["range"]
        return int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))
    net = ipaddress.ip_network(f"{shown['prefix']['addr']}/{shown['prefix']['len']}")
    return int(net.network_address), int(net.broadcast_address)
