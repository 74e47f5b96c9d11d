"""Tells why a customer cannot connect, by the endpoint, the handshake and the counters of the peer.

An initiation of a handshake has 148 bytes, the answer to it 92, and a keepalive 32 (WireGuard paper, section 5.4). An
initiation counts as soon as the server can read it. The preshared key goes into the answer only. So a device with
another preshared key knocks and is answered, and no handshake comes of it. The first accepted packet of a session ends
the handshake. The server sends a keepalive if it received data and has nothing to send.

The kernel counts no packet with a source address that is not the peer's (wg_packet_consume_data_done in receive.c).
Such a packet still makes the server send keepalives. wireguard-go counts it. A few small packets that were answered can
have the same sums as keepalives of both sides. Then the counters cannot tell which it was.
"""

from collections.abc import Iterator
from enum import StrEnum

from wgsyncd.core.model import PeerState

INITIATION, RESPONSE, KEEPALIVE = 148, 92, 32  # bytes
SESSION = 180.0  # seconds: a session without a newer handshake is dead (REJECT_AFTER_TIME, WireGuard paper)
_FEW = 16 << 10  # bytes: a device to which the server sent more has very probably worked
_MANY = 1 << 18  # bytes: keepalives and handshakes alone need 19 hours for so much
_FEW_RECENT = 2 * RESPONSE + 3 * KEEPALIVE  # bytes: what the server sends by itself between two polls
_SHARE = 4  # an answer to real traffic is at least one part in so many


class Connection(StrEnum):
    """What the kernel shows of a device's peer."""

    NOTHING_ARRIVES = "nothing_arrives"  # no packet that the server can read
    NOT_ACCEPTED = "not_accepted"  # the device knocks and is answered, but no handshake comes of it
    OFFLINE = "offline"  # it was connected before
    KNOCKS_AGAIN = "knocks_again"  # it was connected before, and now it knocks as in NOT_ACCEPTED
    NO_DATA_ACCEPTED = "no_data_accepted"  # connected, but the server drops all its packets
    UNANSWERED = "unanswered"  # connected, and its packets get no answers
    AMBIGUOUS = "unclear"  # connected, and its counters fit NO_DATA_ACCEPTED as well as a device that sends little
    CONNECTED = "connected"


def diagnose(found: PeerState, recent: tuple[int, int], now: float) -> Connection:
    """What the peer's state means. ``recent``: bytes since the baseline, received and sent. ``now``: UNIX seconds."""
    shaken = found.latest_handshake / 1e9
    if not shaken:
        return Connection.NOT_ACCEPTED if found.rx else Connection.NOTHING_ARRIVES
    # After a handshake of the future, the clock was set back. Then only traffic shows that a device is there.
    if now - shaken > SESSION or (shaken - now > SESSION and not any(recent)):
        return Connection.KNOCKS_AGAIN if _only_handshakes(*recent) else Connection.OFFLINE
    if _unanswered(found.rx, found.tx, _FEW) or _unanswered(*recent, _FEW_RECENT):
        return Connection.UNANSWERED
    if not found.tx % RESPONSE or found.tx > _MANY or not _is_silent(*recent):
        return Connection.CONNECTED
    readings = [one for one in _readings(found.rx, found.tx) if _is_without_data(*one)]
    # A device sends a keepalive after each handshake if no packet waits (wg_packet_send_keepalive in send.c).
    if found.tx <= _FEW and any(theirs <= max(count, 2) and count <= 2 * ours for count, theirs, ours in readings):
        return Connection.NO_DATA_ACCEPTED
    return Connection.AMBIGUOUS if readings else Connection.CONNECTED


def _only_handshakes(received: int, sent: int) -> bool:
    """Whether these bytes are initiations and the answers to them, and nothing else."""
    count, rest = divmod(received, INITIATION)
    return count > 0 and rest == 0 and sent == RESPONSE * count


def _readings(received: int, sent: int) -> Iterator[tuple[int, int, int]]:
    """How these bytes can be handshakes that the device began, its keepalives and the server's, and nothing else."""
    for handshakes in range(min(received // INITIATION, sent // RESPONSE) + 1):
        theirs, rest = divmod(received - INITIATION * handshakes, KEEPALIVE)
        ours, more = divmod(sent - RESPONSE * handshakes, KEEPALIVE)
        if not rest and not more:
            yield handshakes, theirs, ours


def _is_without_data(handshakes: int, theirs: int, ours: int) -> bool:
    """Whether so many keepalives are possible in these sessions, with at least one of the server, as after data.

    A device sends one in 20 s or later, until it begins a new session after 120 s. The server sends one in 10 s at
    most, until a session ends after 180 s.
    """
    return handshakes > 0 and theirs <= 6 * handshakes + 3 and 0 < ours <= 18 * handshakes + 3


def _is_silent(received: int, sent: int) -> bool:
    """Whether no data may have come between two polls: four small packets do not have the sum of so few keepalives."""
    return any(count <= 4 and max(theirs, ours) <= count + 3 for count, theirs, ours in _readings(received, sent))


def _unanswered(received: int, sent: int, most: int) -> bool:
    """Whether data came and the server sent nothing but handshakes and keepalives.

    If it sent only answers to handshakes, the device sends nothing but keepalives.
    """
    return 0 < sent <= most and received > sent * _SHARE and sent % RESPONSE != 0
