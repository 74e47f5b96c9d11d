"""Posts later what could not be posted at once: deltas in quarantine, and what was set aside."""

from collections.abc import Collection, Sequence, Set

from wgsyncd.core.audit import AuditEvent
from wgsyncd.core.model import DeviceId
from wgsyncd.core.state import Posting
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.errors import StoreError, StoreErrorCode, UserError
from wgsyncd.stores.mikyun.changing import apart
from wgsyncd.stores.mikyun.pieces import lock_node
from wgsyncd.stores.mikyun.set_aside import Waiting
from wgsyncd.stores.mikyun.targets import NO_ROW, lock_devices
from wgsyncd.stores.mikyun.writing import StateWriter


def post_set_aside(writer: StateWriter, calendar: UsageCalendar, blocked: Set[DeviceId]) -> tuple[SetAside, ...]:
    """Post what is set aside and can be posted now. Returns what is still set aside. ``blocked``: these rows wait.

    After a part with a refused row, the other parts wait for the next call: each refused row costs statements.
    """
    connection, aside = writer.connection, writer.aside
    if not aside.known(connection) or writer.changer.is_tired:
        return aside.all(connection)
    held: list[Waiting] = []

    def work(devices: Sequence[str]) -> None:
        nonlocal held
        found = aside.take(connection, devices)
        waiting = {one.device for one in found if one.row_id in blocked}
        postings = [one for one in found if one.device not in waiting]
        locked, replaced = lock_devices(connection, writer.node, {(one.row_id, one.device) for one in postings})
        held = writer.post(postings, replaced, calendar, dict.fromkeys(locked, (Obstacle.LOCKED, "")))
        aside.tell(connection, held)
        aside.release(connection, {*devices} - waiting - {one.posting.device for one in held})

    for devices in aside.parts(connection):
        apart(connection, devices, work)
        if any(one.obstacle is Obstacle.REFUSED for one in held):
            break
    aside.forget()
    return aside.all(connection)


def resolve_quarantine(
    writer: StateWriter, ids: Collection[int], postings: Sequence[Posting], audit: Sequence[AuditEvent],
    calendar: UsageCalendar,
) -> None:  # fmt: skip
    """Delete deltas from the quarantine and post ``postings``, in one transaction.

    UserError: one of the deltas is not in the quarantine any more, or a device of ``postings`` is gone. StoreError:
    a device's row cannot be changed. In both cases nothing is written.
    """
    places = ", ".join(["%s"] * len(ids))
    which = f"FROM wgsyncd_quarantine WHERE node = %s AND id IN ({places})"
    with writer.connection.transaction():
        lock_node(writer.connection, writer.node)
        found = {row[0] for row in writer.connection.query(f"SELECT id {which}", (writer.node, *ids))}
        if unknown := sorted(set(ids) - found):
            raise UserError(f"{unknown[0]} is no delta in the quarantine of node {writer.node}: nothing is done")
        locked, replaced = lock_devices(writer.connection, writer.node, {(one.row_id, one.device) for one in postings})
        if locked:
            raise StoreError(f"another program has locked row {min(locked)[0]}: try again", StoreErrorCode.LOCKED)
        if gone := [one.device for one in postings if replaced.get((one.row_id, one.device)) == NO_ROW]:
            raise UserError(f"the row of {gone[0]} is gone, so nothing is done: its delta can only be dropped")
        for one in writer.post(postings, replaced, calendar, {}):
            raise StoreError(f"the server refuses to change the row of {one.posting.device}: {one.detail}")
        # Two admins can release the same delta. The slower one deletes fewer rows than it names, and everything
        # that its transaction has posted is rolled back.
        if writer.connection.execute(f"DELETE {which}", (writer.node, *ids)) != len(set(ids)):
            raise UserError("another admin released or dropped one of them meanwhile: nothing is done")
        writer.insert_audit(audit, calendar.now)


def still_quarantined(writer: StateWriter, ids: Collection[int]) -> frozenset[int]:
    """Which of these deltas are still in the quarantine."""
    # The shared lock waits for a transaction that is deleting them now, so the answer is final.
    places = ", ".join(["%s"] * len(ids))
    sql = f"SELECT id FROM wgsyncd_quarantine WHERE node = %s AND id IN ({places}) LOCK IN SHARE MODE"  # noqa: S608
    return frozenset(row[0] for row in writer.connection.query(sql, (writer.node, *ids)))
