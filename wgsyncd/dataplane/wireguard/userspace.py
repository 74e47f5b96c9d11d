"""Userspace WireGuard (wireguard-go): the text protocol on /var/run/wireguard/NAME.sock.

Source: https://www.wireguard.com/xplatform/. A connection carries one request. Keys are lower-case hexadecimal. An
error's text never contains a line of the socket, because each line may be a key. A process may answer anything, so each
value has its range, and an answer has a largest size.
"""

import contextlib
import errno
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from wgsyncd.core.model import (
    KEY_BYTES,
    NO_PRESHARED_KEY,
    Change,
    ChangeKind,
    InterfaceState,
    PeerConfig,
    PeerState,
    PublicKey,
)
from wgsyncd.core.network import Network, Networks, as_networks
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.dataplane.wireguard.refusals import apply_changes, errno_name
from wgsyncd.errors import InterfaceMissing, WireGuardError

SOCKETS = Path("/var/run/wireguard")
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED, errno.ENOTSOCK, errno.EPROTOTYPE})
"""The file is missing, nobody listens on it, or it is not a stream socket."""
_BATCH_PEERS = 500
_LARGEST = 32 << 20  # bytes of an answer: more than 60,000 peers
_NONE: Mapping[PublicKey, PeerConfig] = {}
_LATEST = 1 << 33  # UNIX seconds, the year 2242


class ForeignProtocol(ValueError):
    """The answer has a line of another program's own protocol."""


class UserspaceWireGuard:
    """WireGuard interfaces that processes of this machine provide.

    ``timeout``: seconds that a process may take for one whole request.
    """

    def __init__(self, boot_id: str, timeout: float = 5.0, sockets: Path = SOCKETS) -> None:
        self._boot_id = boot_id
        self._timeout = timeout
        self._sockets = sockets
        self._known: dict[str, Mapping[PublicKey, PeerConfig]] = {}  # by interface: as the last dump had them

    def carries(self, interface: str) -> bool:
        """Whether a process provides this interface. As in wg(8), a connection to the socket decides."""
        try:
            self._connect(interface).close()
        except InterfaceMissing:
            return False
        except WireGuardError:  # A process is there and refuses. The request will tell why.
            return True
        return True

    def read(self, interface: str) -> InterfaceState:
        """Read one complete dump (`get=1`). Raises InterfaceMissing if no process listens or the tun device is gone."""
        number, lines = self._request(interface, "get=1\n\n")
        if number:
            raise _error(interface, number)
        try:
            index = socket.if_nametoindex(interface)
        except OSError as e:
            raise InterfaceMissing(interface, "ENODEV", "no such interface, though its socket answers") from e
        try:
            state = _decode(interface, f"{self._boot_id}:{index}", lines, self._known.get(interface, _NONE))
        except ForeignProtocol:
            why = "its process does not speak the protocol of wireguard-go, so it cannot be driven: use wireguard-go"
            raise WireGuardError(interface, "EPROTO", why) from None
        except ValueError:
            raise WireGuardError(interface, "EBADMSG", "cannot make sense of what its process answers") from None
        self._known[interface] = {key: peer.config for key, peer in state.peers.items()}
        return state

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        """Send `set=1` for many peers at once. Returns the refused changes."""
        return apply_changes(changes, _set_requests, lambda text: self._request(interface, text)[0])

    def _connect(self, interface: str) -> socket.socket:
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as e:  # There are no more descriptors.
            raise WireGuardError(interface, errno_name(e.errno or errno.EIO), os.strerror(e.errno or errno.EIO)) from e
        try:
            connection.settimeout(self._timeout)
            connection.connect(str(self._sockets / f"{interface}.sock"))
        except OSError as e:
            connection.close()
            number = errno.ETIMEDOUT if isinstance(e, TimeoutError) else e.errno or errno.EIO
            if number in _ABSENT:
                raise InterfaceMissing(interface, "ENODEV", "no process answers for it") from e
            raise _error(interface, number) from e
        return connection

    def _request(self, interface: str, text: str) -> tuple[int, list[str]]:
        """The errno and the lines of the answer. An empty line ends it."""
        deadline = time.monotonic() + self._timeout
        with self._connect(interface) as connection:
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(text.encode())  # The process may hang up at a bad line. It has answered then.
                answer = bytearray()
                while not answer.endswith(b"\n\n"):
                    connection.settimeout(max(deadline - time.monotonic(), 0.001))
                    part = connection.recv(1 << 18)
                    if not part:
                        raise WireGuardError(interface, "EPIPE", "its process ended the conversation")
                    answer += part
                    if time.monotonic() > deadline:
                        raise TimeoutError
                    if len(answer) > _LARGEST:
                        raise WireGuardError(interface, "EMSGSIZE", f"its process answers more than {_LARGEST} bytes")
            except TimeoutError as e:
                raise _error(interface, errno.ETIMEDOUT) from e
            except OSError as e:
                raise _error(interface, e.errno or errno.EIO) from e
        lines = answer.decode("ascii", "replace").split("\n")[:-2]
        name, _, value = lines.pop().partition("=") if lines else ("", "", "")
        if name != "errno" or not re.fullmatch("-?[0-9]{1,5}", value):
            raise WireGuardError(interface, "EBADMSG", "cannot make sense of what its process answers")
        return abs(int(value)), lines  # wireguard-go writes -22 where the protocol has 22


def _error(interface: str, number: int) -> WireGuardError:
    why = f"its process: {os.strerror(number)}"
    if number == errno.EACCES:
        why = "another user runs its process: see Userspace WireGuard in man wgsyncd-install"
    return WireGuardError(interface, errno_name(number), why)


def _set_requests(changes: Sequence[Change]) -> Iterator[tuple[str, Sequence[Change]]]:
    for at in range(0, len(changes), _BATCH_PEERS):
        batch = changes[at : at + _BATCH_PEERS]
        yield "\n".join(["set=1", *(line for change in batch for line in _encode(change)), "", ""]), batch


def _encode(change: Change) -> Iterator[str]:
    yield f"public_key={change.public_key.hex()}"
    after = change.desired
    if after is None:
        yield "remove=true"
        return
    if change.kind is ChangeKind.UPDATE:
        yield "update_only=true"
    if change.sets_preshared_key:
        yield f"preshared_key={after.preshared_key.hex()}"
    if change.sets_keepalive:
        yield f"persistent_keepalive_interval={after.persistent_keepalive}"
    if change.sets_allowed_ips:
        yield "replace_allowed_ips=true"
        for network in after.allowed_ips:
            yield f"allowed_ip={network}"


def _decode(
    interface: str, epoch: str, lines: Sequence[str], known: Mapping[PublicKey, PeerConfig] = _NONE
) -> InterfaceState:
    """The dump of an answer.

    ``known``: the configurations of the last one. An unchanged peer gets the known object again, so that memory holds
    it once.
    """
    public_key: PublicKey | None = None
    listen_port = 0
    peers: dict[PublicKey, PeerState] = {}
    key: PublicKey | None = None
    values: dict[str, str] = {}
    ips: list[Network] = []
    for line in [*lines, "public_key="]:  # a last line, so that the last peer ends like the others
        name, equals, value = line.partition("=")
        if not equals:
            raise ValueError("line without a value")
        if name == "public_key":
            if key is not None:
                if key in peers:
                    raise ValueError("one peer twice")
                peer = _peer(key, values, as_networks(ips))
                if (old := known.get(key)) == peer.config and old is not None:
                    peer = peer._replace(config=old)
                peers[peer.config.public_key] = peer
            key = PublicKey(_hex_key(value)) if value else None
            values, ips = {}, []
        elif key is None:
            if name == "private_key":
                private_key = _hex_key(value)
                public_key = PublicKey(x25519_public_key(private_key)) if any(private_key) else None
            elif name == "listen_port":
                listen_port = _number(value, 1 << 16)
            elif name == "own_public_key":  # Such a program tells a handshake's age, and knows no update_only.
                raise ForeignProtocol
        elif name == "allowed_ip":
            ips.append(_network(value))
        else:
            values[name] = value
    return InterfaceState(interface, epoch, public_key, listen_port, peers, kind="userspace")


def _peer(key: PublicKey, values: dict[str, str], ips: Networks) -> PeerState:
    psk = _hex_key(values["preshared_key"]) if "preshared_key" in values else NO_PRESHARED_KEY
    seconds = _number(values.get("last_handshake_time_sec", "0"), _LATEST)
    nanoseconds = _number(values.get("last_handshake_time_nsec", "0"), 10**9)
    if "rx_bytes" not in values or "tx_bytes" not in values:
        raise ValueError("peer without counters")
    return PeerState(
        PeerConfig(key, psk, ips, _number(values.get("persistent_keepalive_interval", "0"), 1 << 16)),
        _number(values["rx_bytes"], 1 << 64),
        _number(values["tx_bytes"], 1 << 64),
        seconds * 1_000_000_000 + nanoseconds,
        values.get("endpoint"),
    )


def _number(text: str, limit: int) -> int:
    if not re.fullmatch("[0-9]{1,20}", text) or int(text) >= limit:
        raise ValueError("a number is out of its range")
    return int(text)


def _hex_key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError("key is not 32 bytes")
    return key


def _network(text: str) -> Network:
    address, _, prefix = text.partition("/")
    try:
        packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except OSError:
        raise ValueError("allowed IP is no address") from None
    return Network(packed, _number(prefix, len(packed) * 8 + 1))


_P = 2**255 - 19


def x25519_public_key(private_key: bytes) -> bytes:
    """The public key of a private key (RFC 7748, section 5), which the protocol does not send. This takes about 2 ms.

    The time depends on the key, because Python's integers do. Only processes of this machine could measure it.
    """
    scalar = int.from_bytes(private_key, "little") & ~(7 | 1 << 255) | 1 << 254
    x2, z2, x3, z3, swap = 1, 0, 9, 1, 0
    for bit in range(254, -1, -1):
        k = scalar >> bit & 1
        if swap ^ k:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = k
        a, b = x2 + z2, x2 - z2
        aa, bb = a * a % _P, b * b % _P
        e = aa - bb
        da, cb = (x3 - z3) * a % _P, (x3 + z3) * b % _P
        x3, z3 = (da + cb) ** 2 % _P, 9 * (da - cb) ** 2 % _P
        x2, z2 = aa * bb % _P, e * (aa + 121665 * e) % _P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, _P - 2, _P) % _P).to_bytes(32, "little")
