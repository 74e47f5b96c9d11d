"""Small postings, and a commit that is compared with the stored node state."""

from __future__ import annotations

from tests.samples import NOW, calendar, device_name
from wgsyncd.core.model import DeviceId
from wgsyncd.core.state import Allocation, Posting, WriteBatch
from wgsyncd.ports import Store

BUCKET, DAY = int(NOW // 900) * 900, calendar().day(NOW)


def posted(device: DeviceId, rx: int, tx: int, handshake: float | None = None, day: str = DAY) -> Posting:
    return Posting(device, device_name(device), (Allocation(BUCKET, day, rx, tx),), handshake)


def commit(store: Store, writes: WriteBatch) -> frozenset[DeviceId]:
    """Commits on the present node state. Asserts that the stored node state is then what the store promised."""
    promised, taken, _ = store.commit(store.load_state(calendar()), writes, calendar())
    assert store.load_state(calendar()) == promised
    return taken
