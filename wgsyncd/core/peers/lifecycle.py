"""Transitions: which rows become active or expired, given the actual peers and the time.

A handshake just before the deadline is not lost, because every dump is requested after ``now`` was read. If the
deadline is before ``now``, a handshake until the deadline is in the dump.

The store makes a transition by a conditional UPDATE, only if the row is unchanged since the decision. So an admin's
change in between wins.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from wgsyncd.core.model import (
    EARLIEST,
    Change,
    ChangeKind,
    DeviceId,
    DeviceRow,
    InterfaceState,
    PublicKey,
    Status,
    Transition,
)
from wgsyncd.core.reasons import ChangeCause, ChangeReason, Inactive, InactiveReason, TransitionKind

ISSUE_SKEW = 180  # seconds by which a handshake may be before the date of issue: clocks differ

IssueId = tuple[DeviceId, float]
"""What identifies an issue of a row's code: the row's id, and from when on a handshake counts (UNIX seconds)."""

_EXPIRED = ChangeReason(ChangeCause.INACTIVE, inactive=InactiveReason(Inactive.DEADLINE_PASSED))


def is_pending(row: DeviceRow) -> bool:
    """Whether a handshake or a deadline can still change this row."""
    if row.status is not Status.ISSUED and (row.status is not Status.ACTIVE or row.first_handshake_known):
        return False
    # An inactive device stays inactive, but an inactive owner may become active again.
    return not any(reason.kind is Inactive.DEVICE_INACTIVE for reason in row.inactive)


def counts(row: DeviceRow, handshake: int) -> bool:
    """Whether a handshake (UNIX nanoseconds) can be the scan of the row's present QR code."""
    return handshake >= EARLIEST and (row.scanned_from is None or handshake >= row.scanned_from * 1e9)


def issued_by(
    rows: Iterable[DeviceRow], read_at: Mapping[IssueId, float], now: float
) -> tuple[list[DeviceRow], dict[IssueId, float]]:
    """The rows, none of them issued after it was read, and when each row with such a date was read first.

    A date of issue in the future is of another time zone or of a wrong clock. It would hide the scan until then.
    ``read_at``: the second result of the last call. ``now``: when ``rows`` were read, like all times in UNIX seconds.
    """
    found, known = list[DeviceRow](), dict[IssueId, float]()
    for row in rows:
        since = row.scanned_from
        if since is not None and (since > now or (row.id, since) in read_at):
            at = known[row.id, since] = read_at.get((row.id, since), now)
            since = min(since, at - ISSUE_SKEW)
        found.append(row if since == row.scanned_from else replace(row, scanned_from=since))
    return found, known


def first_handshakes(
    rows: Iterable[DeviceRow], actual: Mapping[str, InterfaceState], first_seen: Mapping[PublicKey, int]
) -> dict[PublicKey, int]:
    """The earliest handshake seen for the key of each row, in UNIX nanoseconds. Keys without a handshake are left out.

    ``first_seen``: the handshakes that earlier calls returned. They are needed because a dump has only the latest one.
    A handshake of a former issue of the row does not count.
    """
    seen: dict[PublicKey, int] = {}
    for key, row in {key: row for row in rows if (key := row.key) is not None}.items():
        latest = (s.peers[key].latest_handshake for s in actual.values() if key in s.peers)
        first = first_seen.get(key, 0)
        if not first or not counts(row, first):
            first = max((one for one in latest if counts(row, one)), default=0)
        if first:
            seen[key] = first
    return seen


def due_transitions(
    rows: Iterable[DeviceRow],
    interface_of: Mapping[str, str],
    actual: Mapping[str, InterfaceState],
    first_seen: Mapping[PublicKey, int],
    now: float,
    ignored_interfaces: frozenset[str] = frozenset(),
) -> list[Transition]:
    """The transitions that are due at ``now`` (UNIX seconds, read before the dumps in ``actual`` were requested).

    ``interface_of``: the kernel's name of an interface by the store's name. ``first_seen``: the result of
    :func:`first_handshakes`. ``ignored_interfaces``: the store's names of the interfaces of other nodes.

    Rows of other nodes get no transition. A row whose interface has no dump gets none, because nobody knows whether
    its device had a handshake. If ``interface_of`` does not know the interface, there is no dump to wait for.
    """
    due: list[Transition] = []
    for row in rows:
        if not is_pending(row) or row.interface in ignored_interfaces:
            continue
        interface = interface_of.get(row.interface)
        if interface is not None and interface not in actual:
            continue
        key = row.key
        nanoseconds = first_seen.get(key, 0) if key is not None else 0
        handshake = nanoseconds / 1e9
        if row.status is Status.ACTIVE:
            if nanoseconds:
                due.append(Transition(row, TransitionKind.FIRST_HANDSHAKE, handshake))
            continue
        # If the store has an earlier handshake than anybody saw, another program or another database wrote it.
        first = min(filter(None, (row.first_handshake, handshake)), default=None)
        if first is not None and (row.activation_deadline is None or first <= row.activation_deadline):
            due.append(Transition(row, TransitionKind.ACTIVATE, first))
        elif row.activation_deadline is not None and now > row.activation_deadline:
            due.append(Transition(row, TransitionKind.EXPIRE, row.activation_deadline))
    return due


def with_transitions(rows: Iterable[DeviceRow], transitions: Iterable[Transition]) -> tuple[DeviceRow, ...]:
    """The rows as they will be once the store has made ``transitions``, for decisions before that."""
    kinds = {transition.row.id: transition.kind for transition in transitions}
    return tuple(_after(row, kinds[row.id]) if row.id in kinds else row for row in rows)


def _after(row: DeviceRow, kind: TransitionKind) -> DeviceRow:
    status = Status.EXPIRED if kind is TransitionKind.EXPIRE else Status.ACTIVE
    known = row.first_handshake_known or status is Status.ACTIVE
    return replace(row, status=status, status_text=status.value, first_handshake_known=known)


def expired_removals(
    transitions: Iterable[Transition], actual: Mapping[str, InterfaceState], keep: frozenset[PublicKey]
) -> list[Change]:
    """The removals of the actual peers whose rows expire by ``transitions``, but none with a key in ``keep``."""
    rows = {
        key: one.row for one in transitions if one.kind is TransitionKind.EXPIRE and (key := one.row.key) is not None
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
    """The past and future activation deadlines of the pending issued rows, in UNIX seconds, the earliest first."""
    return sorted(
        row.activation_deadline
        for row in rows
        if row.status is Status.ISSUED and row.activation_deadline is not None and is_pending(row)
    )
