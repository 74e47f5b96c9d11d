"""Steps become rtnetlink messages, and the kernel's dumps become values again.

The kernel writes kind and options of an object as it got them, so a request stands for its own dump. The last test has
bytes that a kernel wrote.
"""

from __future__ import annotations

import struct
from unittest import mock

import pytest

from wgsyncd.core.network import Network, parse_host, parse_network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import Action, Clsact, Detour, Link, Redirect, RootQdisc, Step, Thing
from wgsyncd.core.shaping.tree import Filter, Leaf, Led, Passed, Pref, device_class, leaf, top_class
from wgsyncd.dataplane.netlink import U32, attr
from wgsyncd.dataplane.tc import codec, dump
from wgsyncd.dataplane.tc.hooks import Ahead, HookReader
from wgsyncd.dataplane.tc.kernel import KernelTc

DOWN, UP = Direction.DOWN, Direction.UP
IFB = attr(codec.IFLA_LINKINFO, attr(codec.IFLA_INFO_KIND, b"ifb\0"))
HOST, HOST6, NET = parse_host("10.200.0.5"), parse_host("fd00::5"), parse_network("192.0.2.0/25")


def encode(thing: Thing, action: Action = Action.ADD, direction: Direction | None = DOWN) -> codec.Request:
    return codec.encode(Step(action, direction, thing), 7, {"wg0": 3})


def with_pref(payload: bytes, pref: int) -> bytes:
    return payload[:18] + struct.pack("=H", pref) + payload[20:]


def read_leaf(payload: bytes) -> Leaf:
    others, leaves = dump.qdiscs([payload])
    assert not others
    (found,) = leaves[7].values()
    return found


def read_qdisc(payload: bytes) -> dump.QdiscFound:
    (found,), leaves = dump.qdiscs([payload])
    assert not leaves
    return found


@pytest.mark.parametrize("rate", [8000, 1_250_000, 3_750_000_000])
def test_classes_come_back_exactly(rate: int) -> None:
    some = [top_class(1, rate), device_class(2, 1, rate, 3)]
    payloads = [encode(one).payload for one in some]
    payloads[0] = payloads[0][:12] + struct.pack("=I", 0xFFFFFFFF) + payloads[0][16:]  # a top class says ffff:ffff
    assert dump.classes(payloads) == {1: some[0], 2: some[1]}


def test_classes_of_other_qdiscs_are_not_in_the_tree() -> None:
    payload = encode(top_class(1, 8000)).payload
    assert dump.classes([payload[:8] + struct.pack("=I", 0x00010001) + payload[12:]]) == {}


@pytest.mark.parametrize("rate", [8000, 125_000, 1_250_000])
def test_a_leaf_is_sent_so_that_the_kernel_gives_it_back(rate: int) -> None:
    """The kernel keeps times in steps of 1,024 ns (CODEL_SHIFT)."""
    one = leaf(9, rate)
    sent = read_leaf(encode(one).payload)
    times = [((value * 1000 >> 10) << 10) // 1000 for value in (sent.target, sent.interval)]
    assert sent._replace(target=times[0], interval=times[1]) == one


def test_a_change_of_a_leaf_never_has_its_flows() -> None:
    assert read_leaf(encode(leaf(9, 8000), Action.CHANGE).payload).flows == 0


def test_another_kind_of_leaf_has_no_flows() -> None:
    payload = codec.TCMSG.pack(0, 0, 0, 7, 5 << 16, codec.ROOT_HANDLE | 2, 0) + attr(codec.TCA_KIND, b"pfifo\0")
    assert read_leaf(payload) == Leaf(2, 5, 0, 0, 0)


def test_leaves_and_classes_differ_by_all_but_their_counters() -> None:
    """The kernel writes counters after the options. A leaf of another link, or with another option, is another one."""
    for count in (1, 2):
        stats = attr(codec.TCA_STATS2, attr(1, struct.pack("=QI", count, 1)))
        for index, one in ((7, leaf(9, 8000)), (7, leaf(9, 8000)._replace(limit=9)), (8, leaf(8, 8000))):
            payload = codec.encode(Step(Action.ADD, DOWN, one), index, {}).payload + stats
            (found,) = dump.qdiscs([payload])[1][index].values()
            assert (found.minor, found.limit) == (one.minor, one.limit)
        for each in (top_class(1, 8000), top_class(1, 9000)):
            assert dump.classes([encode(each).payload + stats]) == {1: each}


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(
    ("pref", "network"), [(10, HOST), (11, HOST6), (5, NET), (6, parse_network("fd00::/64")), (5, Network(bytes(4), 0))]
)
def test_filters_come_back_with_network_and_class(pref: int, network: Network, direction: Direction) -> None:
    one = Filter(pref, 6, network, 2)
    payload = encode(one, direction=direction).payload
    assert dump.filters([payload], direction) == ((one,), frozenset())
    other = UP if direction is DOWN else DOWN
    if network.prefixlen:
        assert dump.filters([payload], other)[0][0].network is None, "it matches the wrong side"


def test_a_filter_with_one_more_key_is_none_of_ours() -> None:
    payload = encode(Filter(10, 6, HOST, 2)).payload
    at = codec.TCMSG.size + len(attr(codec.TCA_KIND, b"flower\0"))
    more = payload[at + 4 :] + attr(18, b"\0\x16")  # TCA_FLOWER_KEY_TCP_SRC
    assert dump.filters([payload[:at] + attr(codec.TCA_OPTIONS, more)], DOWN)[0] == (Filter(10, 6, None, 2),)


def test_other_kinds_and_other_prefs_are_foreign() -> None:
    head = codec.TCMSG.pack(0, 0, 0, 7, 0, codec.ROOT_HANDLE, 3 << 16 | 0x0008) + attr(codec.TCA_KIND, b"u32\0")
    assert dump.filters([head], DOWN) == ((), frozenset({Pref(3, 0x0800, "u32")}))


def test_the_head_of_a_pref_is_no_filter() -> None:
    head = codec.TCMSG.pack(0, 0, 0, 7, 0, codec.ROOT_HANDLE, 10 << 16 | 0x0008) + attr(codec.TCA_KIND, b"flower\0")
    assert dump.filters([head], DOWN) == ((), frozenset())


@pytest.mark.parametrize("direction", list(Direction))
def test_a_redirect_comes_back_with_its_target(direction: Direction) -> None:
    payload = encode(Redirect("wg0"), direction=direction).payload
    reader = HookReader()
    assert reader.read(payload, direction) == Ahead(None, Led(1, 7))
    assert isinstance(reader.read(payload.replace(b"mirred", b"mirror"), direction), dump.FilterFound)
    one = reader.read(with_pref(payload, 1), direction)
    assert isinstance(one, dump.FilterFound)
    assert (one.pref, one.handle, one.protocol, one.kind) == (1, 1, 3, "matchall")


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("host", [HOST, HOST6])
def test_a_detour_comes_back_with_its_address_and_its_target(direction: Direction, host: Network) -> None:
    payload = encode(Detour("wg0", host, 3), direction=direction).payload
    other = UP if direction is DOWN else DOWN
    reader = HookReader()
    for _ in range(2):
        assert reader.read(payload, direction) == Ahead(host, Led(3, 7))
        assert isinstance(reader.read(payload, other), dump.FilterFound), "it matches the wrong side"
        assert isinstance(reader.read(with_pref(payload, 9), direction), dump.FilterFound)


def test_detours_differ_by_all_but_their_counters_and_ages() -> None:
    """Another filter of the same length is none of ours, and does not make ours another."""

    def counted(host: Network, target: int, count: int) -> bytes:
        options = attr(codec.TCA_MIRRED_PARMS, codec.MIRRED.pack(0, 0, 4, 1, 1, 1, target)) + attr(
            1, bytes([count]) * 32
        )
        stats = attr(codec.TCA_ACT_STATS, attr(1, struct.pack("=QI", count, count)))
        action = attr(1, attr(1, b"mirred\0") + stats + attr(codec.TCA_ACT_OPTIONS, options))
        keys = attr(12, host.packed) + attr(13, b"\xff" * 4) + attr(codec.FLOWER_ACT, action)
        head = codec.TCMSG.pack(0, 0, 0, 7, 3, 0xFFFFFFF3, 63333 << 16 | 0x0008)
        return head + attr(codec.TCA_KIND, b"flower\0") + attr(codec.TCA_OPTIONS, keys)

    reader, second = HookReader(), parse_host("10.200.0.6")
    for count in range(3):
        assert reader.read(counted(HOST, 7, count), DOWN) == Ahead(HOST, Led(3, 7))
        assert reader.read(counted(HOST, 8, count), DOWN) == Ahead(HOST, Led(3, 8))
        assert reader.read(counted(second, 7, count), DOWN) == Ahead(second, Led(3, 7))
        foreign = counted(HOST, 7, count).replace(attr(12, HOST.packed), attr(99, HOST.packed))
        assert isinstance(reader.read(foreign, DOWN), dump.FilterFound)


def test_our_root_is_an_htb_of_our_number_that_sends_what_is_not_named() -> None:
    payload = encode(RootQdisc()).payload
    assert dump.is_our_root(read_qdisc(payload))
    assert not dump.is_our_root(read_qdisc(payload)._replace(handle=0x10000))
    assert not dump.is_our_root(read_qdisc(payload)._replace(kind="hfsc"))
    assert not dump.is_our_root(read_qdisc(payload)._replace(options=attr(2, struct.pack("=5I", 3, 10, 20, 0, 0))))


def test_what_adds_is_exclusive_and_what_changes_is_not() -> None:
    things: list[Thing] = [Link(), RootQdisc(), Clsact("wg0"), Redirect("wg0"), top_class(1, 8000), leaf(1, 8000),
                           Filter(10, 1, HOST, 1)]  # fmt: skip
    assert {encode(one).flags for one in things} == {0x600}, "NLM_F_CREATE and NLM_F_EXCL"
    assert {encode(one, Action.CHANGE).flags for one in (Link(), top_class(1, 8000), leaf(1, 8000), things[-1])} == {0}


def test_a_link_is_named_and_set_up_in_one_message() -> None:
    request = encode(Link(), direction=UP)
    found = dump.link(request.payload)
    assert (found.name, found.kind, found.is_up, found.queue) == ("wgsyncd-up", "ifb", True, 1000)


@pytest.mark.parametrize("cut", [1, 10, 21, 30])
def test_a_torn_message_is_an_error_and_no_surprise(cut: int) -> None:
    payload = encode(top_class(1, 8000)).payload
    with pytest.raises(ValueError, match="netlink"):
        dump.classes([payload[:-cut]])


def test_what_a_kernel_wrote() -> None:
    """A class of Linux 6.18, as `tc class add dev a parent 7767: classid 7767:1 htb rate 10mbit` made it."""
    params = struct.pack(
        "=BBHhHIBBHhHIIIIII", 0, 1, 0, -1, 0, 1250000, 0, 1, 0, -1, 0, 1250000, 20000, 20000, 12500, 7, 0
    )
    payload = codec.TCMSG.pack(0, 0, 0, 2, 0x77670001, 0xFFFFFFFF, 0) + attr(1, b"htb\0") + attr(2, attr(1, params))
    stats = attr(7, attr(1, struct.pack("=QI", 100, 1))) + attr(3, bytes(36))
    (one,) = dump.classes([payload + stats]).values()
    assert (one.parent, one.rate, one.ceil, one.buffer, one.quantum) == (0, 1250000, 1250000, 20000, 12500)
    assert U32.size == 4


def test_a_root_tells_what_its_tree_has_sent_and_dropped() -> None:
    one = Step(Action.ADD, Direction.UP, RootQdisc())
    stats = attr(1, struct.pack("=QII", 1 << 40, 7, 0)) + attr(3, struct.pack("=5I", 1, 2, 33, 4, 5))
    payload = codec.encode(one, 9, {}).payload
    found = read_qdisc(payload + attr(codec.TCA_STATS2, stats))
    assert found.passed == Passed(1 << 40, 33)
    other = found._replace(ifindex=3)
    links = {9: "wgsyncd-up", 3: "eth0"}
    assert dump.passed_by_trees([found, other, found._replace(parent=5)], links) == {Direction.UP: Passed(1 << 40, 33)}
    assert read_qdisc(payload + attr(codec.TCA_STATS2, attr(1, b"short"))).passed == Passed()


def test_what_is_gone_from_the_kernel_is_forgotten() -> None:
    """Each dump has one class and one detour, and each time they are others."""
    links = [codec.IFINFOMSG.pack(0, 0, index, codec.IFF_UP, 0) + attr(codec.IFLA_IFNAME, name) + more
             for index, name, more in ((3, b"wg0", b""), (7, b"wgsyncd-down", IFB))]  # fmt: skip
    always = {codec.GETLINK: links, codec.GETQDISC: [encode(RootQdisc()).payload, encode(Clsact("wg0")).payload]}
    tc = KernelTc()
    for number in range(1, 3 * dump.SPARE):
        one, host = top_class(1, 8000 + number), Network(number.to_bytes(4), 32)
        hook = encode(Detour("wg0", host, number)).payload
        now = always | {codec.GETTCLASS: [encode(one).payload]}

        def answer(kind: int, payload: bytes, hook: bytes = hook, now: dict[int, list[bytes]] = now) -> list[bytes]:
            return now.get(kind) or [hook] * (codec.TCMSG.unpack(payload)[5] == codec.HOOKS[DOWN])

        with mock.patch.object(tc._talk, "dump", answer):
            found = tc.read()
        assert found.trees[DOWN].classes == {1: one}
        assert found.ports["wg0"].detours == {(DOWN, host): Led(number, 7)}
        detours = sum(len(known) for _, known in tc._hooks._known.values())
        assert max(detours, dump._class.cache_info().currsize) <= dump.SPARE + 10
