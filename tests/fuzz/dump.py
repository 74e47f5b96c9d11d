"""Coverage-guided fuzzing of the dump's decoder: any bytes are a value or a ValueError, the same by the short way, by the
long one and beside what was known; never a hang, a crash or a peer that nobody sent.

    pip install atheris && python -m tests.fuzz.dump -max_total_time=300

atheris has wheels for some Pythons only, so it is not among the packages of tests/run; hypothesis does the same there,
with less patience (tests/core/test_dump.py).
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports():
    from tests import netlink_server
    from tests.decoding import decode_dump
    from wgsyncd.core.model import PeerConfig, PeerState, PublicKey
    from wgsyncd.core.network import Network
    from wgsyncd.dataplane import netlink
    from wgsyncd.dataplane.wireguard import dump

_ENDPOINTS = (None, "192.0.2.1:7", "[2001:db8::1]:7")
_SEEDS = [
    PeerState(
        PeerConfig(PublicKey(bytes([n]) * 32), bytes([n & 1]) * 32, (Network(bytes([10, 0, 0, n]), 32),), n & 1),
        n, n, n * 10**9, endpoint,
    )
    for n, endpoint in enumerate(_ENDPOINTS, 1)
]  # fmt: skip
_GOOD = [netlink_server.dump(_SEEDS, peers_each=9, pads=pads)[0] for pads in (0, 1, 2)]
_SHORT = dump._USUAL


def _decode(payload: bytes, known: dict[PublicKey, PeerState]) -> object:
    try:
        return decode_dump([payload], known)
    except ValueError:
        return ValueError


def one(data: bytes) -> None:
    """The first byte says whether the rest is a payload, or what is to be changed in a good one."""
    payload = data[1:]
    if data and data[0] & 3:
        damaged = bytearray(_GOOD[(data[0] & 3) - 1])
        for at, value in zip(data[1::3], data[3::3], strict=False):
            damaged[(at * 256 + value) % len(damaged)] ^= value
        payload = bytes(damaged)
    found = _decode(payload, {})
    assert found == _decode(payload, {one.config.public_key: one for one in _SEEDS})
    dump._USUAL = {}
    try:
        assert found == _decode(payload, {})
    finally:
        dump._USUAL = _SHORT
    if isinstance(found, dump.Device):
        for key, peer in found.peers.items():
            assert bytes(key) in payload
            assert all(0 <= ip.prefixlen <= 8 * len(ip.packed) for ip in peer.config.allowed_ips)
    try:
        list(netlink.messages(data))
        netlink.decode_family(data)
    except ValueError:
        return


def main() -> None:
    """Fuzz, with libFuzzer's options."""
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
