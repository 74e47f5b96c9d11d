"""Decodes a whole dump at once, for tests that have all its messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wgsyncd.core.model import PeerState, PublicKey
from wgsyncd.dataplane.wireguard.dump import Decoder, Device

_NOBODY: Mapping[PublicKey, PeerState] = {}


def decode_dump(
    payloads: Iterable[bytes], known: Mapping[PublicKey, PeerState] = _NOBODY, *, endpoints: bool = True
) -> Device:
    """The Device that the messages of one complete dump describe.

    ``known``: the peers of an earlier dump. ValueError: the messages are no such dump.
    """
    decoder = Decoder({key: one.config for key, one in known.items()}, endpoints=endpoints)
    for data in payloads:
        decoder.append(data)
    return decoder.device()
