"""Reads what the limits of one device have let through and dropped, for `explain`."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from wgsyncd.core.network import parse_host
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import PLACES, ShapedTraffic
from wgsyncd.dataplane.netlink import attributes
from wgsyncd.dataplane.tc import codec, dump
from wgsyncd.dataplane.tc.kernel import KernelTc


class TrafficReader(KernelTc):
    """Reads the counters of single classes. It changes nothing."""

    def of(self, addresses: Iterable[str]) -> Mapping[Direction, ShapedTraffic]:
        """The traffic of a device in each direction that has a class for it. ShapingError if the kernel is silent.

        ``addresses``: its own, as its row has them. A class counts the bytes that pass it, and its leaf counts drops.
        """
        own = set()
        for one in addresses:
            with suppress(ValueError):  # An unreadable address has no class.
                own.add(parse_host(one))
        links = {one.name: one.ifindex for one in map(dump.link, self._talk.dump(codec.GETLINK, codec.get_links()))}
        found = {}
        for name, (direction, _) in PLACES.items():
            if not (index := links.get(name)):
                continue
            which = codec.get_objects(index, codec.ROOT_HANDLE)
            filters, _ = dump.filters(self._talk.dump(codec.GETTFILTER, which), direction)
            if minor := next((one.minor for one in filters if one.network in own), 0):
                found[direction] = self._traffic(index, minor)
        return found

    def _traffic(self, index: int, minor: int) -> ShapedTraffic:
        handle = codec.ROOT_HANDLE | minor
        sent = dropped = waiting = 0
        for payload in self._talk.dump(codec.GETTCLASS, codec.get_objects(index, codec.ROOT_HANDLE)):
            basic = _stats(payload).get(codec.STATS_BASIC, b"")
            if codec.TCMSG.unpack_from(payload)[4] == handle and len(basic) >= codec.BASIC.size:
                (sent,) = codec.BASIC.unpack_from(basic)
        for payload in self._talk.dump(codec.GETQDISC, codec.get_objects()):
            queue = _stats(payload).get(codec.STATS_QUEUE, b"")
            _, _, _, link, _, parent, _ = codec.TCMSG.unpack_from(payload)
            if (link, parent) == (index, handle) and len(queue) >= codec.QUEUE_STATS.size:
                waiting, _, dropped = codec.QUEUE_STATS.unpack_from(queue)
        return ShapedTraffic(minor, sent, dropped, waiting)


def _stats(payload: bytes) -> Mapping[int, bytes]:
    """The counters of a class or a qdisc (TCA_STATS2, gnet_stats_copy_* of Linux), by kind."""
    for kind, start, end in attributes(payload, codec.TCMSG.size, len(payload)):
        if kind == codec.TCA_STATS2:
            return {one: payload[a:b] for one, a, b in attributes(payload, start, end)}
    return {}
