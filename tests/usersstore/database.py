"""The tables of users and devices, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.memorytables import OwnTables


@dataclass(frozen=True)
class UserDevice:
    """One device of a user. ``gateway`` is the interface that serves it. Times are UNIX seconds."""

    id: UUID
    name: str
    user: str
    gateway: str
    addresses: tuple[str, ...]
    public_key: str | None
    preshared_key: str | None = field(default=None, repr=False)
    state: str = "active"  # any other word means that the device has no access
    first_seen: float | None = None
    last_seen: float | None = None


@dataclass
class UsersDatabase(OwnTables):
    """Holds the tables of one control plane. The stores of all nodes share it."""

    devices: dict[Any, UserDevice] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=lambda: {"alice": "active"})  # state by user
    quota: dict[str, int] = field(default_factory=dict)  # how many devices a user may have, by user. Default: any
    audit: list[dict[str, Any]] = field(default_factory=list)  # JSON documents
