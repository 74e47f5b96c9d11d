"""What a refusal of the kernel or of a process says, and which changes it is about."""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from wgsyncd.core.model import Change
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.errors import InterfaceMissing, WireGuardError

Payload = TypeVar("Payload")

TEXTS = {
    errno.ENODEV: "no such interface",
    errno.EOPNOTSUPP: "is not a WireGuard interface",
    errno.EPERM: "not permitted: CAP_NET_ADMIN is needed",
    errno.ENOENT: "this kernel has no WireGuard, or its module is not loaded: modprobe wireguard",
    errno.ETIMEDOUT: "the kernel did not answer",
}
_NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}  # Python calls this number ENOTSUP.


def errno_name(number: int) -> str:
    """The name of an errno, or the number itself if it has no name."""
    return _NAMES.get(number, str(number))


def kernel_error(interface: str, number: int) -> WireGuardError:
    """The error for an errno of the kernel. ENODEV becomes InterfaceMissing."""
    kind = InterfaceMissing if number == errno.ENODEV else WireGuardError
    return kind(interface, errno_name(number), TEXTS.get(number) or os.strerror(number))


def apply_changes(
    changes: Sequence[Change],
    split: Callable[[Sequence[Change]], Iterable[tuple[Payload, Sequence[Change]]]],
    send: Callable[[Payload], int],
) -> list[FailedChange]:
    """Send changes batch by batch. A refused batch is sent again change by change. Returns the refused changes.

    ``split`` makes batches, each with its payload. ``send`` returns the errno, 0 = done. The receiver takes the peers
    of a batch in order and stops at the first error. To send the peers before it once more changes nothing.
    """
    failed: list[FailedChange] = []
    for payload, batch in split(changes):
        number = send(payload)
        if number and len(batch) > 1:
            for change in batch:
                failed += apply_changes([change], split, send)
        elif number:
            failed.append(FailedChange(batch[0], errno_name(number), os.strerror(number)))
    return failed
