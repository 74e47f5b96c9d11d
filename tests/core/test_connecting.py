"""What the counters of a peer say about a customer who cannot connect.

The figures are measured, with `wg show dump` after 26 seconds of one ping each second. tests/real/test_wrong_clients.py
makes such clients.
"""

from __future__ import annotations

import pytest

from tests.samples import address, peer
from wgsyncd.core.inspect.connection import Connection, diagnose
from wgsyncd.core.model import PeerState

NOW = 1_800_000_000.0


def state(rx: int, tx: int, shaken: float | None) -> PeerState:
    return PeerState(peer(5, address(5)), rx, tx, 0 if shaken is None else int((NOW - shaken) * 1e9))


MEASURED = {
    # name: (kernel's rx and tx, wireguard-go's, seconds since the handshake, what it means)
    "another key": ((0, 0), (0, 0), None, Connection.NOTHING_ARRIVES),
    "wrong port": ((0, 0), (0, 0), None, Connection.NOTHING_ARRIVES),
    "cable out": ((0, 0), (0, 0), None, Connection.NOTHING_ARRIVES),
    "preshared key differs": ((888, 552), (888, 552), None, Connection.NOT_ACCEPTED),
    "preshared key missing": ((888, 552), (888, 552), None, Connection.NOT_ACCEPTED),
    "another address": ((148, 156), (3476, 156), 26, None),
    "another address, keepalive": ((180, 156), (3508, 156), 26, None),
    "not forwarded": ((3348, 156), (3476, 156), 27, Connection.UNANSWERED),
    "no route back": ((3476, 156), (3476, 156), 26, Connection.UNANSWERED),
    "good": ((3476, 3420), (3476, 3420), 26, Connection.CONNECTED),
    "idle, keepalive": ((340, 92), (340, 92), 26, Connection.CONNECTED),
}


@pytest.mark.parametrize("name", MEASURED)
def test_what_was_measured(name: str) -> None:
    kernel, userspace, shaken, means = MEASURED[name]
    assert diagnose(state(*kernel, shaken), kernel, NOW) is (means or Connection.NO_DATA_ACCEPTED)
    # wireguard-go counts the packets that it drops. So it cannot tell these from packets that get no answer.
    assert diagnose(state(*userspace, shaken), userspace, NOW) is (means or Connection.UNANSWERED)


@pytest.mark.parametrize(
    ("rx", "tx", "shaken", "recent", "means"),
    [
        (10**9, 10**8, 5000, (0, 0), Connection.OFFLINE),
        (10**9, 10**8, 5000, (32, 0), Connection.OFFLINE),
        (10**9, 10**8, 5000, (148, 92), Connection.KNOCKS_AGAIN),
        (10**9, 10**8, 5000, (444, 276), Connection.KNOCKS_AGAIN),
        (10**9, 10**8, 181, (0, 0), Connection.OFFLINE),
        (10**9, 10**8, 10, (1920, 32), Connection.UNANSWERED),  # it worked before, and now nothing goes back
        (10**9, 10**8, 10, (1_400_000, 50_000), Connection.CONNECTED),  # an upload
        (10**9, 10**8, 10, (0, 0), Connection.CONNECTED),
        (10**9, 10**8, 10, (32, 0), Connection.CONNECTED),
        (5 * 10**7, 40_000, 10, (0, 0), Connection.CONNECTED),  # a camera
        (148 * 30 + 32 * 150, 92 * 30, 10, (0, 0), Connection.CONNECTED),  # an hour of keepalives
        (148 * 3, 92 * 3 + 32 * 9, 10, (0, 64), Connection.NO_DATA_ACCEPTED),
        (688, 1360, 6, (0, 32), Connection.NO_DATA_ACCEPTED),  # measured: six minutes, a keepalive for each new session
        (2708, 2428, 26, (0, 32), Connection.NO_DATA_ACCEPTED),  # measured: seven minutes at a loss of 40 %
        (148 + 128, 92 + 128, 10, (0, 0), Connection.AMBIGUOUS),  # one ping of 84 bytes, or four keepalives
        (148 + 128, 92 + 128, 10, (128, 128), Connection.CONNECTED),  # four keepalives do not come in 15 seconds
        (13108, 13020, 113, (2176, 2176), Connection.CONNECTED),  # measured: a ping each second, which was answered
        (17896, 17720, 31, (2304, 2304), Connection.CONNECTED),  # measured
        (1500, 916, 5, (340, 220), Connection.CONNECTED),  # measured: one ping in a minute, and a keepalive
        (1724, 1044, 94, (0, 0), Connection.AMBIGUOUS),  # measured: the same
        (732, 500, 29, (0, 32), Connection.AMBIGUOUS),  # measured: another address, keepalive, and a packet in 40 s
        (912, 560, 5, (32, 32), Connection.AMBIGUOUS),  # measured: another address, keepalive, and a burst each minute
        (148 * 300 + 32 * 1500, 92 * 300 + 32 * 600, 10, (32, 32), Connection.AMBIGUOUS),  # the same after ten hours
        (148 * 300 + 32 * 1500, 92 * 300 + 32 * 600, 10, (32, 0), Connection.AMBIGUOUS),
        (148 * 300 + 32 * 1500, 92 * 300 + 32 * 600, 10, (1600, 800), Connection.CONNECTED),  # a device at work
        (10**5, 5 * 10**5, 10, (0, 0), Connection.CONNECTED),  # a device that has read pages, and rests
        ((148 + 128) * 9, (92 + 128) * 9, 10, (128, 128), Connection.CONNECTED),  # a ping in each session
    ],
)
def test_more_patterns(rx: int, tx: int, shaken: float, recent: tuple[int, int], means: Connection) -> None:
    assert diagnose(state(rx, tx, shaken), recent, NOW) is means


def test_a_clock_that_was_set_back_is_no_reason_to_fail() -> None:
    assert diagnose(state(3476, 3420, -3600), (3476, 3420), NOW) is Connection.CONNECTED


def test_after_a_clock_was_set_back_only_traffic_shows_that_a_device_is_there() -> None:
    """Its handshake is in the future. Nobody knows how long ago that was."""
    assert diagnose(state(3476, 3420, -3600), (0, 0), NOW) is Connection.OFFLINE
