"""The side of an admin on the control plane of tests/usersstore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from tests.admins import UsersAdmin
from tests.store_sides import node_config
from tests.usersstore.store import UsersStore
from wgsyncd.config.load import parse
from wgsyncd.core.model import Counters
from wgsyncd.ports import Store


class UsersTables:
    """Implements AnyTables on the control plane of tests/usersstore."""

    def __init__(self) -> None:
        self.admin = UsersAdmin()
        self.stores: list[UsersStore] = []

    def id(self, number: int) -> UUID:
        return self.admin.id(number)

    def posted(self, number: int) -> Counters:
        return self.admin.posted(number)

    def store(self, extra: str = "", **node: Any) -> Store:
        self.stores.append(self.admin.store(parse(node_config(**node) + extra)))
        return self.stores[-1]

    def move(self, number: int, interface: str) -> None:
        self.admin.change(number, interface=interface)

    def insert(self, number: int) -> None:
        self.admin.insert(number)

    def delete(self, number: int) -> None:
        del self.admin.db.devices[self.admin.id(number)]

    @contextmanager
    def locked(self, number: int) -> Iterator[None]:
        for store in self.stores:
            store.locked.add(self.id(number))
        yield
        for store in self.stores:
            store.locked.discard(self.id(number))

    def logs(self) -> list[Any]:
        return list(self.admin.db.audit)

    def days(self) -> dict[tuple[str, str], Counters]:
        return dict(self.admin.db.days)

    def buckets(self) -> dict[tuple[str, int], Counters]:
        return dict(self.admin.db.buckets)
