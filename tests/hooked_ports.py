"""Kernel, store and spool in memory, each with a hook at every call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from tests.fakes import FakeWireGuard
from tests.fakespool import FakeSpool
from tests.fakestore import FakeStore
from tests.memorystore import MemoryStore
from tests.usersstore.store import UsersStore
from wgsyncd.core.model import Change, ChangeKind, DeviceRow, InterfaceState, PublicKey
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.core.state import CommitResult, NodeState, WriteBatch
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import SpoolCorrupt, StoreError
from wgsyncd.ports import DeviceSource, Snapshot

Hook = Callable[[str, str], None]  # the port, and "before …" or "after …" with the name of the call


class Kernel(FakeWireGuard):
    """The kernel in memory, with a hook at every read and every change. Each change is one message.

    ``looked`` is called with every dump, ``removed`` after every attempt to remove a peer.
    """

    hook: Hook = staticmethod(lambda port, where: None)
    looked: Callable[[InterfaceState], None] = staticmethod(lambda state: None)
    removed: Callable[[str, PublicKey], None] = staticmethod(lambda interface, key: None)

    def read(self, interface: str) -> InterfaceState:
        self.hook("kernel", "before read")
        state = super().read(interface)
        self.hook("kernel", "after read")
        self.looked(state)
        return state

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        failed = []
        for change in changes:
            self.hook("kernel", "before change")
            try:
                failed += super().apply(interface, [change])
            finally:
                if change.kind is ChangeKind.REMOVE:
                    self.removed(interface, change.public_key)
            self.hook("kernel", "after change")
        return failed


class HookedStore(MemoryStore[Any]):
    """A store in memory, with a hook at every call. ``written`` is called after every commit, even a failed one."""

    hook: Hook = staticmethod(lambda port, where: None)
    written: Callable[[], None] = staticmethod(lambda: None)

    def snapshot(self) -> Snapshot:
        self.hook("store", "before snapshot")
        found = super().snapshot()
        self.hook("store", "after snapshot")
        return found

    def load_state(self, calendar: UsageCalendar, *, create: bool = True) -> NodeState:
        self.hook("store", "before load_state")
        found = super().load_state(calendar, create=create)
        self.hook("store", "after load_state")
        return found

    def commit(self, node_state: NodeState, writes: WriteBatch, calendar: UsageCalendar) -> CommitResult:
        self.hook("store", "before commit")
        try:
            done = super().commit(node_state, writes, calendar)
        finally:
            self.written()
        self.hook("store", "after commit")
        return done

    def load_devices(self, devices: frozenset[str]) -> tuple[DeviceRow, ...] | None:
        self.hook("store", "before load_devices")
        found = super().load_devices(devices)
        self.hook("store", "after load_devices")
        return found

    def refresh(self, calendar: UsageCalendar) -> tuple[int, int]:
        self.hook("store", "before refresh")
        refreshed = super().refresh(calendar)
        self.hook("store", "after refresh")
        return refreshed


class HookedFakeStore(HookedStore, FakeStore):
    """The store of mikyun_cloud in memory, with hooks."""


class HookedUsersStore(HookedStore, UsersStore):
    """The store of tests/usersstore, with hooks."""


class Spool(FakeSpool):
    """The spool in memory, with a hook at every call. ``saved`` is called after a save, ``lost`` after damage."""

    hook: Hook = staticmethod(lambda port, where: None)
    saved: Callable[[], None] = staticmethod(lambda: None)
    lost: Callable[[], None] = staticmethod(lambda: None)
    ok = True  # whether the last save succeeded

    def load(self) -> Backlog | None:
        self.hook("spool", "before load")
        try:
            return super().load()
        except SpoolCorrupt:
            self.lost()
            raise

    def save(self, backlog: Backlog) -> None:
        before, self.ok = self.saves, False
        self.hook("spool", "before save")
        try:
            super().save(backlog)
        finally:
            if self.saves > before:
                self.ok = True
                self.saved()
        self.hook("spool", "after save")


def try_digest(store: DeviceSource) -> object:
    """The digest, as the daemon reads it before each reconcile. None if the store does not answer."""
    with contextlib.suppress(StoreError):
        return store.digest()
    return None
