"""Keeps what the last dumps said about each peer, in a small part of their memory.

`wgsyncd devices` and the page show it. A dump takes 250 bytes for each peer. This takes 48, and they include the
counters of an earlier moment.
"""

from array import array
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from wgsyncd.core.model import InterfaceState, PeerConfig, PeerState
from wgsyncd.core.records import PeerId

MEASURED_OVER = 5.0  # seconds: the shortest time over which a rate is measured, but for the first one
MEASURED_WITHIN = 60.0  # seconds over which the rates of devices are measured at most, while rows change all the time
_MOST = 2**64 - 1  # the largest number that an array holds
_UNKNOWN = _MOST  # an earlier counter that is not known. A later counter is below it, so there is no rate


class Rates(NamedTuple):
    """Bytes per second. None: not measured yet."""

    rx: float | None = None
    tx: float | None = None


class _Peers(NamedTuple):
    """The peers of one interface. ``counters``: the received and the sent bytes of each peer in turn."""

    epoch: str
    configs: Sequence[PeerConfig]
    counters: Sequence[int]
    handshakes: Sequence[int]  # UNIX nanoseconds, 0 = never
    earlier: Sequence[int]  # the counters at the earlier moment


class LastDumps(NamedTuple):
    """The dumps of all interfaces that could be read at one moment, and the counters of an earlier moment."""

    at: float  # UNIX seconds
    since: float | None  # the earlier moment. None: there was none
    interfaces: Mapping[str, _Peers]

    def peers(self) -> dict[PeerId, tuple[PeerState, Rates]]:
        """Each peer with its rates since the earlier moment. It has none if it is new, or if its counters went back."""
        found: dict[PeerId, tuple[PeerState, Rates]] = {}
        seconds = self.at - self.since if self.since is not None else 0.0
        for name, one in self.interfaces.items():
            now, before = iter(one.counters), iter(one.earlier)
            of_each = zip(one.configs, one.handshakes, now, now, before, before, strict=True)
            for config, handshake, rx, tx, old_rx, old_tx in of_each:
                has_rates = seconds > 0 and rx >= old_rx and tx >= old_tx
                rates = Rates((rx - old_rx) / seconds, (tx - old_tx) / seconds) if has_rates else Rates()
                found[name, config.public_key] = PeerState(config, rx, tx, handshake), rates
        return found

    def rates_of(self, interface: str) -> Rates:
        """The rates of an interface since the earlier moment: the sum of its peers that have rates."""
        one = self.interfaces.get(interface)
        if one is None or self.since is None:
            return Rates()
        now, before = iter(one.counters), iter(one.earlier)
        moved_rx, moved_tx, has_rates = 0, 0, not one.configs
        for rx, tx, old_rx, old_tx in zip(now, now, before, before, strict=True):
            if rx >= old_rx and tx >= old_tx:
                moved_rx, moved_tx, has_rates = moved_rx + rx - old_rx, moved_tx + tx - old_tx, True
        seconds = self.at - self.since
        return Rates(moved_rx / seconds, moved_tx / seconds) if has_rates else Rates()


def note(last: LastDumps | None, actual: Mapping[str, InterfaceState], now: float) -> LastDumps:
    """The present dumps, as they are kept. ``now``: UNIX seconds.

    The earlier moment is the one of ``last``, or it stays while the time since then would be too short for rates.
    """
    since, stays = None, False
    if last is not None and last.at < now:
        is_short = now - last.at < MEASURED_OVER
        stays = is_short and last.since is not None and now - last.since < MEASURED_WITHIN
        since = last.since if stays else last.at
    known = last.interfaces if last is not None and since is not None else {}
    return LastDumps(now, since, {name: _kept(known.get(name), state, stays) for name, state in actual.items()})


def _kept(last: _Peers | None, state: InterfaceState, stays: bool) -> _Peers:
    peers = state.peers.values()
    configs = [peer.config for peer in peers]
    counters = _packed([count for _, rx, tx, _, _ in peers for count in (rx, tx)])
    handshakes = _packed([peer.latest_handshake for peer in peers])
    if last is None or last.epoch != state.epoch:
        earlier: Sequence[int] = array("Q", [_UNKNOWN]) * (2 * len(configs))
    else:
        earlier = _reordered(last, last.earlier if stays else last.counters, configs)
    return _Peers(state.epoch, configs, counters, handshakes, earlier)


def _packed(numbers: Sequence[int]) -> Sequence[int]:
    """These numbers, at most :data:`_MOST`. An interface that lies tells larger ones."""
    return array("Q", numbers if max(numbers, default=0) <= _MOST else [min(number, _MOST) for number in numbers])


def _reordered(last: _Peers, counters: Sequence[int], configs: Sequence[PeerConfig]) -> Sequence[int]:
    """The counters of the peers of ``last``, in the order of ``configs``."""
    if last.configs == configs:
        return counters
    at = {config.public_key: 2 * number for number, config in enumerate(last.configs)}
    places = (at.get(config.public_key) for config in configs)
    both = (counters[one : one + 2] if one is not None else (_UNKNOWN, _UNKNOWN) for one in places)
    return array("Q", chain.from_iterable(both))
