"""Tells why a customer cannot connect, by the endpoint, the handshake and the counters of the peer.

An initiation of a handshake has 148 bytes, the answer to it 92, and a keepalive 32 (WireGuard paper, section 5.4). An
initiation counts as soon as the server can read it. The preshared key goes into the answer only. So a device with
another preshared key knocks and is answered, and no handshake comes of it. The first accepted packet of a session ends
the handshake. The server sends a keepalive if it received data and has nothing to send.

The kernel counts no packet with a source address that is not the peer's (receive.c). wireguard-go counts it.
"""

from enum import StrEnum

from wgsyncd.core.model import PeerState

INITIATION, RESPONSE, KEEPALIVE = 148, 92, 32  # bytes
SESSION = 180.0  # seconds: a session without a newer handshake is dead (REJECT_AFTER_TIME, WireGuard paper)
_FEW = 16 << 10  # bytes: a device to which the server sent more has surely worked
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
    CONNECTED = "connected"


def diagnose(found: PeerState, recent: tuple[int, int], now: float) -> Connection:
    """What the peer's state means. ``recent``: bytes since the baseline, received and sent. ``now``: UNIX seconds."""
    shaken = found.latest_handshake / 1e9
    if not shaken:
        return Connection.NOT_ACCEPTED if found.rx else Connection.NOTHING_ARRIVES
    if now - shaken > SESSION:
        return Connection.KNOCKS_AGAIN if _only_handshakes(*recent) else Connection.OFFLINE
    if found.tx <= _FEW and _no_data(found.rx, found.tx):
        return Connection.NO_DATA_ACCEPTED
    unanswered = _unanswered(found.rx, found.tx, _FEW) or _unanswered(*recent, _FEW_RECENT)
    return Connection.UNANSWERED if unanswered else Connection.CONNECTED


def _only_handshakes(received: int, sent: int) -> bool:
    """Whether these bytes are initiations and the answers to them, and nothing else."""
    count, rest = divmod(received, INITIATION)
    return count > 0 and rest == 0 and sent == RESPONSE * count


def _no_data(received: int, sent: int) -> bool:
    """Whether only handshakes and a few keepalives were counted, and yet the server sent keepalives, as after data.

    A device sends a keepalive after each handshake if no packet waits (wg_packet_send_keepalive in send.c).
    """
    for handshakes in range(1, min(received // INITIATION, sent // RESPONSE) + 1):
        keepalives, rest = divmod(received - INITIATION * handshakes, KEEPALIVE)
        more = sent - RESPONSE * handshakes
        if rest == 0 and keepalives <= max(handshakes, 2) and more > 0 and more % KEEPALIVE == 0:
            return True
    return False


def _unanswered(received: int, sent: int, most: int) -> bool:
    """Whether data came and the server sent nothing but handshakes and keepalives.

    If it sent only answers to handshakes, the device sends nothing but keepalives.
    """
    return 0 < sent <= most and received > sent * _SHARE and sent % RESPONSE != 0
