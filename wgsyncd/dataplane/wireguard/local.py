"""The WireGuard interfaces of this machine, each provided by the kernel or by a process."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from wgsyncd.core.model import Change, InterfaceState
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.dataplane.wireguard.userspace import SOCKETS, UserspaceWireGuard
from wgsyncd.errors import InterfaceMissing, ModuleMissing
from wgsyncd.ports import NewInterface

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # proc(5): random, the same until the next boot


class LocalWireGuard:
    """Uses the process that answers on an interface's socket, otherwise the kernel, as wg(8) does.

    ``timeout``: seconds that one answer may take. ``endpoints``: whether dumps contain the peers' endpoints.
    """

    def __init__(self, timeout: float = 5.0, sockets: Path = SOCKETS, *, endpoints: bool = True) -> None:
        boot_id = _BOOT_ID.read_text().strip()
        self._kernel = KernelWireGuard(boot_id, timeout, endpoints=endpoints)
        self._userspace = UserspaceWireGuard(boot_id, timeout, sockets)

    @property
    def retries(self) -> int:
        """Dumps that were read again since start because they were interrupted. Only the kernel's can be."""
        return self._kernel.retries

    def read(self, interface: str) -> InterfaceState:
        try:
            return self._side(interface).read(interface)
        except ModuleMissing as error:
            if shutil.which("wireguard-go") is None:
                raise
            # The kernel's module would not help: this server has WireGuard as a process.
            why = f"no process such as wireguard-go provides it: systemctl restart wg-quick@{interface}"
            raise InterfaceMissing(interface, error.name, why) from error

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        return self._side(interface).apply(interface, changes)

    def create(self, creation: NewInterface) -> None:
        """Make an interface of the kernel. A service of its own makes a userspace interface."""
        self._kernel.create(creation)

    def close(self) -> None:
        self._kernel.close()

    def _side(self, interface: str) -> KernelWireGuard | UserspaceWireGuard:
        return self._userspace if self._userspace.carries(interface) else self._kernel
