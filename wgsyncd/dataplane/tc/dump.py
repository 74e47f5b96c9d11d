"""Decodes dumps of links, qdiscs, classes and filters by pure functions from bytes to values.

Sources: as in codec.py, and tc_fill_qdisc, htb_dump_class, fl_dump, mall_dump and tcf_mirred_dump of net/sched/ in
Linux. Malformed bytes raise ValueError.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from socket import ntohs
from sys import byteorder
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import DEVICE_PREFS, EXEMPT_PREFS, MAJOR, PLACES, Filter, HtbClass, Leaf, Passed, Pref
from wgsyncd.dataplane.netlink import ATTR, NLA_TYPE_MASK, U16, U32, attributes, number
from wgsyncd.dataplane.tc import codec

_CLASS_HANDLES = 0xFFFF0000
_PREFS = {
    pref: codec.ETH_P_IP if size == 4 else codec.ETH_P_IPV6
    for prefs in (DEVICE_PREFS, EXEMPT_PREFS) for size, pref in prefs.items()
}  # fmt: skip
_FQ = (codec.FQ_FLOWS, codec.FQ_LIMIT, codec.FQ_MEMORY, codec.FQ_TARGET, codec.FQ_INTERVAL)
SPARE = 1000  # objects that may be remembered, besides twice as many as the kernel has
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
    passed: Passed = Passed()


class FilterFound(NamedTuple):
    """One filter. ``handle`` 0: it names only a pref."""

    handle: int
    pref: int
    protocol: int
    kind: str
    chain: int
    options: bytes


def link(payload: bytes) -> LinkFound:
    _, _, index, flags, _ = unpack(codec.IFINFOMSG, payload)
    name, kind, queue = "", "", 0
    for one, start, end in attributes(payload, codec.IFINFOMSG.size, len(payload)):
        if one == codec.IFLA_IFNAME:
            name = text(payload[start:end])
        elif one == codec.IFLA_TXQLEN:
            queue = number(U32, payload, start, end)
        elif one == codec.IFLA_LINKINFO:
            found = {key: payload[a:b] for key, a, b in attributes(payload, start, end)}
            kind = text(found.get(codec.IFLA_INFO_KIND, b""))
    return LinkFound(index, name, kind, bool(flags & codec.IFF_UP), queue)


def qdiscs(payloads: Iterable[bytes]) -> tuple[list[QdiscFound], Mapping[int, Mapping[int, Leaf]]]:
    """The qdiscs that are no leaves of a tree, and the leaves by the index of their link and then by minor."""
    found, leaves = list[QdiscFound](), defaultdict[int, dict[int, Leaf]](dict)
    for payload in payloads:
        if (placed := _leaf(_before_counters(payload))) is None:
            found.append(_qdisc(payload))
        else:
            index, one = placed
            leaves[index][one.minor] = one
    return found, leaves


def _qdisc(payload: bytes) -> QdiscFound:
    _, _, _, index, handle, parent, _ = unpack(codec.TCMSG, payload)
    found = _attributes(payload)
    blocks = {codec.TCA_INGRESS_BLOCK, codec.TCA_EGRESS_BLOCK} & found.keys()
    options = found.get(codec.TCA_OPTIONS, b"")
    passed = _passed(found.get(codec.TCA_STATS2, b""))
    return QdiscFound(index, handle, parent, text(found.get(codec.TCA_KIND, b"")), options, bool(blocks), passed)


def passed_by_trees(qdiscs: Iterable[QdiscFound], links: Mapping[int, str]) -> dict[Direction, Passed]:
    """What the roots of all trees of a direction have sent and dropped. ``links``: names by index."""
    found = dict[Direction, Passed]()
    for one in qdiscs:
        if one.parent == codec.TC_H_ROOT and (place := PLACES.get(links.get(one.ifindex, ""))):
            before = found.get(place[0], Passed())
            found[place[0]] = Passed(before.sent + one.passed.sent, before.dropped + one.passed.dropped)
    return found


def _passed(stats: bytes) -> Passed:
    found = nested(stats)
    sent, queue = found.get(codec.STATS_BASIC, b""), found.get(codec.STATS_QUEUE, b"")
    if len(sent) < codec.BASIC.size or len(queue) < codec.QUEUE_STATS.size:
        return Passed()
    return Passed(int(codec.BASIC.unpack_from(sent)[0]), int(codec.QUEUE_STATS.unpack_from(queue)[2]))


def is_our_root(one: QdiscFound) -> bool:
    """Whether a root qdisc is wgsyncd's: an HTB with its handle that sends at once what no filter names."""
    found = nested(one.options)
    init = found.get(codec.TCA_HTB_INIT, b"")
    if one.kind != "htb" or one.handle != codec.ROOT_HANDLE or len(init) < codec.HTB_GLOB.size:
        return False
    return int(codec.HTB_GLOB.unpack_from(init)[2]) == 0


@cache
def _leaf(payload: bytes) -> tuple[int, Leaf] | None:
    """The index of a link, and the leaf of one of its classes. One that is no fq_codel has no flows."""
    _, _, _, index, handle, parent, _ = unpack(codec.TCMSG, payload)
    if parent >> 16 != MAJOR or not parent & 0xFFFF:
        return None
    found = _attributes(payload)
    flows = limit = memory = target = interval = 0
    if text(found.get(codec.TCA_KIND, b"")) == "fq_codel":
        values = {key: int(U32.unpack(value)[0]) for key, value in nested(found.get(codec.TCA_OPTIONS, b"")).items()
                  if len(value) == U32.size}  # fmt: skip
        flows, limit, memory, target, interval = (values.get(key, 0) for key in _FQ)
    return index, Leaf(parent & 0xFFFF, handle >> 16, flows, limit, memory, target, interval)


def classes(payloads: Iterable[bytes]) -> dict[int, HtbClass]:
    """The classes of RTM_NEWTCLASS messages of a tree, by minor number."""
    return {one.minor: one for payload in payloads if (one := _class(_before_counters(payload))) is not None}


@cache
def _class(payload: bytes) -> HtbClass | None:
    _, _, _, _, handle, parent, _ = unpack(codec.TCMSG, payload)
    if handle & _CLASS_HANDLES != codec.ROOT_HANDLE:
        return None
    above = parent & 0xFFFF if parent & _CLASS_HANDLES == codec.ROOT_HANDLE else 0  # a top class says ffff:ffff
    options = nested(_attributes(payload).get(codec.TCA_OPTIONS, b""))
    values = unpack(codec.HTB_OPT, options.get(codec.TCA_HTB_PARMS, b""))
    return HtbClass(handle & 0xFFFF, above, values[5], *values[11:15])


def filter_of(payload: bytes) -> FilterFound:
    _, _, _, _, handle, _, info = unpack(codec.TCMSG, payload)
    found = _attributes(payload)
    chain = int.from_bytes(found.get(codec.TCA_CHAIN, b""), byteorder)
    kind = text(found.get(codec.TCA_KIND, b""))
    return FilterFound(handle, info >> 16, ntohs(info & 0xFFFF), kind, chain, found.get(codec.TCA_OPTIONS, b""))


def filters(payloads: Iterable[bytes], direction: Direction) -> tuple[tuple[Filter, ...], frozenset[Pref]]:
    """The flower filters under the prefs of a tree, and the prefs where something else stands."""
    found = [_of_tree(payload, direction) for payload in payloads]
    return tuple(one for one in found if isinstance(one, Filter)), frozenset(
        one for one in found if isinstance(one, Pref)
    )


@cache  # A filter without an action counts nothing, so its message does not change.
def _of_tree(payload: bytes, direction: Direction) -> Filter | Pref | None:
    """A filter of a tree. None: it leads to no class by itself, as in a chain that no filter of wgsyncd leads to."""
    one = filter_of(payload)
    if one.chain:
        return None
    if one.kind != "flower" or _PREFS.get(one.pref) != one.protocol:
        return Pref(one.pref, one.protocol, one.kind)
    if not one.handle:
        return None
    keys = nested(one.options)
    minor = int.from_bytes(keys.get(codec.FLOWER_CLASSID, b""), byteorder) & 0xFFFF
    is_device = one.pref in DEVICE_PREFS.values()
    network = network_of(keys, one.protocol, is_device == (direction is Direction.DOWN))
    if is_device and network is not None and network.prefixlen != len(network.packed) * 8:
        network = None
    return Filter(one.pref, one.handle, network, minor)


def network_of(keys: Mapping[int, bytes], protocol: int, is_destination: bool) -> Network | None:
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


def forget_old(objects: int) -> None:
    """Forget all that was decoded, if most of it is gone from the kernel, which has so many ``objects``."""
    known = _leaf, _class, _of_tree
    if sum(one.cache_info().currsize for one in known) > 2 * objects + SPARE:
        for one in known:
            one.cache_clear()


def _before_counters(payload: bytes) -> bytes:
    """A qdisc or a class up to the end of its options. The kernel writes the counters after them.

    So what has not changed since an earlier dump is decoded once.
    """
    try:
        (size,) = U16.unpack_from(payload, codec.TCMSG.size)  # of its kind, the first attribute
        at = codec.TCMSG.size + ((size + 3) & ~3)
        size, kind = ATTR.unpack_from(payload, at)
    except struct.error:
        return payload
    return payload[: at + size] if kind & NLA_TYPE_MASK == codec.TCA_OPTIONS else payload


def _attributes(payload: bytes) -> Mapping[int, bytes]:
    return {kind: payload[start:end] for kind, start, end in attributes(payload, codec.TCMSG.size, len(payload))}


def nested(value: bytes) -> Mapping[int, bytes]:
    return {kind: value[start:end] for kind, start, end in attributes(value, 0, len(value))}


def unpack(form: struct.Struct, payload: bytes) -> tuple[int, ...]:
    try:
        values: tuple[int, ...] = form.unpack_from(payload)
    except struct.error:
        raise ValueError(f"netlink structure of {len(payload)} bytes, not {form.size}") from None
    return values


def text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
