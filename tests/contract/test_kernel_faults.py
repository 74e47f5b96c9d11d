"""The client of the kernel's socket handles every rare answer that a scripted kernel can give."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator

import pytest

from tests import netlink_server
from wgsyncd.core.model import NO_PRESHARED_KEY, Change, ChangeKind, PeerConfig, PeerState, PublicKey
from wgsyncd.core.network import Network
from wgsyncd.dataplane.wireguard import kernel
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.errors import DumpInterrupted, InterfaceMissing, WireGuardError

FAMILY, MULTI, DUMP_INTR = 33, 0x2, 0x10
CTRL, ERROR, DONE = 16, 2, 3

Datagram = bytes | OSError
# Arguments: the family, the sequence number and the payload of a request. Result: the answer.
Script = Callable[[int, int, bytes], list[Datagram]]


class ScriptedKernel:
    """Replaces the sockets that `kernel` opens, and counts how many are opened and closed."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.family = FAMILY
        self.asked: list[bytes] = []
        self.answers: list[Script] = []  # these are for WireGuard's requests: each is used once, and the last one stays

    def open(self) -> ScriptedSocket:
        self.opened += 1
        return ScriptedSocket(self)

    def answer(self, kind: int, seq: int, payload: bytes) -> list[Datagram]:
        if kind == CTRL:
            if not self.family:
                return [error(errno.ENOENT, seq)]
            found = netlink_server.message(
                CTRL, 0, seq, bytes(4) + netlink_server.attr(1, struct.pack("=H", self.family))
            )
            return [found + error(0, seq)]
        if kind != self.family:
            return [error(errno.ENOENT, seq)]
        self.asked.append(payload)
        script = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return script(kind, seq, payload)


class ScriptedSocket:
    def __init__(self, kernel_: ScriptedKernel) -> None:
        self.kernel = kernel_
        self.queue: list[Datagram] = []

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def send(self, data: bytes) -> int:
        length, kind, flags, seq, _ = struct.unpack_from("=IHHII", data)
        assert length == len(data)
        assert flags & 1  # the flag is NLM_F_REQUEST
        self.queue += self.kernel.answer(kind, seq, data[16:])
        return len(data)

    def recv(self, size: int) -> bytes:
        if not self.queue:
            raise TimeoutError
        first = self.queue.pop(0)
        if isinstance(first, OSError):
            raise first
        return first[:size]

    def close(self) -> None:
        self.kernel.closed += 1


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> ScriptedKernel:
    found = ScriptedKernel()
    monkeypatch.setattr(kernel, "_open", found.open)
    return found


@pytest.fixture
def wg() -> Iterator[KernelWireGuard]:
    opened = KernelWireGuard("boot")
    yield opened
    opened.close()


def peer(n: int) -> PeerConfig:
    return PeerConfig(PublicKey(n.to_bytes(4) * 8), NO_PRESHARED_KEY, (Network(bytes([10, 0, n >> 8, n & 255]), 32),))


STATES = [PeerState(peer(n), n, n, 0) for n in range(1, 8)]


def error(number: int, seq: int) -> bytes:
    return netlink_server.message(ERROR, 0, seq, struct.pack("=i", -number) + bytes(16))


def done(seq: int, flags: int = MULTI, number: int = 0) -> bytes:
    return netlink_server.message(DONE, flags, seq, struct.pack("=i", -number))


def dump(torn_at: int | None = None, torn_done: bool = False, number: int = 0) -> Script:
    def script(kind: int, seq: int, _: bytes) -> list[Datagram]:
        parts: list[Datagram] = [
            netlink_server.message(kind, MULTI | (DUMP_INTR if n == torn_at else 0), seq, payload)
            for n, payload in enumerate(netlink_server.dump(STATES))
        ]
        assert len(parts) == 3
        return [*parts, done(seq, MULTI | (DUMP_INTR if torn_done else 0), number)]

    return script


def fails(number: int) -> Script:
    return lambda _kind, seq, _payload: [error(number, seq)]


def raises(number: int) -> Script:
    return lambda _kind, _seq, _payload: [OSError(number, "from the socket")]


def assert_whole(wg: KernelWireGuard) -> None:
    found = wg.read("wg0")
    assert found.peers == {state.config.public_key: state for state in STATES}
    assert found.epoch == "boot:7"


def test_all_messages_of_a_dump_are_joined(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump()]
    assert_whole(wg)
    assert wg.retries == 0


def test_messages_that_share_a_datagram(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    def one(kind: int, seq: int, payload: bytes) -> list[Datagram]:
        parts = dump()(kind, seq, payload)
        return [b"".join(part for part in parts if isinstance(part, bytes))]

    scripted.answers = [one]
    assert_whole(wg)


@pytest.mark.parametrize("script", [dump(torn_at=0), dump(torn_at=1), dump(torn_at=2), dump(torn_done=True)])
def test_torn_dump_is_read_again_wherever_it_says_so(
    scripted: ScriptedKernel, wg: KernelWireGuard, script: Script
) -> None:
    scripted.answers = [script, script, dump()]
    assert_whole(wg)
    assert wg.retries == 2
    assert scripted.opened == 1  # an interrupted dump was read to its end, so the socket is still good


def test_dump_that_is_always_torn(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump(torn_at=1)]
    with pytest.raises(DumpInterrupted, match="wg0: EINTR"):
        wg.read("wg0")
    assert (wg.retries, len(scripted.asked)) == (5, 6)


def test_one_socket_for_life(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump()]
    for _ in range(50):
        assert_whole(wg)
    assert (scripted.opened, scripted.closed) == (1, 0)


def test_dump_that_ends_in_an_error(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump(number=errno.ENOMEM)]
    with pytest.raises(WireGuardError, match="wg0: ENOMEM"):
        wg.read("wg0")


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENODEV, InterfaceMissing, "ENODEV: no such interface"),
        (errno.EOPNOTSUPP, WireGuardError, "EOPNOTSUPP: is not a WireGuard interface"),
        (errno.EPERM, WireGuardError, "EPERM: not permitted; CAP_NET_ADMIN is needed"),
        (errno.EBUSY, WireGuardError, "EBUSY: Device or resource busy"),
    ],
)
def test_refusal_is_said_by_name(
    scripted: ScriptedKernel, wg: KernelWireGuard, number: int, kind: type[WireGuardError], text: str
) -> None:
    scripted.answers = [fails(number)]
    with pytest.raises(kind, match=text) as caught:
        wg.read("wg0")
    assert type(caught.value) is kind


def test_lost_answer_is_asked_for_again_on_a_fresh_socket(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    def half(kind: int, seq: int, payload: bytes) -> list[Datagram]:
        return [*dump()(kind, seq, payload)[:1], OSError(errno.ENOBUFS, "")]

    scripted.answers = [half, half, dump()]
    assert_whole(wg)
    assert (scripted.opened, scripted.closed, wg.retries) == (3, 2, 2)


def test_answers_that_are_always_lost(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [raises(errno.ENOBUFS)]
    with pytest.raises(WireGuardError, match="ENOBUFS"):
        wg.read("wg0")
    assert scripted.opened == scripted.closed


def test_kernel_that_does_not_answer(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [lambda *_: [], dump()]
    with pytest.raises(WireGuardError, match="ETIMEDOUT: the kernel did not answer"):
        wg.read("wg0")
    assert scripted.closed == 1  # a dump that is not read to its end would hold the interface
    assert_whole(wg)


@pytest.mark.parametrize(
    "damage", [b"\x01", struct.pack("=IHHII", 9999, 33, 2, 0, 0), struct.pack("=IHHII", 3, 33, 2, 0, 0)]
)
def test_malformed_datagram_is_an_error_and_ends_the_socket(
    scripted: ScriptedKernel, wg: KernelWireGuard, damage: bytes
) -> None:
    scripted.answers = [lambda *_: [damage], dump()]
    with pytest.raises(WireGuardError, match="EBADMSG"):
        wg.read("wg0")
    assert_whole(wg)
    assert scripted.opened == 2


def test_malformed_dump_is_an_error(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    def script(kind: int, seq: int, _: bytes) -> list[Datagram]:
        raw = netlink_server.attr(netlink_server.NESTED, netlink_server.attr(1, bytes(32)))
        return [
            netlink_server.message(kind, MULTI, seq, netlink_server.payload(raw, netlink_server.device())) + done(seq)
        ]

    scripted.answers = [script]
    with pytest.raises(WireGuardError, match="EBADMSG: cannot make sense of the kernel's dump: peer without counters"):
        wg.read("wg0")


def test_answers_to_an_earlier_request_are_passed_over(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    def script(kind: int, seq: int, payload: bytes) -> list[Datagram]:
        stale = PeerState(peer(99), 0, 0, 0)
        old = [netlink_server.message(kind, MULTI, seq - 1, netlink_server.dump([stale])[0]), done(seq - 1)]
        return [*old, *dump()(kind, seq, payload)]

    scripted.answers = [script]
    assert_whole(wg)
    assert len(scripted.asked) == 1


def test_module_loaded_anew_has_another_number(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump()]
    assert_whole(wg)
    scripted.family = FAMILY + 1
    assert_whole(wg)
    assert scripted.opened == 1


def test_kernel_without_wireguard(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.family = 0
    with pytest.raises(WireGuardError, match=r"lo: ENOENT: .*modprobe wireguard") as caught:
        wg.read("lo")
    assert not isinstance(caught.value, InterfaceMissing)
    with pytest.raises(InterfaceMissing, match=r"nonesuch0: ENODEV: no such interface.*modprobe wireguard"):
        wg.read("nonesuch0")


def test_module_that_comes_late(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump()]
    scripted.family = 0
    with pytest.raises(WireGuardError, match="modprobe wireguard"):
        wg.read("lo")
    scripted.family = FAMILY
    assert_whole(wg)


def test_refused_family_number_is_looked_up_only_once(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [dump(), fails(errno.EOPNOTSUPP)]
    assert_whole(wg)
    with pytest.raises(WireGuardError, match="EOPNOTSUPP"):
        wg.read("wg0")
    assert len(scripted.asked) == 2


# ---- changes


def adds(count: int) -> list[Change]:
    return [Change(ChangeKind.ADD, "wg0", peer(n).public_key, None, peer(n)) for n in range(1, count + 1)]


def keys_in(payload: bytes) -> list[bytes]:
    device = dict(netlink_server.parse(payload[4:]))
    return [dict(netlink_server.parse(raw))[1] for _, raw in netlink_server.parse(device[8])]


def refuses(*bad: Change, number: int = errno.EINVAL) -> Script:
    def script(_kind: int, seq: int, payload: bytes) -> list[Datagram]:
        return [error(number if {each.public_key for each in bad} & set(keys_in(payload)) else 0, seq)]

    return script


def test_few_messages_for_many_changes(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [refuses()]
    changes = adds(1000)
    assert wg.apply("wg0", changes) == []
    assert len(scripted.asked) < 6
    assert [key for payload in scripted.asked for key in keys_in(payload)] == [each.public_key for each in changes]


def test_refused_peers_are_found_out_and_the_rest_is_made(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    changes = adds(600)
    bad = [changes[3], changes[500]]
    scripted.answers = [refuses(*bad)]
    failed = wg.apply("wg0", changes)
    assert [(each.change, each.name, each.text) for each in failed] == [
        (each, "EINVAL", "Invalid argument") for each in bad
    ]
    made = {key for payload in scripted.asked if len(keys_in(payload)) == 1 for key in keys_in(payload)}
    in_good_batches = {
        key
        for payload in scripted.asked
        if not {b.public_key for b in bad} & set(keys_in(payload))
        for key in keys_in(payload)
    }
    assert made | in_good_batches == {each.public_key for each in changes}


def test_one_refused_change_is_sent_once(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    (change,) = adds(1)
    scripted.answers = [refuses(change, number=errno.ENOMEM)]
    assert [each.name for each in wg.apply("wg0", [change])] == ["ENOMEM"]
    assert len(scripted.asked) == 1


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EPERM, errno.EOPNOTSUPP])
def test_what_ails_the_interface_ends_the_apply(scripted: ScriptedKernel, wg: KernelWireGuard, number: int) -> None:
    scripted.answers = [fails(number)]
    with pytest.raises(WireGuardError) as caught:
        wg.apply("wg0", adds(3))
    assert isinstance(caught.value, InterfaceMissing) == (number == errno.ENODEV)
    assert len(scripted.asked) == 1


def test_lost_acknowledgement_of_a_change_is_settled_by_saying_it_again(
    scripted: ScriptedKernel, wg: KernelWireGuard
) -> None:
    scripted.answers = [raises(errno.ENOBUFS), refuses()]
    assert wg.apply("wg0", adds(3)) == []
    assert len(scripted.asked) == 2
    assert scripted.asked[0] == scripted.asked[1]
    assert wg.retries == 0  # no dump was read again
