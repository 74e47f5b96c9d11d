"""The page: what `wgsyncd status` and `wgsyncd devices` show, for a browser. It changes nothing.

The page is made of the same documents. It has no script, and its one style sheet is in it. Every text goes through
ElementTree, which escapes it. So a name with markup in it stays a name. `metrics.page` turns the page on.
"""

from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.core.words import counted, seconds_between, short_time
from wgsyncd.daemon.choice import EACH, Choice
from wgsyncd.daemon.html import ago, cell, chart, rate, table, tag
from wgsyncd.engine import wording
from wgsyncd.engine.reports.bandwidth import short_bandwidth
from wgsyncd.engine.reports.devices import DeviceReport, DevicesReport, Order
from wgsyncd.engine.reports.status_document import InterfaceReport, StatusReport, Verdict
from wgsyncd.engine.reports.verdict import nobody
from wgsyncd.engine.status import Quarter

REFRESH = 10  # seconds
_COLUMNS: Mapping[str, tuple[str, Order]] = {
    "Device": ("device", "device"),
    "Owner": ("owner", "owner"),
    "Status": ("status", "status"),
    "Address": ("address", "address"),
    "Handshake": ("handshake", "handshake"),
    "In/s": ("number", "rate"),
    "Out/s": ("number", "rate"),
    "24 h": ("number", "24h"),
    "Month": ("number", "month"),
}
"""The columns of the devices: head, class, and the order that a click on the head gives."""


def render(
    choice: Choice,
    status: StatusReport,
    devices: DevicesReport,
    history: Mapping[str, Sequence[Quarter]],
    style: str,
    now: float,
) -> str:
    """The whole page. ``now``: UNIX seconds. Sections that later versions add have their place between these."""
    sections = [
        _section("Interfaces", _interfaces(status), *_charts(status, history, now)),
        _section("Devices", *_devices(choice, devices)),
        *_waiting(status),
        _section("Last changes", _changes(status)),
    ]
    links = [tag("a", one[0].text or "", href=f"#{one.get('id')}") for one in sections]
    header = tag(
        "header", *_verdict(status), tag("p", *_place(choice, status), class_="place"), _links("Sections", links)
    )
    body = tag("body", header, tag("main", *sections))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", f"{status.node}: {WORDS[status.verdict]}"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        *([] if choice.pause else [tag("meta", http_equiv="refresh", content=str(REFRESH))]),
        tag("style"),
    )
    head[-1].text = style  # as it is: a header of the answer names its hash
    return "<!doctype html>\n" + ElementTree.tostring(tag("html", head, body, lang="en"), "unicode", method="html")


def _section(title: str, *inside: Element) -> Element:
    name = title.partition(":")[0].lower().replace(" ", "-")
    return tag("section", tag("h2", title), *inside, id=name)


def _links(about: str, links: Sequence[Element]) -> Element:
    return tag("nav", *(part for one in links for part in (one, " ")), aria_label=about)


# -- the word

WORDS = {Verdict.OK: "OK", Verdict.DEGRADED: "ATTENTION", Verdict.FAILING: "FAILING"}


def _verdict(status: StatusReport) -> Iterator[Element]:
    """The word, the worst that is wrong, and what helps. Below them, everything else that is wrong."""
    word = tag("strong", WORDS[status.verdict], class_="word")
    if not status.troubles:
        peers, online = (sum(getattr(one, name) for one in status.interfaces) for name in ("actual", "online"))
        well = f"{counted(peers, 'peer is as its row wants it', 'peers are as the rows want them')}, {online} online."
        yield tag("h1", word, f" {nobody(status) or well}", class_=status.verdict.value)
        return
    first, *others = status.troubles
    yield tag("h1", word, f" {first.check}: {first.message}", class_=status.verdict.value)
    yield tag("p", "What helps: ", tag("code", first.fix), class_="more")
    if others:
        helps = [tag("li", f"{one.check}: {one.message}. ", tag("code", one.fix)) for one in others]
        yield tag("ul", *helps, class_="more")


def _place(choice: Choice, status: StatusReport) -> Iterator[Element | str]:
    role = f" ({status.role})" if status.role else ""
    yield f"Node {status.node}{role}, wgsyncd {status.version}, {short_time(status.at)} UTC{status.at[19:]}. "
    if choice.pause:
        yield tag("a", "Keep this page up to date", href=choice.link(pause=False))
    else:
        yield f"This page is made again every {REFRESH} s. "
        yield tag("a", "Pause", href=choice.link(pause=True))


# -- interfaces


def _interfaces(status: StatusReport) -> Element:
    heads = ("Interface", "Desired", "Actual", "Online", "Frozen", "Foreign", "Handshake", "In/s", "Out/s")
    head = [tag("th", name, scope="col", class_="" if at in (0, 6) else "number") for at, name in enumerate(heads)]
    return table(head, [list(_interface(one, heads, status.at)) for one in status.interfaces])


def _interface(one: InterfaceReport, heads: Sequence[str], at: str) -> Iterator[Element]:
    down: list[Element | str] = [" ", tag("b", "down", class_="bad")] if one.up is False else []
    yield tag("th", one.interface, *down, scope="row")
    if not one.present:
        yield tag("td", "cannot be read", class_="bad", colspan=str(len(heads) - 1))
        return
    counts = (one.desired, one.actual, one.online, one.frozen, one.foreign)
    for name, count in zip(heads[1:6], counts, strict=True):
        yield cell(name, "?" if count is None else str(count), "number")
    yield cell("Handshake", ago(seconds_between(one.latest_handshake, at)))
    yield cell("In/s", rate(one.rx_rate), "number")
    yield cell("Out/s", rate(one.tx_rate), "number")


def _charts(status: StatusReport, history: Mapping[str, Sequence[Quarter]], now: float) -> Iterator[Element]:
    for one in status.interfaces:
        if quarters := history.get(one.interface):
            text = f"{one.interface} in the last 24 hours, or since the daemon's start: "
            if not any(quarter.rx or quarter.tx for quarter in quarters):
                yield tag("p", f"{text}nothing", class_="place")
                continue
            rx, tx = (format_bytes(sum(getattr(quarter, name) for quarter in quarters)) for name in ("rx", "tx"))
            keys = [tag("span", "■ ", class_=f"{name} key") for name in ("rx", "tx")]
            caption = tag("figcaption", text, keys[0], f"{rx} in, ", keys[1], f"{tx} out")
            yield tag("figure", caption, chart(f"{text}{rx} in, {tx} out", quarters, now))


# -- devices


def _devices(choice: Choice, report: DevicesReport) -> Iterator[Element]:
    yield _form(choice, report.off) if choice.pause else _links("Choice of devices", list(_choices(choice, report.off)))
    first = EACH * (choice.page - 1)
    shown = report.devices[first:]
    until = f", {first + 1} to {first + len(shown)} here" if report.matching > len(shown) and shown else ""
    told = (
        f" {report.matching} {f'match{until}' if until else 'shown'}."
        if report.matching < report.count or until
        else ""
    )
    yield tag("p", f"{report.online} of {counted(report.count, 'device')} online.{told}")
    if not report.matching:
        return
    if report.usage_error:
        yield tag("p", f"24 h and month are not known now: {report.usage_error}", class_="bad")
    word = report.owner_word.capitalize()
    names = {head: word if head == "Owner" else head for head in _COLUMNS}
    heads = [_head(choice, names[head], kind, order) for head, (kind, order) in _COLUMNS.items()]
    more = [head for head, there in (
        ("Bandwidth", any(one.bandwidth is not None for one in shown)),
        ("Reaches", any(one.reaches is not None for one in shown)),
    ) if there]  # fmt: skip
    at = list(_COLUMNS).index("Handshake")
    heads[at:at] = [tag("th", head, scope="col") for head in more]
    yield table(heads, [list(_device(one, word, more)) for one in shown], "devices")
    pages = -(-report.matching // EACH)
    if pages > 1:
        numbers = [
            tag("a", str(number), href=choice.link(page=number),
                 **({"aria-current": "page"} if number == choice.page else {}))
            for number in range(1, pages + 1)
        ]  # fmt: skip
        yield _links("Pages of devices", numbers)


def _choices(choice: Choice, off: int) -> Iterator[Element]:
    """What the form offers, as links. A page that loads itself again would lose what is typed into it."""
    typed = choice.link(pause=True) + "#devices"
    yield tag("a", f"Filter: {choice.text}" if choice.text else "Filter", href=typed)
    if choice.text:
        yield tag("a", "No filter", href=choice.link(text="", page=1))
    online = "Also those offline" if choice.online else "Only those online"
    yield tag("a", online, href=choice.link(online=not choice.online, page=1))
    if off:
        without = f"{'Not' if choice.all else 'Also'} the {off} without a peer"
        yield tag("a", without, href=choice.link(all=not choice.all, page=1))


def _form(choice: Choice, off: int) -> Element:
    """The form of a page that stands still. What it asks for is a page that loads itself again."""
    sort = [tag("input", type="hidden", name="sort", value=choice.sort)] if choice.sort != "device" else []
    return tag(
        "form",
        *sort,
        tag("label", "Filter ", tag("input", type="search", name="q", value=choice.text, maxlength="100")),
        " ",
        tag("label", _box("online", choice.online), " online only"),
        " ",
        tag("label", _box("all", choice.all), f" also the {off} without a peer"),
        " ",
        tag("button", "Show"),
        method="get",
        action="/",
    )


def _head(choice: Choice, head: str, kind: str, order: Order) -> Element:
    """The head of a column. A click on it sorts the devices."""
    direction = "descending" if kind == "number" else "ascending"
    sorted_by = {"aria-sort": direction} if order == choice.sort and head != "Out/s" else {}
    return tag("th", tag("a", head, href=choice.link(sort=order, page=1)), scope="col", class_=kind, **sorted_by)


def _box(name: str, checked: bool) -> Element:
    return tag("input", type="checkbox", name=name, value="1", **({"checked": "checked"} if checked else {}))


def _device(one: DeviceReport, owner_word: str, more: Sequence[str]) -> Iterator[Element]:
    dot = tag("span", "●" if one.online else "○", class_="on" if one.online else "off", role="img",
               aria_label="online" if one.online else "offline")  # fmt: skip
    known = {"title": one.device} if one.name else {}
    yield tag("th", dot, " ", one.name or one.device, scope="row", class_="device", **known)
    yield cell(owner_word, one.owner)
    state = one.status if one.state == "live" else f"{one.status}, {one.state}".lstrip(", ")
    yield cell("Status", state, title=one.why) if one.why else cell("Status", state)
    yield cell("Address", ", ".join(one.addresses))
    if "Bandwidth" in more:
        yield cell("Bandwidth", short_bandwidth(one.bandwidth))
    if "Reaches" in more:
        yield cell("Reaches", one.reached, title=", ".join(one.reaches or ()))
    yield cell("Handshake", ago(one.handshake_age))
    yield cell("In/s", rate(one.rx_rate), "number")
    yield cell("Out/s", rate(one.tx_rate), "number")
    for head, label in (("24 h", "24h"), ("Month", "month")):
        figure = one.bytes.get(label)
        yield cell(head, format_bytes(figure.rx + figure.tx) if figure is not None else "-", "number")


# -- what waits, and what changed


def _waiting(status: StatusReport) -> Iterator[Element]:
    """Rejected rows, and removals that wait. Nothing here allows them: an admin does that with a command."""
    if status.rejected:
        rows = [
            [cell("Row", str(one.row)), cell("Device", one.name or one.device),
             cell("Reason", f"{one.reason}: {one.detail}")]
            for one in status.rejected[:EACH]
        ]  # fmt: skip
        yield _section(f"Rows that are ignored: {len(status.rejected)}", _table(("Row", "Device", "Reason"), rows))
    if status.held:
        rows = [
            [cell("Interface", one.interface), cell("Device", one.name or one.device or one.peer),
             cell("Address", one.address), cell("Reason", one.reason)]
            for one in status.held
        ]  # fmt: skip
        found = _table(("Interface", "Device", "Address", "Reason"), rows)
        todo = f"{wording.if_a_mistake(one.device for one in status.held)}. Look: wgsyncd plan"
        yield _section(f"Removals that wait: {status.withheld + status.blocked}", tag("p", todo), found)


def _changes(status: StatusReport) -> Element:
    if not status.changes:
        return tag("p", "None since the daemon's start.")
    rows = [
        [cell("Time", short_time(one.at)), cell("Change", one.change.replace("_", " ")),
         cell("Interface", one.interface), cell("Device", one.name or one.device), cell("Details", one.text)]
        for one in status.changes
    ]  # fmt: skip
    return _table(("Time", "Change", "Interface", "Device", "Details"), rows)


def _table(heads: Sequence[str], rows: Sequence[list[Element]]) -> Element:
    return table([tag("th", head, scope="col") for head in heads], rows)
