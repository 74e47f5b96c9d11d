"""Pure functions from rulesets to the commands that nft(8) reads: one text is one transaction."""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Set

from wgsyncd.core.network import Network
from wgsyncd.core.policies.model import Access, Element, Ruleset
from wgsyncd.core.policies.ranges import Range, Ranges
from wgsyncd.dataplane.nftables.rules import (
    ACCEPTED,
    MAPS,
    SETS,
    TABLE,
    Rule,
    fixed_chains,
    hooks,
    profile_chain,
    refuse_chain,
    refused_counter,
    text,
)
from wgsyncd.errors import UserError

_INTERFACE = re.compile(r"[A-Za-z0-9_.=+-]{1,15}")  # IFNAMSIZ - 1, linux/if.h, and no character of nft's language
_CHUNK = 500  # elements of one command


def complete(wanted: Ruleset) -> str:
    """The commands that replace the whole table."""
    return "\n".join((f"add table {TABLE}", f"delete table {TABLE}", f"add table {TABLE}", *_whole(wanted), ""))


def removal() -> str:
    """The commands that remove the table, if it is there."""
    return f"add table {TABLE}\ndelete table {TABLE}\n"


def change(found: Ruleset, wanted: Ruleset) -> str:
    """The commands that turn one ruleset into another with the same chains. "" if they are equal."""
    return "".join(f"{command}\n" for command in _changes(found, wanted))


def _whole(wanted: Ruleset) -> Iterator[str]:
    for name, (kind, has_ranges) in SETS.items():
        yield f"add set {TABLE} {name} {_of(kind, has_ranges=has_ranges)}"
    for name, kind in MAPS.items():
        yield f"add map {TABLE} {name} {{ type {kind} : verdict\n}}"
    yield f"add counter {TABLE} {ACCEPTED}"
    fixed = fixed_chains((), rejects=wanted.rejects)
    for chain in fixed:
        yield f"add chain {TABLE} {chain}"
    for hook in hooks(judges_local=wanted.judges_local):
        yield f"add chain {TABLE} {hook} {{ type filter hook {hook} priority filter\npolicy accept\n}}"
    for chain, rules in {**fixed, **hooks(judges_local=wanted.judges_local)}.items():
        yield from _rules(chain, rules)
    yield from _changes(Ruleset(judges_local=wanted.judges_local, rejects=wanted.rejects), wanted)


def _changes(found: Ruleset, wanted: Ruleset) -> Iterator[str]:
    sets, others = _sets(found), _sets(wanted)
    if found.tunnels != wanted.tunnels:
        yield f"flush chain {TABLE} refuse"
        yield from (f"delete counter {TABLE} {refused_counter(one)}" for one in sorted(found.tunnels - wanted.tunnels))
        yield from (f"add counter {TABLE} {refused_counter(one)}" for one in sorted(wanted.tunnels - found.tunnels))
        yield from _rules("refuse", refuse_chain(map(interface, wanted.tunnels), rejects=wanted.rejects))
    for name, elements in others.items():
        if sets[name] != elements:
            yield f"flush set {TABLE} {name}"
            yield from _add(name, elements)
    for profile in sorted(wanted.profiles.keys() - found.profiles.keys()):
        yield from _profile(profile, wanted.profiles[profile])
    changed = [host for host, element in wanted.elements.items() if found.elements.get(host) != element]
    gone = [host for host in found.elements if host not in wanted.elements]
    for version in (4, 6):
        name, size = f"devices{version}", 4 if version == 4 else 16
        old = [host.address for host in (*gone, *changed) if host in found.elements and len(host.packed) == size]
        for some in _chunks(old):
            yield f"delete element {TABLE} {name} {{ {', '.join(some)} }}"
        yield from _add(name, [_element(host, wanted.elements[host]) for host in changed if len(host.packed) == size])
    for profile in sorted(found.profiles.keys() - wanted.profiles.keys()):
        yield f"flush chain {TABLE} p_{profile}"
        yield f"delete chain {TABLE} p_{profile}"
        yield f"delete set {TABLE} d4_{profile}"
        yield f"delete set {TABLE} d6_{profile}"


def _of(kind: str, *, has_ranges: bool) -> str:
    """The definition of a set. A line ends a statement, as a semicolon would."""
    return f"{{ type {kind}\n{'flags interval' if has_ranges else ''}\n}}"


def _sets(ruleset: Ruleset) -> dict[str, list[str]]:
    """The elements of the sets that every table has."""
    return {
        "tunnels": [f'"{interface(name)}"' for name in sorted(ruleset.tunnels)],
        "dns4": _hosts(ruleset.dns, 4),
        "dns6": _hosts(ruleset.dns, 16),
        "free4": _ranges(ruleset.free.v4, 4),
        "free6": _ranges(ruleset.free.v6, 16),
        "sites4": _ranges(ruleset.sites.v4, 4),
        "sites6": _ranges(ruleset.sites.v6, 16),
    }


def _profile(profile: str, access: Access) -> Iterator[str]:
    for version, ranges, size in ((4, access.v4, 4), (6, access.v6, 16)):
        yield f"add set {TABLE} d{version}_{profile} {_of(f'ipv{version}_addr', has_ranges=True)}"
        yield from _add(f"d{version}_{profile}", _ranges(ranges, size))
    yield f"add chain {TABLE} p_{profile}"
    yield from _rules(f"p_{profile}", profile_chain(profile))


def _rules(chain: str, rules: Iterable[Rule]) -> Iterator[str]:
    return (f"add rule {TABLE} {chain} {text(rule)}" for rule in rules)


def _element(host: Network, element: Element) -> str:
    return f'{host.address} comment "{element.device}" : goto p_{element.profile}'


def _hosts(hosts: Set[Network], size: int) -> list[str]:
    return [host.address for host in sorted(hosts) if len(host.packed) == size]


def _ranges(ranges: Ranges, size: int) -> list[str]:
    return [_range(one, size) for one in ranges]


def _range(addresses: Range, size: int) -> str:
    first, last = (str(ipaddress.ip_address(number.to_bytes(size))) for number in addresses)
    return first if first == last else f"{first}-{last}"


def _add(name: str, elements: list[str]) -> Iterator[str]:
    for some in _chunks(elements):
        yield f"add element {TABLE} {name} {{ {', '.join(some)} }}"


def _chunks(elements: list[str]) -> Iterable[list[str]]:
    return (elements[at : at + _CHUNK] for at in range(0, len(elements), _CHUNK))


def interface(name: str) -> str:
    """The name of an interface as it is. UserError if the packet filter cannot have it."""
    if not _INTERFACE.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be the name of an interface in the packet filter: it may have letters, digits and _.=+-"
            " only. Rename the interface"
        )
    return name
