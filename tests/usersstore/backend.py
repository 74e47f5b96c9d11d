"""The backend of users and devices, as wgsyncd.stores finds it. It has no reports for the admin's commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.usersstore.store import UsersStore
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding


class Backend:
    """Makes the store of this control plane. Its database is empty at first."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def store(self, _: Callable[[], object]) -> UsersStore:
        return UsersStore(self._settings)

    def check(self) -> Iterator[Finding]:
        yield from ()
