"""A machine whose boot and uptime only tests change."""

from __future__ import annotations

from collections.abc import Callable

from wgsyncd.core.identity import Identity


class FakeMachine:
    """Implements the port Machine. ``seconds``: the uptime, which goes on with ``clock``."""

    def __init__(
        self, host: str = "alpha", boot: str = "fake-boot-1", namespace: str = "1", machine: str = "", folder: str = "1"
    ) -> None:
        self.folder = folder
        self.host, self.boot, self.namespace, self.machine = host, boot, namespace, machine or f"id of {host}"
        self.clock: Callable[[], float] = lambda: 0.0
        self.seconds = 1000.0
        self.revision = 0
        self.addresses: set[str] = set()
        self.has_address: Callable[[str], bool] = lambda address: address in self.addresses

    def identity(self) -> Identity:
        return Identity(self.machine, self.namespace, self.boot, self.host, self.folder)

    @property
    def seconds(self) -> float:
        return self._seconds + self.clock() - self._set_at

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._seconds, self._set_at = seconds, self.clock()

    def uptime(self) -> float:
        return self.seconds
