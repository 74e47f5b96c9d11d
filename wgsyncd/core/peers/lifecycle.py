"""Row x peer x now -> the next step in a device's life.

The race at the deadline: the dump was *asked for* after ``now``, so a handshake at or before a deadline that lies
before ``now`` is in it. A step is written only where the row is still as it was when the step was decided (the store's
conditional UPDATE), so an admin's click in between wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from wgsyncd.core.model import (
    Change,
    ChangeKind,
    DeviceRow,
    InterfaceState,
    PublicKey,
    Status,
    Transition,
    decode_key,
)
from wgsyncd.core.reasons import ChangeCause, ChangeReason, Inactive, InactiveReason, TransitionKind

_EXPIRED = ChangeReason(ChangeCause.INACTIVE, inactive=InactiveReason(Inactive.DEADLINE_PASSED))


def is_pending(row: DeviceRow) -> bool:
    """Whether a handshake or a deadline can still change this row."""
    if any(reason.kind is Inactive.DEVICE_INACTIVE for reason in row.inactive):
        return False  # the device itself is off for good; an owner may come back
    return row.status is Status.ISSUED or (row.status is Status.ACTIVE and not row.first_handshake_known)


def _key(row: DeviceRow) -> PublicKey | None:
    try:
        return PublicKey(decode_key(row.public_key))
    except ValueError:
        return None  # cannot have shaken hands


def first_handshakes(
    rows: Iterable[DeviceRow], actual: Mapping[str, InterfaceState], first_seen: Mapping[PublicKey, int]
) -> dict[PublicKey, int]:
    """The earliest handshake seen of each row's key, UNIX nanoseconds: what was known, and what these dumps add."""
    seen: dict[PublicKey, int] = {}
    for row in rows:
        key = _key(row)
        if key is None:
            continue
        latest = [s.peers[key].latest_handshake for s in actual.values() if key in s.peers]
        first = first_seen.get(key) or max(latest, default=0)
        if first:
            seen[key] = first
    return seen


def due_transitions(
    rows: Iterable[DeviceRow],
    interface_of: Mapping[str, str],
    actual: Mapping[str, InterfaceState],
    first_seen: Mapping[PublicKey, int],
    now: float,
    elsewhere: frozenset[str] = frozenset(),
) -> list[Transition]:
    """The steps that are due at ``now`` (UNIX seconds, from before the dumps in ``live``).

    ``interface_of``: the kernel's interface name for the store's. ``first_seen``: see :func:`observe`; a dump has the
    latest handshake only. A row whose interface has no dump gets no step:
    whether it shook hands cannot be known; nor one of another node (``elsewhere``). One that names no interface at all
    cannot have shaken hands.
    """
    steps: list[Transition] = []
    for row in rows:
        if not is_pending(row) or row.interface in elsewhere:
            continue
        interface = interface_of.get(row.interface)
        if interface is not None and interface not in actual:
            continue
        key = _key(row)
        nanoseconds = first_seen.get(key, 0) if key is not None else 0
        handshake = nanoseconds / 1e9
        if row.status is Status.ACTIVE:
            if nanoseconds:
                steps.append(Transition(row, TransitionKind.FIRST_HANDSHAKE, handshake))
        elif nanoseconds and (row.activation_deadline is None or handshake <= row.activation_deadline):
            steps.append(Transition(row, TransitionKind.ACTIVATE, handshake))
        elif row.activation_deadline is not None and now > row.activation_deadline:
            steps.append(Transition(row, TransitionKind.EXPIRE, row.activation_deadline))
    return steps


def with_transitions(rows: Iterable[DeviceRow], steps: Iterable[Transition]) -> tuple[DeviceRow, ...]:
    """The rows as they are once the steps are taken: for what is decided before the store has said so."""
    steps = tuple(steps)
    if not steps:
        return tuple(rows)
    status = {s.row.id: Status.OFF if s.kind is TransitionKind.EXPIRE else Status.ACTIVE for s in steps}
    return tuple(
        replace(row, status=Status.OFF, status_text="expired")
        if status.get(row.id) is Status.OFF
        else replace(row, status=Status.ACTIVE, status_text="active", first_handshake_known=True)
        if row.id in status
        else row
        for row in rows
    )


def expired_removals(
    steps: Iterable[Transition], actual: Mapping[str, InterfaceState], keep: frozenset[PublicKey]
) -> list[Change]:
    """The removals of the live peers whose QR has ended by these steps; never of those in ``keep``."""
    rows = {
        key: step.row for step in steps if step.kind is TransitionKind.EXPIRE and (key := _key(step.row)) is not None
    }
    return [
        Change(
            ChangeKind.REMOVE, name, key, found.config, None, rows[key].id, rows[key].device, rows[key].owner,
                )
        for name, state in actual.items()
        for key, found in state.peers.items()
        if key in rows and key not in keep
    ]  # fmt: skip


def deadlines(rows: Iterable[DeviceRow]) -> list[float]:
    """The QR ends that lie ahead of these rows or behind them, UNIX seconds, the earliest first."""
    return sorted(
        row.activation_deadline
        for row in rows
        if row.status is Status.ISSUED and row.activation_deadline is not None and is_pending(row)
    )
