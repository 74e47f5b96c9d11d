"""The chains of the table, each statement as nft(8) reads it and as it shows it in JSON.

Every packet of both directions is judged by the original addresses of its flow, as connection tracking knows them. No
rule lets established flows pass. So access ends with the next packet, and errors of ICMP belong to their flow.
Sources: nft(8), libnftables-json(5).
"""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

FAMILY, NAME = "inet", "wgsyncd"
TABLE = f"{FAMILY} {NAME}"
HASH = "HASH"  # stands for the name of any profile
ACCEPTED = "accepted"  # the counter of all that is let through


class Statement(NamedTuple):
    text: str
    shown: Any  # the decoded JSON


Rule = tuple[Statement, ...]


def _ct(key: str, right: str, shown: object | None = None) -> Statement:
    left = {"ct": {"key": key, "dir": "original"}}
    return Statement(f"ct original {key} {right}", _match(left, right if shown is None else shown))


def _match(left: object, right: object) -> object:
    return {"match": {"op": "==", "left": left, "right": right}}


def _meta(key: str, right: str, shown: object | None = None) -> Statement:
    return Statement(f"{_META_TEXT.get(key, key)} {right}", _match({"meta": {"key": key}}, shown or right))


_META_TEXT = {"l4proto": "meta l4proto", "nfproto": "meta nfproto"}
_ACCEPT = Statement("accept", {"accept": None})
_DROP = Statement("drop", {"drop": None})
_REJECT = Statement(
    "reject with icmpx type admin-prohibited", {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}
)
_TCP_OR_UDP = _meta("l4proto", "{ tcp, udp }", {"set": ["tcp", "udp"]})
_DNS_PORT = _ct("proto-dst", "53", 53)
_IN, _OUT = _meta("iifname", "@tunnels"), _meta("oifname", "@tunnels")
_BEGINS = Statement("ct direction original", _match({"ct": {"key": "direction"}}, "original"))


def refused_counter(interface: str) -> str:
    """The name of the counter of what is refused from or to an interface. Any name of an interface is hexadecimal."""
    return f"refused_{interface.encode().hex()}"


def counters(tunnels: Iterable[str]) -> list[str]:
    """The names of all counters. They are read by themselves, which is cheap however many devices there are."""
    return [ACCEPTED, *map(refused_counter, sorted(tunnels))]


def _counter(name: str) -> Statement:
    return Statement(f"counter name {name}", {"counter": name})


def _goto(chain: str) -> Statement:
    return Statement(f"goto {chain}", {"goto": {"target": chain}})


def _vmap(key: str, name: str) -> Statement:
    shown = {"vmap": {"key": {"ct": {"key": key, "dir": "original"}}, "data": f"@{name}"}}
    return Statement(f"ct original {key} vmap @{name}", shown)


def profile_chain(profile: str) -> tuple[Rule, ...]:
    return (
        *((_ct(f"{ip} daddr", f"@dns{v}"), _TCP_OR_UDP, _DNS_PORT, _counter(ACCEPTED), _ACCEPT) for ip, v in _FAMILIES),
        *((_ct(f"{ip} daddr", f"@d{v}_{profile}"), _counter(ACCEPTED), _ACCEPT) for ip, v in _FAMILIES),
        (_goto("refuse"),),
    )


_FAMILIES = (("ip", 4), ("ip6", 6))
_ENDS = ("iifname", "oifname")


def refuse_chain(tunnels: Iterable[str], *, rejects: bool) -> tuple[Rule, ...]:
    """The rules that refuse. A packet counts for the tunnel that it comes from, else for the one that it goes to."""
    names, ends = sorted(tunnels), _REJECT if rejects else _DROP
    counting = [(_meta(key, f'"{one}"', one), _counter(refused_counter(one)), ends) for key in _ENDS for one in names]
    return (*counting, (ends,))


def fixed_chains(tunnels: Iterable[str], *, rejects: bool) -> dict[str, tuple[Rule, ...]]:
    """The rules of the chains that no profile owns. A chain comes before the chains that go to it."""
    return {
        "refuse": refuse_chain(tunnels, rejects=rejects),
        "others": (
            *((_ct(f"{ip} saddr", f"@free{v}"), _counter(ACCEPTED), _ACCEPT) for ip, v in _FAMILIES),
            *((_ct(f"{ip} daddr", f"@sites{v}"), _counter(ACCEPTED), _ACCEPT) for ip, v in _FAMILIES),
            (_goto("refuse"),),
        ),
        "judge": (
            *((_meta("nfproto", f"ipv{v}"), _vmap(f"{ip} saddr", f"devices{v}")) for ip, v in _FAMILIES),
            (_goto("others"),),
        ),
    }


def hooks(*, judges_local: bool) -> dict[str, tuple[Rule, ...]]:
    """The rules of the chains that the kernel calls. A chain has the name of its hook."""
    forward: tuple[Rule, ...] = ((_IN, _goto("judge")), (_OUT, _BEGINS, _goto("others")), (_OUT, _goto("judge")))
    return {"forward": forward, **({"input": ((_IN, _goto("judge")),)} if judges_local else {})}


# Sets that every table has, by name: type and whether they have ranges. The elements of the maps are the devices.
SETS: dict[str, tuple[str, bool]] = {
    "tunnels": ("ifname", False),
    **{f"dns{v}": (f"ipv{v}_addr", False) for v in (4, 6)},
    **{f"{name}{v}": (f"ipv{v}_addr", True) for name in ("free", "sites") for v in (4, 6)},
}
MAPS = {"devices4": "ipv4_addr", "devices6": "ipv6_addr"}


def text(rule: Rule) -> str:
    """A rule as nft(8) reads it."""
    return " ".join(statement.text for statement in rule)


def skeleton(tunnels: Iterable[str], *, judges_local: bool, rejects: bool) -> frozenset[str]:
    """All of the table but profiles, elements and what is counted, one line for each part."""
    fixed = fixed_chains(tunnels, rejects=rejects)
    parts: list[object] = [["table", {}], *(["counter", name, {}] for name in counters(tunnels))]
    parts += [_set_part("set", name, kind, has_ranges=ranges) for name, (kind, ranges) in SETS.items()]
    parts += [_set_part("map", name, kind, has_ranges=False) for name, kind in MAPS.items()]
    parts += [["chain", name, {}] for name in fixed]
    parts += [
        ["chain", name, {"type": "filter", "hook": name, "prio": 0, "policy": "accept"}]
        for name in hooks(judges_local=judges_local)
    ]
    rules = {**fixed, **hooks(judges_local=judges_local)}
    return frozenset(map(line, parts)) | frozenset(_rule_lines(rules))


def profile_skeleton() -> frozenset[str]:
    """The same for the parts of a profile, whose name is :data:`HASH`."""
    parts: list[object] = [_set_part("set", f"d{v}_{HASH}", f"ipv{v}_addr", has_ranges=True) for v in (4, 6)]
    parts.append(["chain", f"p_{HASH}", {}])
    return frozenset(map(line, parts)) | frozenset(_rule_lines({f"p_{HASH}": profile_chain(HASH)}))


def _set_part(what: str, name: str, kind: str, *, has_ranges: bool) -> object:
    about: dict[str, object] = {"type": kind}
    if has_ranges:
        about["flags"] = ["interval"]
    if what == "map":
        about["map"] = "verdict"
    return [what, name, about]


def _rule_lines(chains: dict[str, tuple[Rule, ...]]) -> Iterable[str]:
    for chain, rules in chains.items():
        for place, rule in enumerate(rules):
            yield line(["rule", chain, place, [one.shown for one in rule]])


def line(part: object) -> str:
    """A part of the table as one text that is equal for equal parts."""
    return json.dumps(part, sort_keys=True)
