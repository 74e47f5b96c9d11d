"""Tells which machine, network namespace and boot this process runs in."""

import contextlib
import fcntl
import hashlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from wgsyncd.core.identity import Identity
from wgsyncd.engine.status import LinkState

_MACHINE_ID = Path("/etc/machine-id")  # machine-id(5): the same in a careless clone
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # proc(5): random, the same until the next boot
_LINKS = Path("/sys/class/net")
_NAMESPACE = "/proc/self/ns/net"
_IFF_UP = 1  # uapi/linux/if.h
_SIOCGIFFLAGS, _IFREQ = 0x8913, struct.Struct("16sH22x")  # netdevice(7)
_PERMANENT = "0"  # addr_assign_type in uapi/linux/netdevice.h


def link(name: str) -> LinkState:
    """The state of the network interface of this name. Any thread may ask: the answer comes without netlink."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as kernel:
        try:
            answer = fcntl.ioctl(kernel, _SIOCGIFFLAGS, _IFREQ.pack(os.fsencode(name), 0))
        except OSError:
            return LinkState.MISSING
    return LinkState.UP if _IFREQ.unpack(answer)[1] & _IFF_UP else LinkState.DOWN


def links(names: Iterable[str]) -> dict[str, LinkState]:
    """The states of these interfaces, by name."""
    return {name: link(name) for name in names}


class LocalMachine:
    """Implements :class:`wgsyncd.ports.Machine`. The identity is read once, when this object is made.

    The file "revision" in ``folder`` keeps the revision. After a power cut it may be an older one. So the node state of
    the store never has a lower revision, unless it was put back. Without a folder or a readable file, the revision is
    0: nothing is known. ``locked``: the result of :func:`wgsyncd.daemon.lock.lock_folder`. ``has_address``: see
    :class:`wgsyncd.ports.Machine`.
    """

    def __init__(
        self, folder: Path | None = None, locked: str = "", has_address: Callable[[str], bool] = lambda _: False
    ) -> None:
        self.has_address = has_address
        self._file, self._noted = folder and folder / "revision", 0
        with contextlib.suppress(OSError, ValueError):
            self._noted = int(self._file.read_text()) if self._file else 0
        boot, namespace = _BOOT_ID.read_text().strip(), str(os.stat(_NAMESPACE).st_ino)
        self._identity = Identity(_digest(boot), namespace, boot, socket.gethostname(), locked)

    @property
    def revision(self) -> int:
        return self._noted

    @revision.setter
    def revision(self, revision: int) -> None:
        if self._file is None or revision == self._noted:
            return
        with contextlib.suppress(OSError):
            try:
                file = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except PermissionError:  # It is root's, after a start by hand. The directory is ours.
                self._file.unlink()
                file = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(file, b"%-20d\n" % revision)  # in place: a kill leaves the old or the new number
            finally:
                os.close(file)
        self._noted = revision

    def identity(self) -> Identity:
        return self._identity

    def uptime(self) -> float:
        """The clock of clock_gettime(2), because a file needs a descriptor."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def _digest(boot: str) -> str:
    """A digest of the machine id and of the permanent addresses of the network cards, which a clone does not keep.

    machine-id(5) asks programs not to store the machine id itself. A machine without both is another one at each boot.
    """
    machine_id = ""
    with contextlib.suppress(OSError):
        machine_id = _MACHINE_ID.read_text().strip()
    parts = [machine_id, *sorted(_permanent_addresses())]
    text = "\n".join(parts if any(parts) else [boot])
    return hashlib.blake2b(text.encode(), digest_size=16, person=b"wgsyncd.machine").hexdigest()


def _permanent_addresses() -> Iterator[str]:
    for link in _LINKS.glob("*"):
        with contextlib.suppress(OSError):
            bonded = link / "bonding_slave" / "perm_hwaddr"  # a bond gives its cards another address
            if bonded.exists():
                yield bonded.read_text().strip()
            elif (link / "device").exists() and (link / "addr_assign_type").read_text().strip() == _PERMANENT:
                yield (link / "address").read_text().strip()
