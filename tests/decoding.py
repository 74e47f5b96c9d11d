"""Decodes a whole dump at once, for tests that have all its messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wgsyncd.core.model import PeerState, PublicKey
from wgsyncd.dataplane.wireguard.dump import Decoder, Device, DumpMemory

_NOBODY: Mapping[PublicKey, PeerState] = {}


def decode_dump(
    payloads: Iterable[bytes], known: Mapping[PublicKey, PeerState] = _NOBODY, *,
    endpoints: bool = True, memory: DumpMemory | None = None,
) -> Device:  # fmt: skip
    """The Device that the messages of one complete dump describe.

    ``known``: the peers of an earlier dump. ``memory``: in its place, all that earlier dumps have shown. ValueError: the
    messages are no such dump.
    """
    decoder = Decoder(memory or DumpMemory({key: one.config for key, one in known.items()}), endpoints=endpoints)
    for data in payloads:
        decoder.append(data)
    return decoder.device()
