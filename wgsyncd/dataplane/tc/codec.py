"""Encodes the steps of a shaping plan as rtnetlink messages, by pure functions from values to bytes.

Sources: uapi/linux/rtnetlink.h, if_link.h, pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h. Numbers use the machine's byte
order, and addresses use network order. Protocols inside ``tcm_info`` use network order, too.
"""

from collections.abc import Mapping
from socket import htons
from struct import Struct
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import Action, Clsact, Detour, Link, Redirect, RootQdisc, Step
from wgsyncd.core.shaping.tree import DEVICE_PREFS, MAJOR, QUEUE, Filter, HtbClass, Leaf, Pref, link_name
from wgsyncd.dataplane.netlink import U32, attr

# uapi/linux/rtnetlink.h
NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWQDISC, DELQDISC, GETQDISC = 36, 37, 38
NEWTCLASS, DELTCLASS, GETTCLASS = 40, 41, 42
NEWTFILTER, DELTFILTER, GETTFILTER = 44, 45, 46
TCA_KIND, TCA_OPTIONS, TCA_STATS2, TCA_CHAIN, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK = 1, 2, 7, 11, 13, 14
TCMSG = Struct("=BBHiIII")  # family, padding, padding, index, handle, parent, info
# uapi/linux/if_link.h, and struct ifinfomsg of rtnetlink.h: family, padding, type, index, flags, changed flags
IFINFOMSG = Struct("=BxHiII")
IFLA_IFNAME, IFLA_TXQLEN, IFLA_LINKINFO, IFLA_EXT_MASK, IFLA_INFO_KIND = 3, 13, 18, 29, 1
IFF_UP = 1  # uapi/linux/if.h
RTEXT_FILTER_SKIP_STATS = 8
# uapi/linux/netlink.h
NLM_F_EXCL, NLM_F_CREATE = 0x200, 0x400
# uapi/linux/pkt_sched.h
TC_H_ROOT, TC_H_CLSACT = 0xFFFFFFFF, 0xFFFFFFF1
INGRESS_HANDLE = 0xFFFF0000
HOOKS = {Direction.DOWN: 0xFFFFFFF3, Direction.UP: 0xFFFFFFF2}  # TC_H_MIN_EGRESS and TC_H_MIN_INGRESS of clsact
ROOT_HANDLE = MAJOR << 16
TCA_HTB_PARMS, TCA_HTB_INIT = 1, 2
HTB_GLOB = Struct("=IIIII")  # version, rate2quantum, defcls, debug, direct_pkts
HTB_OPT = Struct("=BBHhHIBBHhHIIIIII")  # two tc_ratespec, then buffer, cbuffer, quantum, level, prio
FQ_TARGET, FQ_LIMIT, FQ_INTERVAL, FQ_FLOWS, FQ_MEMORY = 1, 2, 3, 5, 9  # TCA_FQ_CODEL_*
# uapi/linux/gen_stats.h: bytes, and packets waiting, bytes waiting, drops
STATS_BASIC, STATS_QUEUE, BASIC, QUEUE_STATS = 1, 3, Struct("=Q"), Struct("=III")
# uapi/linux/pkt_cls.h
FLOWER_CLASSID, FLOWER_ACT, FLOWER_ETH_TYPE, FLOWER_FLAGS, FLOWER_IN_HW_COUNT = 1, 3, 8, 22, 86
FLOWER_KEYS = {(4, False): 10, (4, True): 12, (16, False): 14, (16, True): 16}  # by bytes, and whether destination
MATCHALL_ACT, TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_ACT_STATS = 2, 1, 2, 4
TCA_MIRRED_TM, TCA_MIRRED_PARMS, TC_ACT_STOLEN, TCA_EGRESS_REDIR = 1, 2, 4, 1
MIRRED = Struct("=IIiiiiI")  # index, capab, action, refcnt, bindcnt, eaction, ifindex
_SKIP_HW = 1  # TCA_CLS_FLAGS_SKIP_HW
_ETHERNET = 1  # TC_LINKLAYER_ETHERNET: HTB needs no rate tables then (net/sched/sch_htb.c)
REDIRECT_PREF, REDIRECT_HANDLE = 63335, 1
ETH_P_IP, ETH_P_IPV6, ETH_P_ALL = 0x0800, 0x86DD, 0x0003  # uapi/linux/if_ether.h
DETOUR_PREFS = {ETH_P_IP: 63333, ETH_P_IPV6: 63334}

_FLAGS = {Action.ADD: NLM_F_CREATE | NLM_F_EXCL, Action.CHANGE: 0, Action.DELETE: 0}


class Request(NamedTuple):
    """One message for the kernel, without its header."""

    kind: int
    flags: int  # besides NLM_F_REQUEST
    payload: bytes


def get_links() -> bytes:
    """The payload of an RTM_GETLINK dump without the counters of the links."""
    return IFINFOMSG.pack(0, 0, 0, 0, 0) + attr(IFLA_EXT_MASK, U32.pack(RTEXT_FILTER_SKIP_STATS))


def get_objects(index: int = 0, parent: int = 0) -> bytes:
    """The payload of a dump of qdiscs, classes or filters. The kernel dumps the qdiscs of all links."""
    return TCMSG.pack(0, 0, 0, index, 0, parent, 0)


def encode(step: Step, index: int, interfaces: Mapping[str, int]) -> Request:
    """The message of a step. ``index``: of the direction's link. ``interfaces``: the index of each interface."""
    action, direction, thing, _ = step
    flags = _FLAGS[action]
    match thing:
        case Link():
            return _link(action, flags, link_name(direction or Direction.DOWN, step.number), index)
        case Clsact(interface):
            kind = DELQDISC if action is Action.DELETE else NEWQDISC
            return _tc(kind, flags, interfaces[interface], INGRESS_HANDLE, TC_H_CLSACT, 0, _kind("clsact"))
        case Redirect(interface):
            return _redirect(action, flags, interfaces[interface], HOOKS[direction or Direction.DOWN], index)
        case Detour():
            return _detour(action, flags, interfaces[thing.interface], thing, direction is Direction.DOWN, index)
        case RootQdisc():
            glob = attr(TCA_HTB_INIT, HTB_GLOB.pack(3, 10, 0, 0, 0))
            return _tc(NEWQDISC, flags, index, ROOT_HANDLE, TC_H_ROOT, 0, _kind("htb"), attr(TCA_OPTIONS, glob))
        case HtbClass():
            return _class(action, flags, index, thing)
        case Leaf():
            return _leaf(flags, index, thing)
        case Filter():
            return _filter(action, flags, index, thing, direction is Direction.DOWN)
        case Pref(pref, protocol, kind):
            return _tc(DELTFILTER, 0, index, 0, ROOT_HANDLE, _info(pref, protocol), _kind(kind))


def _tc(kind: int, flags: int, index: int, handle: int, parent: int, info: int, *attributes: bytes) -> Request:
    return Request(kind, flags, TCMSG.pack(0, 0, 0, index, handle, parent, info) + b"".join(attributes))


def _kind(name: str) -> bytes:
    return attr(TCA_KIND, name.encode() + b"\0")


def _info(pref: int, protocol: int) -> int:
    return pref << 16 | htons(protocol)


def _link(action: Action, flags: int, name: str, index: int) -> Request:
    if action is Action.DELETE:
        return Request(DELLINK, flags, IFINFOMSG.pack(0, 0, index, 0, 0))
    known = index if action is Action.CHANGE else 0
    payload = IFINFOMSG.pack(0, 0, known, IFF_UP, IFF_UP) + attr(IFLA_TXQLEN, U32.pack(QUEUE))
    if action is Action.ADD:
        payload += attr(IFLA_IFNAME, name.encode() + b"\0") + attr(IFLA_LINKINFO, attr(IFLA_INFO_KIND, b"ifb\0"))
    return Request(NEWLINK, flags, payload)


def _redirect(action: Action, flags: int, interface: int, hook: int, index: int) -> Request:
    info = _info(REDIRECT_PREF, ETH_P_ALL)
    if action is Action.DELETE:
        return _tc(DELTFILTER, flags, interface, REDIRECT_HANDLE, hook, info, _kind("matchall"))
    options = attr(TCA_OPTIONS, attr(MATCHALL_ACT, _mirred(index)))
    return _tc(NEWTFILTER, flags, interface, REDIRECT_HANDLE, hook, info, _kind("matchall"), options)


def _detour(action: Action, flags: int, interface: int, one: Detour, is_down: bool, index: int) -> Request:
    protocol = ETH_P_IP if len(one.network.packed) == 4 else ETH_P_IPV6
    info, hook = _info(DETOUR_PREFS[protocol], protocol), HOOKS[Direction.DOWN if is_down else Direction.UP]
    if action is Action.DELETE:
        return _tc(DELTFILTER, flags, interface, one.handle, hook, info, _kind("flower"))
    options = attr(FLOWER_FLAGS, U32.pack(_SKIP_HW)) + attr(FLOWER_ETH_TYPE, protocol.to_bytes(2))
    options += _network(one.network, is_down) + attr(FLOWER_ACT, _mirred(index))
    return _tc(NEWTFILTER, flags, interface, one.handle, hook, info, _kind("flower"), attr(TCA_OPTIONS, options))


def _mirred(index: int) -> bytes:
    mirred = attr(TCA_MIRRED_PARMS, MIRRED.pack(0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, index))
    return attr(1, attr(TCA_ACT_KIND, b"mirred\0") + attr(TCA_ACT_OPTIONS, mirred))


def _class(action: Action, flags: int, index: int, one: HtbClass) -> Request:
    handle = ROOT_HANDLE | one.minor
    if action is Action.DELETE:
        return _tc(DELTCLASS, flags, index, handle, 0, 0)
    rate = (0, _ETHERNET, 0, -1, 0, one.rate)
    ceil = (0, _ETHERNET, 0, -1, 0, one.ceil)
    params = HTB_OPT.pack(*rate, *ceil, one.buffer, one.cbuffer, one.quantum, 0, 0)
    options = attr(TCA_OPTIONS, attr(TCA_HTB_PARMS, params))
    return _tc(NEWTCLASS, flags, index, handle, ROOT_HANDLE | one.parent, 0, _kind("htb"), options)


def _leaf(flags: int, index: int, one: Leaf) -> Request:
    values = [(FQ_TARGET, one.target + 1), (FQ_LIMIT, one.limit), (FQ_INTERVAL, one.interval + 1),
              (FQ_MEMORY, one.memory)]  # fmt: skip
    if flags:  # The kernel refuses a change of flows, even to the same number.
        values.append((FQ_FLOWS, one.flows))
    options = b"".join(attr(kind, U32.pack(value)) for kind, value in values)
    parent = ROOT_HANDLE | one.minor
    return _tc(NEWQDISC, flags, index, one.handle << 16, parent, 0, _kind("fq_codel"), attr(TCA_OPTIONS, options))


def _filter(action: Action, flags: int, index: int, one: Filter, is_down: bool) -> Request:
    protocol = ETH_P_IPV6 if one.pref in (6, 11) else ETH_P_IP
    info = _info(one.pref, protocol)
    if action is Action.DELETE or one.network is None:
        return _tc(DELTFILTER, flags, index, one.handle, ROOT_HANDLE, info, _kind("flower"))
    options = attr(FLOWER_CLASSID, U32.pack(ROOT_HANDLE | one.minor)) + attr(FLOWER_FLAGS, U32.pack(_SKIP_HW))
    options += attr(FLOWER_ETH_TYPE, protocol.to_bytes(2)) + _network(one.network, _is_destination(one, is_down))
    return _tc(NEWTFILTER, flags, index, one.handle, ROOT_HANDLE, info, _kind("flower"), attr(TCA_OPTIONS, options))


def _is_destination(one: Filter, is_down: bool) -> bool:
    """Whether the network is where packets go: a device's when it downloads, an exempt one's when a device uploads."""
    return (one.pref in DEVICE_PREFS.values()) == is_down


def _network(network: Network, is_destination: bool) -> bytes:
    size = len(network.packed)
    mask = ((1 << network.prefixlen) - 1 << size * 8 - network.prefixlen).to_bytes(size)
    key = FLOWER_KEYS[size, is_destination]
    return attr(key, network.packed) + attr(key + 1, mask)
