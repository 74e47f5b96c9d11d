"""Makes the table of devices for `wgsyncd devices` and `wgsyncd status --watch`."""

from collections.abc import Sequence

from wgsyncd.cli.output import Line, Parts, can_draw
from wgsyncd.cli.table import Column, fit, short_bytes, spark
from wgsyncd.core.words import counted, short_age
from wgsyncd.engine.reports.bandwidth import short_bandwidth
from wgsyncd.engine.reports.devices import DeviceReport, DevicesReport

COLUMNS = (
    Column(""),
    Column("device", most=20),
    Column("owner", rank=6, most=16),
    Column("status", rank=4, most=10),
    Column("address", rank=3, most=24),
    Column("interface", rank=8),
    Column("handshake", right=True),
    Column("in/s", rank=2, right=True),
    Column("out/s", rank=2, right=True),
    Column("24h", rank=1, right=True),
    Column("month", rank=5, right=True),
    Column("last 24 hours", rank=7),
    Column("bandwidth", rank=9, most=48),
    Column("reaches", rank=9, most=24),
    Column("why", rank=10, most=34),
)
_SOUGHT = {"status": 1, "why": 7}  # the ranks of columns that tell what is wrong, if it is with any device
_KINDS = {"live": "", "waiting": "warning", "leaving": "warning", "rejected": "warning", "off": "dim"}


def lines(report: DevicesReport, width: int) -> list[Parts]:
    """The table, with its head, at most ``width`` cells wide. No device: no lines."""
    if not report.devices:
        return []
    columns = [one._replace(head=report.owner_word) if one.head == "owner" else one for one in COLUMNS]
    if any(one.state not in ("live", "off") for one in report.devices):  # that is what people look for
        columns = [one._replace(rank=_SOUGHT.get(one.head, one.rank)) for one in columns]
    return list(fit(columns, [_row(one) for one in report.devices], width))


def summary(report: DevicesReport) -> str:
    """How many devices there are, and how many of them the table shows."""
    text = f"{counted(report.count, 'device')}, {report.online} online"
    shown = len(report.devices)
    if shown < report.matching:
        return f"{text}, {shown} of {report.matching} shown"
    return f"{text}, {shown} shown" if shown < report.count else text


def _row(one: DeviceReport) -> Sequence[Line]:
    dot, no_dot = ("●", "○") if can_draw("●○") else ("*", "")
    kind = _KINDS.get(one.state, "held")
    status = one.status if one.state == "live" or one.why == f"device {one.status}" else one.state
    figures = [
        sum((some.rx, some.tx)) if (some := one.bytes.get(name)) is not None else None for name in ("24h", "month")
    ]
    rates = (one.rx_rate, one.tx_rate) if one.state not in ("off", "waiting") else (None, None)
    return (
        (dot if one.online else no_dot, "ok" if one.online else "dim"),
        (one.name or one.device, "dim" if one.state == "off" else ""),
        (one.owner, ""),
        (status, kind),
        (", ".join(one.addresses), ""),
        (one.interface, ""),
        (short_age(one.handshake_age), "ok" if one.online else "dim"),
        *((short_bytes(rate) if rate is not None else "", "" if rate else "dim") for rate in rates),
        *((short_bytes(figure) if figure is not None else "", "" if figure else "dim") for figure in figures),
        (spark(one.hours or ()) if can_draw("█") else "", "rx"),
        (short_bandwidth(one.bandwidth), "warning" if one.bandwidth is not None and one.bandwidth.slowed_to else ""),
        (one.reached, ""),
        (one.why, kind),
    )
