"""Decodes dumps of links, qdiscs, classes and filters by pure functions from bytes to values.

Sources: as in codec.py, and tc_fill_qdisc, htb_dump_class, fl_dump, mall_dump and tcf_mirred_dump of net/sched/ in
Linux. Malformed bytes raise ValueError.
"""

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from socket import ntohs
from sys import byteorder
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import DEVICE_PREFS, EXEMPT_PREFS, MAJOR, PLACES, Filter, HtbClass, Leaf, Passed, Pref
from wgsyncd.dataplane.netlink import U32, attributes, number
from wgsyncd.dataplane.tc import codec

_CLASS_HANDLES = 0xFFFF0000
_PREFS = {
    pref: codec.ETH_P_IP if size == 4 else codec.ETH_P_IPV6
    for prefs in (DEVICE_PREFS, EXEMPT_PREFS) for size, pref in prefs.items()
}  # fmt: skip
_FQ = (codec.FQ_FLOWS, codec.FQ_LIMIT, codec.FQ_MEMORY, codec.FQ_TARGET, codec.FQ_INTERVAL)
_HARMLESS = {codec.FLOWER_CLASSID, codec.FLOWER_ETH_TYPE, codec.FLOWER_FLAGS, codec.FLOWER_IN_HW_COUNT}


class LinkFound(NamedTuple):
    """One network interface."""

    ifindex: int
    name: str
    kind: str  # of rtnetlink, such as "ifb". "": the kernel names none
    is_up: bool
    queue: int  # packets


class QdiscFound(NamedTuple):
    """One queueing discipline."""

    ifindex: int  # of its link
    handle: int
    parent: int
    kind: str
    options: bytes
    has_block: bool  # it shares its filters with other links
    passed: Passed = Passed()  # not read of leaves


class FilterFound(NamedTuple):
    """One filter. ``handle`` 0: it names only a pref."""

    handle: int
    pref: int
    protocol: int
    kind: str
    chain: int
    options: bytes


def link(payload: bytes) -> LinkFound:
    _, _, index, flags, _ = _unpack(codec.IFINFOMSG, payload)
    name, kind, queue = "", "", 0
    for one, start, end in attributes(payload, codec.IFINFOMSG.size, len(payload)):
        if one == codec.IFLA_IFNAME:
            name = _text(payload[start:end])
        elif one == codec.IFLA_TXQLEN:
            queue = number(U32, payload, start, end)
        elif one == codec.IFLA_LINKINFO:
            found = {key: payload[a:b] for key, a, b in attributes(payload, start, end)}
            kind = _text(found.get(codec.IFLA_INFO_KIND, b""))
    return LinkFound(index, name, kind, bool(flags & codec.IFF_UP), queue)


def qdisc(payload: bytes) -> QdiscFound:
    _, _, _, index, handle, parent, _ = _unpack(codec.TCMSG, payload)
    if parent >> 16 == MAJOR:  # a leaf: there are thousands of them
        kind, options = _first_two(payload)
        return QdiscFound(index, handle, parent, kind, options, False)
    found = _attributes(payload)
    blocks = {codec.TCA_INGRESS_BLOCK, codec.TCA_EGRESS_BLOCK} & found.keys()
    options = found.get(codec.TCA_OPTIONS, b"")
    passed = _passed(found.get(codec.TCA_STATS2, b""))
    return QdiscFound(index, handle, parent, _text(found.get(codec.TCA_KIND, b"")), options, bool(blocks), passed)


def passed_by_trees(qdiscs: Iterable[QdiscFound], links: Mapping[int, str]) -> dict[Direction, Passed]:
    """What the roots of all trees of a direction have sent and dropped. ``links``: names by index."""
    found = dict[Direction, Passed]()
    for one in qdiscs:
        if one.parent == codec.TC_H_ROOT and (place := PLACES.get(links.get(one.ifindex, ""))):
            before = found.get(place[0], Passed())
            found[place[0]] = Passed(before.sent + one.passed.sent, before.dropped + one.passed.dropped)
    return found


def _passed(stats: bytes) -> Passed:
    found = _nested(stats)
    sent, queue = found.get(codec.STATS_BASIC, b""), found.get(codec.STATS_QUEUE, b"")
    if len(sent) < codec.BASIC.size or len(queue) < codec.QUEUE_STATS.size:
        return Passed()
    return Passed(int(codec.BASIC.unpack_from(sent)[0]), int(codec.QUEUE_STATS.unpack_from(queue)[2]))


def is_our_root(one: QdiscFound) -> bool:
    """Whether a root qdisc is wgsyncd's: an HTB with its handle that sends at once what no filter names."""
    found = _nested(one.options)
    init = found.get(codec.TCA_HTB_INIT, b"")
    if one.kind != "htb" or one.handle != codec.ROOT_HANDLE or len(init) < codec.HTB_GLOB.size:
        return False
    return int(codec.HTB_GLOB.unpack_from(init)[2]) == 0


def leaf(one: QdiscFound) -> Leaf:
    """The leaf of a class. One that is no fq_codel has no flows."""
    minor, handle = one.parent & 0xFFFF, one.handle >> 16
    if one.kind != "fq_codel":
        return Leaf(minor, handle, 0)
    return Leaf(minor, handle, *_fq_codel(one.options))


@lru_cache(maxsize=4096)  # most leaves have the same few options
def _fq_codel(options: bytes) -> tuple[int, int, int, int, int]:
    values = {key: int(U32.unpack(value)[0]) for key, value in _nested(options).items() if len(value) == U32.size}
    flows, limit, memory, target, interval = (values.get(key, 0) for key in _FQ)
    return flows, limit, memory, target, interval


def classes(payloads: Iterable[bytes]) -> dict[int, HtbClass]:
    """The classes of RTM_NEWTCLASS messages of a tree, by minor number."""
    found = {}
    for payload in payloads:
        _, _, _, _, handle, parent, _ = _unpack(codec.TCMSG, payload)
        if handle & _CLASS_HANDLES != codec.ROOT_HANDLE:
            continue
        above = parent & 0xFFFF if parent & _CLASS_HANDLES == codec.ROOT_HANDLE else 0  # a top class says ffff:ffff
        one = HtbClass(handle & 0xFFFF, above, *_htb(_first_two(payload)[1]))
        found[one.minor] = one
    return found


@lru_cache(maxsize=4096)  # most classes have the same few options
def _htb(options: bytes) -> tuple[int, int, int, int, int]:
    values = _unpack(codec.HTB_OPT, _nested(options).get(codec.TCA_HTB_PARMS, b""))
    return values[5], values[11], values[12], values[13], values[14]


@lru_cache(maxsize=1 << 16)  # a filter's message does not change, so thousands of them are decoded once
def filter_of(payload: bytes) -> FilterFound:
    return counting_filter(payload)


def counting_filter(payload: bytes) -> FilterFound:
    """A filter with an action. Its message counts packets, so it is another one each time."""
    _, _, _, _, handle, _, info = _unpack(codec.TCMSG, payload)
    found = _attributes(payload)
    chain = int.from_bytes(found.get(codec.TCA_CHAIN, b""), byteorder)
    kind = _text(found.get(codec.TCA_KIND, b""))
    return FilterFound(handle, info >> 16, ntohs(info & 0xFFFF), kind, chain, found.get(codec.TCA_OPTIONS, b""))


def filters(payloads: Iterable[bytes], direction: Direction) -> tuple[tuple[Filter, ...], frozenset[Pref]]:
    """The flower filters under the prefs of a tree, and the prefs where something else stands."""
    found, foreign = [], set()
    for payload in payloads:
        one = filter_of(payload)
        if one.chain:  # no filter of wgsyncd leads there
            continue
        if one.kind != "flower" or _PREFS.get(one.pref) != one.protocol:
            foreign.add(Pref(one.pref, one.protocol, one.kind))
        elif one.handle:
            found.append(_flower(one, direction))
    return tuple(found), frozenset(foreign)


@lru_cache(maxsize=1 << 16)
def _flower(one: FilterFound, direction: Direction) -> Filter:
    keys = _nested(one.options)
    minor = int.from_bytes(keys.get(codec.FLOWER_CLASSID, b""), byteorder) & 0xFFFF
    is_device = one.pref in DEVICE_PREFS.values()
    network = _network(keys, one.protocol, is_device == (direction is Direction.DOWN))
    if is_device and network is not None and network.prefixlen != len(network.packed) * 8:
        network = None
    return Filter(one.pref, one.handle, network, minor)


def _network(keys: Mapping[int, bytes], protocol: int, is_destination: bool) -> Network | None:
    """The one network that a flower filter looks for. None: it looks for something else."""
    size = 4 if protocol == codec.ETH_P_IP else 16
    key = codec.FLOWER_KEYS[size, is_destination]
    if not keys.keys() - _HARMLESS - {key, key + 1}:
        address, mask = keys.get(key, bytes(size)), keys.get(key + 1, bytes(size))
        bits = int.from_bytes(mask)
        length = bits.bit_count()
        if len(address) == len(mask) == size and bits == (1 << length) - 1 << size * 8 - length:
            return Network(address, length)
    return None


def redirect(one: FilterFound) -> int | None:
    """The index of the link that wgsyncd's redirect leads to. 0: it is gone. None: the filter is another one."""
    place = (one.pref, one.handle, one.kind, one.chain)
    if place != (codec.REDIRECT_PREF, codec.REDIRECT_HANDLE, "matchall", 0):
        return None
    return _target(_nested(one.options).get(codec.MATCHALL_ACT, b""))


def detour(one: FilterFound, direction: Direction) -> tuple[Network, int] | None:
    """The address of a detour, and the index of the link where it leads. None: the filter is another one."""
    if one.kind != "flower" or one.chain or codec.DETOUR_PREFS.get(one.protocol) != one.pref:
        return None
    keys = dict(_nested(one.options))
    target = _target(keys.pop(codec.FLOWER_ACT, b""))
    network = _network(keys, one.protocol, direction is Direction.DOWN)
    if target is None or network is None or network.prefixlen != len(network.packed) * 8:
        return None
    return network, target


def _target(value: bytes) -> int | None:
    """The index of the link where a filter's only action redirects to."""
    actions = _nested(value)
    first = _nested(actions.get(1, b""))
    if len(actions) != 1 or _text(first.get(codec.TCA_ACT_KIND, b"")) != "mirred":
        return None
    values = _unpack(codec.MIRRED, _nested(first.get(codec.TCA_ACT_OPTIONS, b"")).get(codec.TCA_MIRRED_PARMS, b""))
    return int(values[6]) if values[5] == codec.TCA_EGRESS_REDIR else None


def is_leaf(one: QdiscFound) -> bool:
    """Whether a qdisc is the leaf of a class of a tree."""
    return one.parent >> 16 == MAJOR and bool(one.parent & 0xFFFF)


def _first_two(payload: bytes) -> tuple[str, bytes]:
    """The kind and the options of an object. The kernel writes them before the counters, which differ each time."""
    kind = ""
    for one, start, end in attributes(payload, codec.TCMSG.size, len(payload)):
        if one == codec.TCA_KIND:
            kind = _text(payload[start:end])
        elif one == codec.TCA_OPTIONS:
            return kind, payload[start:end]
    return kind, b""


def _attributes(payload: bytes) -> Mapping[int, bytes]:
    return {kind: payload[start:end] for kind, start, end in attributes(payload, codec.TCMSG.size, len(payload))}


def _nested(value: bytes) -> Mapping[int, bytes]:
    return {kind: value[start:end] for kind, start, end in attributes(value, 0, len(value))}


def _unpack(form: struct.Struct, payload: bytes) -> tuple[int, ...]:
    try:
        values: tuple[int, ...] = form.unpack_from(payload)
    except struct.error:
        raise ValueError(f"netlink structure of {len(payload)} bytes, not {form.size}") from None
    return values


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
