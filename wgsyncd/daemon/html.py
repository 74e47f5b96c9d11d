"""Parts of the page: elements with escaped text, tables, and the chart of an interface."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.core.words import short_age
from wgsyncd.engine.status import QUARTER, QUARTERS, Quarter
from wgsyncd.redact import escape_control, with_config

WIDTH, HEIGHT = 960, 96  # of a chart


def tag(kind: str, /, *inside: Element | str, **attributes: str) -> Element:
    """An element. A text has its control characters escaped. ``class_`` and ``http_equiv`` are class and http-equiv."""
    made = Element(kind, {key.rstrip("_").replace("_", "-"): _shown(one) for key, one in attributes.items()})
    for one in inside:
        if isinstance(one, Element):
            made.append(one)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + _shown(one)
        else:
            made.text = (made.text or "") + _shown(one)
    return made


def _shown(text: str) -> str:
    return escape_control(with_config(text))


def table(heads: Sequence[Element], rows: Sequence[Sequence[Element]], kind: str = "") -> Element:
    body = tag("tbody", *(tag("tr", *row) for row in rows))
    return tag("table", tag("thead", tag("tr", *heads)), body, class_=kind)


def cell(head: str, text: str, kind: str = "", **attributes: str) -> Element:
    """A cell. A narrow screen shows the head in front of it."""
    return tag("td", text, data_head=head, class_=kind, **attributes)


def rate(amount: float | None) -> str:
    """Bytes per second."""
    return "-" if amount is None else format_bytes(int(amount))


def ago(seconds: int | None) -> str:
    """How long ago something was, in its largest unit."""
    return short_age(seconds) if seconds is None else f"{short_age(seconds)} ago"


def chart(about: str, quarters: Sequence[Quarter], now: float) -> Element:
    """Bars of the last 24 hours: below what came in, above what went out. ``now``: UNIX seconds."""
    last, most = int(now) // QUARTER, max((one.rx + one.tx for one in quarters), default=0) or 1
    bars = {"rx": "", "tx": ""}
    for one in quarters:
        left = (QUARTERS - 1 - (last - one.start // QUARTER)) * WIDTH // QUARTERS
        rx, whole = (round(amount * HEIGHT / most) for amount in (one.rx, one.rx + one.tx))
        for name, low, high in (("rx", 0, rx), ("tx", rx, whole)):
            if high > low and left >= 0:
                bars[name] += f"M{left} {HEIGHT - low}v{low - high}h{WIDTH // QUARTERS - 1}v{high - low}z"
    lines = "".join(f"M{at * WIDTH // 4} 0v{HEIGHT}" for at in range(5))
    paths = [tag("path", d=drawn, class_=name) for name, drawn in (("grid", lines), *bars.items()) if drawn]
    return tag("svg", *paths, viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", role="img", aria_label=about)
