"""Makes the document of `wgsyncd devices --json`: each device of the node with its peer and its bytes.

It is made when somebody asks, from the rows and the last dumps, which the last cycles left in the status. A client's
thread may make it, because it only reads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from wgsyncd import __version__
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.answers import HOURS, DeviceUsage
from wgsyncd.core.model import NO_BYTES, DeviceRow, PeerState, PublicKey, fingerprint, plain_id
from wgsyncd.engine import wording
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.last_dumps import Rates
from wgsyncd.engine.reports.access_texts import AccessTexts
from wgsyncd.engine.reports.bandwidth import BandwidthReport, bandwidth_report
from wgsyncd.engine.reports.plan import iso
from wgsyncd.engine.reports.status import update_from_preview
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_update import is_recent
from wgsyncd.errors import StoreError
from wgsyncd.redact import redact

MOST_RANGES = 20  # of one device
MOST_HOURS = 200  # devices: more of them get no hours, because the question would take too long
Order = Literal["device", "owner", "status", "address", "handshake", "rate", "24h", "month"]
DeviceState = Literal["live", "waiting", "off", "leaving", "rejected", "foreign", "unknown"]
"""What a device has. ``live``: its peer. ``waiting``: it is to get one. ``leaving``: its peer is to go. ``off``: none,
and its row asks for none. ``unknown``: a peer, while the rows were not read yet."""


class Selection(Struct, frozen=True, kw_only=True):
    """What somebody wants to see of the devices: the query of GET /devices."""

    online: bool = False  # only devices that are online
    all: bool = False  # also devices that have no peer and ask for none
    text: str = ""  # only devices with this text in their name, owner, status, state, interface or address
    sort: Order = "device"
    limit: int = 0  # at most so many devices. 0: all


class DeviceBytes(Struct, frozen=True, kw_only=True):
    """Bytes of one device, as the server sees them."""

    rx: int
    tx: int


class DeviceReport(Struct, frozen=True, kw_only=True):
    """One device, or one foreign peer."""

    row: int | str | None  # the row's id. None: a foreign peer, or the row is gone and the removal waits
    device: str  # of a foreign peer: the key's fingerprint
    name: str  # what its owner calls it, or ""
    owner: str
    status: str  # the control plane's word. "" for a foreign peer
    state: DeviceState  # what the node does with it
    why: str  # why it has no peer, or ""
    interface: str
    addresses: list[str]
    reaches: list[str] | None  # the first ranges that the packet filter grants, or "everything". null: no policies
    more_ranges: int  # how many ranges are left out
    bandwidth: BandwidthReport | None  # what its owner has. null: it is not limited on this node, or a foreign peer
    online: bool
    latest_handshake: str | None
    handshake_age: int | None  # seconds
    rx_rate: float | None  # bytes per second that the server receives, between two polls
    tx_rate: float | None
    bytes: dict[str, DeviceBytes]  # by the store's label, such as 24h and month. A store may keep none
    hours: list[int] | None  # bytes of each of the last 24 hours, the present one at the end. None: not asked for

    @property
    def reached(self) -> str:
        """What the packet filter lets the device reach, in few words. "" if nobody enforces policies."""
        if not self.reaches:
            return "" if self.reaches is None else "nothing"
        more = len(self.reaches) - 1 + self.more_ranges
        return f"{self.reaches[0]} +{more}" if more else self.reaches[0]


class DevicesReport(Struct, frozen=True, kw_only=True):
    """The devices of a node. Bytes and rates are the server's: rx is what it received."""

    node: str
    version: str
    source: str  # "daemon", or "command" if the command itself read kernel and database
    at: str
    zone: str
    daemon: str  # why the daemon was not asked, or ""
    sampled: str | None  # when the kernel was last read
    owner_word: str  # what the control plane calls an owner, such as "user"
    count: int  # devices of the node, and foreign peers
    online: int  # how many of them are online
    off: int  # how many have no peer and ask for none
    matching: int  # how many the selection has, without its limit
    figures: list[str]  # the labels of `bytes` that the store keeps
    usage_error: str  # why there are no figures now, or ""
    devices: list[DeviceReport]


class ListedDevice(NamedTuple):
    """One device, before anybody has chosen it."""

    row: DeviceRow | None
    name: str
    interface: str
    addresses: tuple[str, ...]
    state: DeviceState
    why: str
    peer: PeerState | None
    rates: Rates

    def has(self, text: str) -> bool:
        """Whether a text that a person typed is part of what the table shows."""
        row = self.row
        known = (row.name, row.owner, row.status_text) if row else ()
        return any(text in one.casefold() for one in (self.name, *known, self.state, self.interface, *self.addresses))


def list_devices(status: DaemonStatus, settings: Settings, now: float) -> list[ListedDevice]:
    """Every row of the node, and the foreign peers. ``now``: UNIX seconds."""
    rejections = {one.row_id: one for one in status.rejections}
    names = {one.store_name: name for name, one in settings.interfaces.items()}
    found = status.dumps.peers() if status.dumps is not None else {}
    places: dict[PublicKey, list[str]] = {}
    for name, its_key in found:
        places.setdefault(its_key, []).append(name)
    listed: list[ListedDevice] = []
    for row in status.rows or ():
        if row.interface in settings.node.ignored_interfaces:
            continue
        key, interface = row.key, names.get(row.interface, row.interface)
        on = places.get(key, []) if key is not None else []
        place = interface if interface in on else next(iter(on), interface)
        peer, rates = (found.pop((place, key), None) if key is not None else None) or (None, Rates())
        inactive, rejected = row.inactive_reason(now), rejections.get(row.id)
        state: DeviceState = "live" if peer is not None else "waiting"
        why = ""
        if rejected is not None:
            state, why = "rejected", f"{rejected.reason.value}: {wording.rejection(rejected)}"
        elif inactive is not None:
            state, why = "off" if peer is None else "leaving", wording.inactive(inactive)
        listed.append(ListedDevice(row, row.device, place, row.addresses, state, why, peer, rates))
    stranger: DeviceState = "foreign" if status.rows is not None else "unknown"
    lost = {(one.interface, one.peer): one for one in status.held if one.device}
    for (name, its_key), (one, rates) in found.items():
        addresses, called = tuple(net.short for net in one.config.allowed_ips), fingerprint(its_key)
        if held := lost.get((name, called)):
            listed.append(ListedDevice(None, held.device, name, addresses, "leaving", held.reason, one, rates))
        else:
            listed.append(ListedDevice(None, called, name, addresses, stranger, "", one, rates))
    return listed


def is_online(one: ListedDevice, now: float) -> bool:
    """Whether a device had a handshake lately. ``now``: UNIX seconds."""
    return one.peer is not None and is_recent(one.peer.latest_handshake, now)


def _key(sort: Order, usage: DeviceUsage | None) -> Callable[[ListedDevice], tuple[object, ...]]:
    """The order of the table. Numbers begin with the largest one, and devices without one come last."""
    figures = usage.figures if usage is not None else {}

    def moved(one: ListedDevice) -> int:
        return -sum(figures.get(one.row.id, {}).get(sort, NO_BYTES)) if one.row is not None else 0

    first: Mapping[str, Callable[[ListedDevice], object]] = {
        "owner": lambda one: (one.row is None, one.row.owner if one.row is not None else ""),
        "status": lambda one: (one.state, one.row.status_text if one.row is not None else ""),
        "address": lambda one: [_address(text) for text in one.addresses],
        "handshake": lambda one: -one.peer.latest_handshake if one.peer is not None else 1,
        "rate": lambda one: -((one.rates.rx or 0) + (one.rates.tx or 0)),
    }
    by = moved if sort in ("24h", "month") else first.get(sort)
    return lambda one: (by(one) if by is not None else 0, one.row is None, one.row.name if one.row else "", one.name)


def _address(text: str) -> tuple[int, str]:
    """An order of addresses that puts 10.0.0.9 before 10.0.0.10."""
    numbers = text.partition("/")[0].split(".")
    whole = len(numbers) == 4 and all(one.isascii() and one.isdecimal() and len(one) <= 3 for one in numbers)
    return (sum(int(one) << 8 * (3 - at) for at, one in enumerate(numbers)), "") if whole else (1 << 32, text)


def choose(
    found: Sequence[ListedDevice], wanted: Selection, usage: DeviceUsage | None, now: float
) -> list[ListedDevice]:
    """The devices that somebody wants to see, in order and without the limit."""
    text = wanted.text.casefold()
    chosen = [
        one
        for one in found
        if (one.state != "off" or wanted.all or (text and one.has(text)))
        and (not wanted.online or is_online(one, now))
        and (not text or one.has(text))
    ]
    return sorted(chosen, key=_key(wanted.sort, usage))


def build(
    status: DaemonStatus,
    settings: Settings,
    wanted: Selection,
    ask: Callable[[Sequence[str]], DeviceUsage | str],
    now: float,
    *,
    source: str = "daemon",
    daemon: str = "",
) -> DevicesReport:
    """The document. ``ask`` gives the figures of all devices and the hours of some, or says why it cannot.

    ``daemon``: why the daemon was not asked.
    """
    found = list_devices(status, settings, now)
    usage = ask(()) if wanted.sort in ("24h", "month") else None
    chosen = choose(found, wanted, usage if isinstance(usage, DeviceUsage) else None, now)
    shown = chosen[: wanted.limit] if wanted.limit else chosen
    names = [one.name for one in shown if one.row is not None]
    asked = names if len(names) <= MOST_HOURS else []
    if not isinstance(usage, str):  # A store that has just failed is not asked again.
        usage = ask(asked)
    known = DeviceUsage({}, {})
    if isinstance(usage, DeviceUsage):
        known = DeviceUsage(usage.figures, {name: usage.hours.get(name, [0] * HOURS) for name in asked})
    zone = settings.node.zone
    return DevicesReport(
        node=settings.node.name,
        version=__version__,
        source=source,
        at=iso(now, zone) or "",
        zone=zone.key,
        daemon=redact(daemon),
        sampled=iso(status.dumps.at, zone) if status.dumps is not None else None,
        owner_word=settings.store.owner_word,
        count=len(found),
        online=sum(is_online(one, now) for one in found),
        off=sum(one.state == "off" for one in found),
        matching=len(chosen),
        figures=sorted({label for some in known.figures.values() for label in some}),
        usage_error=redact(usage) if isinstance(usage, str) else "",
        devices=list(_reports(shown, known, settings, now, status)),
    )


def of_preview(status: DaemonStatus, settings: Settings, agent: Agent, wanted: Selection, daemon: str) -> DevicesReport:
    """The document of a command that itself reads kernel and database. ``status`` keeps the dumps for the next call.

    ``daemon`` says why it had to.
    """
    preview = agent.inspector.view()
    update_from_preview(status, settings, preview)

    def ask(devices: Sequence[str]) -> DeviceUsage | str:
        try:
            return agent.store.device_usage(devices, agent.inspector.calendar())
        except StoreError as error:
            return str(error)

    return build(status, settings, wanted, ask, preview.now, source="command", daemon=daemon)


def _reports(
    shown: Sequence[ListedDevice], usage: DeviceUsage, settings: Settings, now: float, status: DaemonStatus
) -> Iterator[DeviceReport]:
    reach = AccessTexts(status.policies)
    owners = {one.row.owner for one in shown if one.row is not None}
    bandwidths = {one: bandwidth_report(one, status.terms, settings.shaping_policy) for one in owners}
    for one in shown:
        row, at = one.row, one.peer.latest_handshake / 1e9 if one.peer is not None else 0.0
        figures = usage.figures.get(row.id, {}) if row is not None else {}
        ranges = reach.of(one.name, one.addresses) if row is not None else None
        yield DeviceReport(
            row=plain_id(row.id) if row is not None else None,
            device=redact(one.name),
            name=redact(row.name) if row is not None else "",
            owner=redact(row.owner) if row is not None else "",
            status=redact(row.status_text) if row is not None else "",
            state=one.state,
            why=redact(one.why),
            interface=redact(one.interface),
            addresses=list(map(redact, one.addresses)),
            reaches=ranges[:MOST_RANGES] if ranges is not None else None,
            more_ranges=max(0, len(ranges or ()) - MOST_RANGES),
            bandwidth=bandwidths[row.owner] if row is not None else None,
            online=is_online(one, now),
            latest_handshake=iso(at, settings.node.zone),
            handshake_age=max(0, int(now - at)) if at else None,
            rx_rate=one.rates.rx,
            tx_rate=one.rates.tx,
            bytes={label: DeviceBytes(rx=some.rx, tx=some.tx) for label, some in figures.items()},
            hours=list(usage.hours[one.name]) if row is not None and one.name in usage.hours else None,
        )
