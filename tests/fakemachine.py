"""A machine whose boot and uptime only tests change."""

from __future__ import annotations

from wgsyncd.core.identity import Identity


class FakeMachine:
    """Implements the port Machine. ``seconds``: the uptime."""

    def __init__(self, host: str = "alpha", boot: str = "fake-boot-1", namespace: str = "1", machine: str = "") -> None:
        self.host, self.boot, self.namespace, self.machine = host, boot, namespace, machine or f"id of {host}"
        self.seconds = 1000.0

    def identity(self) -> Identity:
        return Identity(self.machine, self.namespace, self.boot, self.host)

    def uptime(self) -> float:
        return self.seconds
