"""Makes the parts of the status report about the last changes and about rows that cannot be changed."""

from zoneinfo import ZoneInfo

from msgspec import Struct

from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.engine.reports.plan import iso
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.redact import redact


class RefusedRow(Struct, frozen=True, kw_only=True):
    """A row that the database refuses to change. The bytes of its device wait."""

    device: str
    name: str  # what people call it, or ""
    error: str
    since: str


class RecentChange(Struct, frozen=True, kw_only=True):
    """One of the last changes of peers, devices or the configuration."""

    at: str
    change: str
    interface: str
    device: str
    name: str  # what people call it, or ""
    text: str


def refused_rows(status: DaemonStatus, zone: ZoneInfo, labels: Labels) -> list[RefusedRow]:
    """The rows that the database refuses to change."""
    return [
        RefusedRow(
            device=redact(one.device),
            name=redact(labels.of(one.device)),
            error=redact(one.detail),
            since=iso(one.since, zone) or "",
        )
        for one in status.rows_set_aside(Obstacle.REFUSED)
    ]


def recent_changes(status: DaemonStatus, zone: ZoneInfo, labels: Labels) -> list[RecentChange]:
    """The last changes, the newest one first."""
    return [
        RecentChange(
            at=iso(one.at, zone) or "",
            change=one.what,
            interface=one.interface,
            device=redact(one.device),
            name=redact(labels.of(one.device)),
            text=redact(labels.put_into(one.text)),
        )
        for one in reversed(status.recent)
    ]
