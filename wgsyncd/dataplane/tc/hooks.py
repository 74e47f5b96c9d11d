"""Decodes the filters that lead an interface's traffic to the links: redirects and detours.

Sources: as in dump.py, and tcf_action_dump_1 of net/sched/act_api.c in Linux.
"""

from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import Led
from wgsyncd.dataplane.netlink import attributes
from wgsyncd.dataplane.tc import codec, dump


class Ahead(NamedTuple):
    """Where one of wgsyncd's own filters leads."""

    network: Network | None  # whose traffic it is. None: of the whole interface
    led: Led


_NOTHING_KNOWN: tuple[tuple[int, int, int, int], dict[bytes, Ahead]] = (0, 0, 0, 0), {}


class HookReader:
    """Decodes the filters that lead traffic to the links.

    Their actions count packets, so each dump has other bytes. A detour that differs in nothing else is decoded once.
    """

    def __init__(self) -> None:
        # By direction and length: where the counters are, and what was found by the bytes without them.
        self._known: dict[tuple[Direction, int], tuple[tuple[int, int, int, int], dict[bytes, Ahead]]] = {}

    def read(self, payload: bytes, direction: Direction) -> Ahead | dump.FilterFound:
        """Where a filter leads. One that is not wgsyncd's is returned as it is."""
        (a, b, c, d), known = self._known.get((direction, len(payload)), _NOTHING_KNOWN)
        if (found := known.get(payload[:a] + payload[b:c] + payload[d:])) is not None:
            return found
        one = dump.filter_of(payload)
        ahead = _redirect(one) or _detour(one, direction)
        if ahead is not None and ahead.network is not None:
            a, b, c, d = counters = _counters(payload)
            old, known = self._known.get((direction, len(payload)), _NOTHING_KNOWN)
            if old != counters:
                known = {}
                self._known[direction, len(payload)] = counters, known
            known[payload[:a] + payload[b:c] + payload[d:]] = ahead
        return ahead or one

    def forget_old(self, detours: int) -> None:
        """Forget all detours, if most of the known ones are gone from the kernel, which has so many ``detours``."""
        if sum(len(known) for _, known in self._known.values()) > 2 * detours + dump.SPARE:
            self._known.clear()


def _counters(payload: bytes) -> tuple[int, int, int, int]:
    """Where a filter's first action has its counters, and where it has its ages."""
    action = _inside(payload, codec.TCMSG.size, len(payload), codec.TCA_OPTIONS, codec.FLOWER_ACT, 1)
    stats = _inside(payload, *action, codec.TCA_ACT_STATS)
    return *stats, *_inside(payload, *action, codec.TCA_ACT_OPTIONS, codec.TCA_MIRRED_TM)


def _inside(payload: bytes, start: int, end: int, *kinds: int) -> tuple[int, int]:
    """Where the value of a nested attribute is. One that is missing is empty."""
    for kind in kinds:
        start, end = next(((a, b) for one, a, b in attributes(payload, start, end) if one == kind), (end, end))
    return start, end


def _redirect(one: dump.FilterFound) -> Ahead | None:
    place = (one.pref, one.handle, one.kind, one.chain)
    if place != (codec.REDIRECT_PREF, codec.REDIRECT_HANDLE, "matchall", 0):
        return None
    target = _target(dump.nested(one.options).get(codec.MATCHALL_ACT, b""))
    return None if target is None else Ahead(None, Led(one.handle, target))


def _detour(one: dump.FilterFound, direction: Direction) -> Ahead | None:
    if one.kind != "flower" or one.chain or codec.DETOUR_PREFS.get(one.protocol) != one.pref:
        return None
    keys = dict(dump.nested(one.options))
    target = _target(keys.pop(codec.FLOWER_ACT, b""))
    network = dump.network_of(keys, one.protocol, direction is Direction.DOWN)
    if target is None or network is None or network.prefixlen != len(network.packed) * 8:
        return None
    return Ahead(network, Led(one.handle, target))


def _target(value: bytes) -> int | None:
    """The index of the link where a filter's only action redirects to."""
    actions = dump.nested(value)
    first = dump.nested(actions.get(1, b""))
    if len(actions) != 1 or dump.text(first.get(codec.TCA_ACT_KIND, b"")) != "mirred":
        return None
    values = dump.unpack(
        codec.MIRRED, dump.nested(first.get(codec.TCA_ACT_OPTIONS, b"")).get(codec.TCA_MIRRED_PARMS, b"")
    )
    return int(values[6]) if values[5] == codec.TCA_EGRESS_REDIR else None
