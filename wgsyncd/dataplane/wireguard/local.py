"""The WireGuard interfaces of this machine, whoever carries them: found out each time, as wg(8) does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wgsyncd.core.model import Change, InterfaceState
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.dataplane.wireguard.userspace import SOCKETS, UserspaceWireGuard
from wgsyncd.ports import FailedChange, NewInterface

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # proc(5): random, the same until the next boot


class LocalWireGuard:
    """A process that answers on an interface's socket is its userspace WireGuard; else the kernel is asked.

    ``timeout``: seconds that either may take for one answer. ``endpoints``: whether peers' addresses are wanted.
    """

    def __init__(self, timeout: float = 5.0, sockets: Path = SOCKETS, *, endpoints: bool = True) -> None:
        boot_id = _BOOT_ID.read_text().strip()
        self._kernel = KernelWireGuard(boot_id, timeout, endpoints=endpoints)
        self._userspace = UserspaceWireGuard(boot_id, timeout, sockets)

    @property
    def retries(self) -> int:
        """Dumps read again since start because they were torn; a userspace WireGuard's never are."""
        return self._kernel.retries

    def read(self, interface: str) -> InterfaceState:
        """One complete, untorn dump."""
        return self._side(interface).read(interface)

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        """Make the changes; those that were refused come back."""
        return self._side(interface).apply(interface, changes)

    def create(self, creation: NewInterface) -> None:
        """Make an interface of the kernel. One of userspace is made by its own service and then found by itself."""
        self._kernel.create(creation)

    def close(self) -> None:
        """Give back the netlink socket."""
        self._kernel.close()

    def _side(self, interface: str) -> KernelWireGuard | UserspaceWireGuard:
        return self._userspace if self._userspace.carries(interface) else self._kernel
