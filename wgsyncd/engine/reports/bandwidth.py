"""Reports what bandwidth the devices of an owner have, and how much of the month is used."""

from collections.abc import Iterator, Mapping

from msgspec import Struct, structs

from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.core.shaping.preview import RateChange, ShapingPreview, previous_choice
from wgsyncd.core.shaping.profiles import Direction, ShapingPolicy, Terms, choose
from wgsyncd.core.shaping.tree import MAJOR, ShapedTraffic
from wgsyncd.core.words import counted
from wgsyncd.redact import redact


class TrafficReport(Struct, frozen=True, kw_only=True, rename={"minor": "class"}):
    """What the limits of a device have let through and dropped in one direction, since they were made."""

    minor: int  # the number of its class, which a tool shows as 7767:5
    sent: int  # bytes
    dropped: int  # packets
    waiting: int  # packets that are in its queue now


class BandwidthReport(Struct, frozen=True, kw_only=True):
    """What bandwidth the settings give to an owner."""

    profile: str  # "": not limited
    named: str  # the profile that the owner's contract names, or ""
    unknown: bool  # the settings do not have the named one, so the default one holds
    slowed_to: str | None  # the profile whose rates hold, because the monthly cap is reached
    down: int | None  # bits per second, like up. null: not limited
    up: int | None
    shared: bool  # by all devices of the owner
    monthly: int | None  # bytes. null: the profile has no cap
    used: int | None  # bytes of this month that count. null: they are not known, or nothing needs them
    traffic: dict[str, TrafficReport] | None = None  # of one device by direction. null: only explain asks


class RateReport(Struct, frozen=True, kw_only=True):
    """An owner whose devices get other rates, in bits per second. null: not limited."""

    owner: str
    profile_before: str  # whose rates hold now
    profile: str  # whose rates hold then
    month: str  # how much of the month is used, if the owner is beyond the cap then, or ""
    down_before: int | None
    up_before: int | None
    down: int | None
    up: int | None


class LimitedDevice(Struct, frozen=True, kw_only=True):
    """A device that is not limited yet, and will be."""

    device: str
    owner: str
    addresses: list[str]
    profile: str  # whose rates hold then


class BandwidthPlan(Struct, frozen=True, kw_only=True):
    """What a cycle would do to the bandwidth of devices."""

    begin: list[LimitedDevice]
    end: list[str]  # addresses that are limited, and will not be
    changed: list[RateReport]

    @property
    def is_empty(self) -> bool:
        return not (self.begin or self.end or self.changed)


def bandwidth_plan(found: ShapingPreview, terms: Mapping[str, Terms], policy: ShapingPolicy) -> BandwidthPlan:
    return BandwidthPlan(
        begin=[
            LimitedDevice(
                device=redact(one.device),
                owner=redact(one.owner),
                addresses=list(map(str, one.addresses)),
                profile=one.choice.held,
            )
            for one in found.begin
        ],
        end=list(map(str, found.end)),
        changed=[_rate_report(one, terms, policy) for one in found.changed],
    )


def _rate_report(one: RateChange, terms: Mapping[str, Terms], policy: ShapingPolicy) -> RateReport:
    def bits(rate: int | None) -> int | None:
        return None if rate is None else rate * 8

    report = bandwidth_report(one.owner, terms, policy) if one.choice.beyond else None
    return RateReport(
        owner=redact(one.owner),
        profile_before=previous_choice(one, policy).held,
        profile=one.choice.held,
        month=month_line(report) if report is not None else "",
        down_before=bits(one.before.down),
        up_before=bits(one.before.up),
        down=bits(one.after.down),
        up=bits(one.after.up),
    )


def bandwidth_report(owner: str, terms: Mapping[str, Terms], policy: ShapingPolicy) -> BandwidthReport | None:
    """The report of one owner. None: bandwidth is not limited on this node."""
    if not policy.enforce:
        return None
    bought = terms.get(owner, Terms())
    choice = choose(bought, policy)
    profile = policy.profiles.get(choice.name)
    return BandwidthReport(
        profile=choice.name,
        named=bought.profile,
        unknown=bool(choice.unknown),
        slowed_to=choice.beyond or None,
        down=None if choice.down is None else choice.down * 8,
        up=None if choice.up is None else choice.up * 8,
        shared=choice.shared,
        monthly=profile.monthly if profile is not None else None,
        used=None if profile is None or bought.month is None else profile.used(bought.month),
    )


def bandwidth_lines(one: BandwidthReport) -> Iterator[str]:
    name = one.profile or "no bandwidth profile"
    if one.unknown:
        name += f", because the configuration has no {one.named!r}"
    rates = f"down {rate(one.down)}, up {rate(one.up)}"
    whose = "for all devices together" if one.shared else "for each device"
    yield f"{name}: not limited" if one.down is one.up is None else f"{name}: {rates}, {whose}"
    if one.monthly is not None:
        slowed = f". The rates of {one.slowed_to} hold until the month ends" if one.slowed_to else ""
        yield f"{month_line(one)}{slowed}"
    for direction, its in (one.traffic or {}).items():
        packets = f"{counted(its.dropped, 'packet')} dropped, {its.waiting} in the queue"
        yield f"{direction}: class {MAJOR:x}:{its.minor:x} has passed {format_bytes(its.sent)}, {packets}"


def month_line(one: BandwidthReport) -> str:
    """How much of the month is used."""
    used = "an unknown part" if one.used is None else format_bytes(one.used)
    return f"{used} of {format_bytes(one.monthly or 0)} this month"


def with_traffic(one: BandwidthReport, traffic: Mapping[Direction, ShapedTraffic]) -> BandwidthReport:
    """The report with what the limits of one device have let through."""
    told = {way.value: TrafficReport(**its._asdict()) for way, its in traffic.items()}
    return structs.replace(one, traffic=told)


def short_bandwidth(one: BandwidthReport | None) -> str:
    """The profile whose rates hold, with its limits, for a table. "" if nobody limits bandwidth."""
    if one is None:
        return ""
    ways = {"down": one.down, "up": one.up}
    rates = ", ".join(f"{rate(bits).removesuffix('/s')} {way}" for way, bits in ways.items() if bits is not None)
    profile = f"{one.slowed_to} (cap reached)" if one.slowed_to else one.profile
    return f"{profile} {rates}" if rates else "not limited"


def rate(bits: int | None) -> str:
    """Bits per second for people."""
    if bits is None:
        return "not limited"
    for size, unit in ((10**9, "Gbit/s"), (10**6, "Mbit/s")):
        if bits >= size:
            return f"{bits / size:g} {unit}"
    return f"{bits / 1000:g} kbit/s"
