"""Keeps the postings of rows that cannot be changed, until the rows can be changed again.

A row can be locked, or the server can refuse its change. Three rules keep every byte in one place:

1. The transaction that moves a baseline posts the bytes to the device's columns and history, or it sets them aside.
2. One transaction posts what is set aside and deletes it here. The row of the node is locked meanwhile, and every
   transaction that sets something aside changes that row.
3. Bytes only add up, and the latest handshake wins. So later bytes may be posted before those that are set aside.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from wgsyncd.core.model import DeviceId
from wgsyncd.core.state import Allocation, Posting, merge_postings
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.pieces import lock_node
from wgsyncd.stores.mikyun.reading import stored_id
from wgsyncd.stores.own_values import stored_time

AT_ONCE = 100  # devices that one transaction posts
_COLUMNS = "node, device, start, day, row_id, rx, tx, handshake, reason, detail, since"
_ADD = """ON DUPLICATE KEY UPDATE rx = wgsyncd_set_aside.rx + VALUES(rx), tx = wgsyncd_set_aside.tx + VALUES(tx),
    handshake = GREATEST(wgsyncd_set_aside.handshake, VALUES(handshake)), row_id = VALUES(row_id),
    reason = GREATEST(wgsyncd_set_aside.reason, VALUES(reason)),
    detail = IF(VALUES(detail) = '', wgsyncd_set_aside.detail, VALUES(detail))"""
_NO_DAY = "1970-01-01"  # of a posting without bytes


class Waiting(NamedTuple):
    """A posting that cannot be made now, and why."""

    posting: Posting
    obstacle: Obstacle
    detail: str = ""  # the server's error


class Aside:
    """Reads and writes what one node has set aside. It remembers the devices with a refused row."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._known: dict[str, Obstacle] | None = None  # by device. None: the table was not read yet
        self._last = ""  # the device that was tried last

    def forget(self) -> None:
        """Forget what is remembered: the database may have something else."""
        self._known = None

    def known(self, connection: Connection) -> dict[str, Obstacle]:
        """The devices with something set aside, and why."""
        if self._known is None:
            self._known = {one.device: one.obstacle for one in self.all(connection)}
        return self._known

    def refused(self, connection: Connection) -> Set[str]:
        """The devices with a row that the server refused to change. Their postings are set aside at once."""
        return {device for device, obstacle in self.known(connection).items() if obstacle is Obstacle.REFUSED}

    def hold(self, connection: Connection, held: Sequence[Waiting], calendar: UsageCalendar) -> None:
        """Set postings aside in the open transaction."""
        quote, rows = connection.quote, list[str]()
        for posting, obstacle, detail in held:
            nothing = Allocation(None, _NO_DAY, 0, 0)
            for number, piece in enumerate(posting.allocations or (nothing,)):
                handshake = 0.0 if number or posting.handshake is None else posting.handshake
                rows.append(
                    f"({quote(self._node)},{quote(posting.device)},{piece.bucket or 0},'{piece.day}',"
                    f"{stored_id(posting.row_id)},{piece.rx},{piece.tx},{handshake!r},'{obstacle}',{quote(detail[:255])},{calendar.now!r})"
                )
            if self._known is not None and self._known.get(posting.device) is not Obstacle.REFUSED:
                self._known[posting.device] = obstacle
        if rows:
            connection.execute(
                f"INSERT INTO wgsyncd_set_aside ({_COLUMNS}) VALUES {', '.join(rows)} {_ADD}"  # noqa: S608
            )

    def rename(self, connection: Connection, row_id: DeviceId, old: str, new: str) -> None:
        """The device of a row has another name: the open transaction gives the new name what is set aside for it."""
        if old not in self.known(connection):
            return
        quote = connection.quote
        connection.execute(
            f"""INSERT INTO wgsyncd_set_aside ({_COLUMNS})
                SELECT node, {quote(new)}, start, day, row_id, rx, tx, handshake, reason, detail, since
                FROM wgsyncd_set_aside o WHERE node = {quote(self._node)} AND device = {quote(old)} AND row_id = %s
                {_ADD}""",  # noqa: S608
            (row_id,),
        )
        connection.execute(f"DELETE FROM wgsyncd_set_aside {self._of(connection, {old})} AND row_id = %s", (row_id,))  # noqa: S608
        self.forget()

    def parts(self, connection: Connection) -> Iterator[list[str]]:
        """The devices with something set aside, some at a time. The first one follows the last one of before."""
        devices = sorted(self.known(connection), key=lambda device: (device <= self._last, device))
        for at in range(0, len(devices), AT_ONCE):
            self._last = devices[min(at + AT_ONCE, len(devices)) - 1]
            yield devices[at : at + AT_ONCE]

    def take(self, connection: Connection, devices: Iterable[str]) -> tuple[Posting, ...]:
        """The postings of these devices, which the open transaction then makes or sets aside again.

        The row of the node is locked, so that no other transaction adds to them.
        """
        lock_node(connection, self._node)
        of_devices = self._of(connection, devices)
        found = connection.query(
            f"SELECT row_id, device, start, day, rx, tx, handshake FROM wgsyncd_set_aside {of_devices}"  # noqa: S608
        )
        return merge_postings([
            Posting(row_id, device, (Allocation(start or None, str(day), rx, tx),) if rx or tx else (), at or None)
            for row_id, device, start, day, rx, tx, at in found
        ])  # fmt: skip

    def tell(self, connection: Connection, held: Iterable[Waiting]) -> None:
        """Write in the open transaction why these postings are still set aside."""
        for posting, obstacle, detail in held:
            why = f"reason = '{obstacle}', detail = {connection.quote(detail[:255])}"
            connection.execute(f"UPDATE wgsyncd_set_aside SET {why} {self._of(connection, {posting.device})}")  # noqa: S608

    def release(self, connection: Connection, devices: Set[str]) -> None:
        """Delete in the open transaction what is set aside of these devices: it is posted."""
        if devices:
            connection.execute(f"DELETE FROM wgsyncd_set_aside {self._of(connection, devices)}")  # noqa: S608

    def _of(self, connection: Connection, devices: Iterable[str]) -> str:
        names = ", ".join(map(connection.quote, sorted(devices)))
        return f"WHERE node = {connection.quote(self._node)} AND device IN ({names})"

    def all(self, connection: Connection) -> tuple[SetAside, ...]:
        return load(connection, self._node)


def load(connection: Connection, node: str) -> tuple[SetAside, ...]:
    """All devices of this node with something set aside, in the order of their names."""
    found = connection.query(
        "SELECT device, MAX(reason), MAX(detail), MIN(since) FROM wgsyncd_set_aside WHERE node = %s"
        " GROUP BY device ORDER BY device",
        (node,),
    )
    return tuple(
        SetAside(device, _obstacle(reason), detail, stored_time(since)) for device, reason, detail, since in found
    )


def _obstacle(word: str) -> Obstacle:
    """Why something is set aside. A word that another program wrote counts as a refusal: it is tried again, too."""
    return Obstacle(word) if word in (Obstacle.LATE, Obstacle.LOCKED) else Obstacle.REFUSED
