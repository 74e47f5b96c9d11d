"""Makes the part of `wgsyncd plan --json` about access: who gains and loses which ranges, and why."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.policies.explain import split_by_rule
from wgsyncd.core.policies.model import Access
from wgsyncd.core.policies.plan import AccessChange, AccessPlan
from wgsyncd.core.policies.resolve import Rule
from wgsyncd.redact import redact

MOST = 50  # changes, devices of one change, and ranges of one change. The counts tell the rest


class AccessDevice(Struct, frozen=True, kw_only=True):
    """One device whose access changes."""

    device: str
    name: str  # what its owner calls it, or ""
    owner: str


class AccessRange(Struct, frozen=True, kw_only=True):
    """One range that devices gain or lose."""

    range: str  # "10.0.0.0/8", or "10.0.0.1-10.0.0.9"
    policy: str  # the name of the policy that decides about it now. "": no policy covers it


class AccessDiff(Struct, frozen=True, kw_only=True):
    """What some devices gain and lose, all of them the same."""

    count: int  # how many devices these are
    devices: list[AccessDevice]  # the first ones
    gained: list[AccessRange]  # the first ranges
    lost: list[AccessRange]
    more_ranges: int  # how many ranges are left out
    withheld: bool  # the devices keep what they have until an admin approves


class SharedAddress(Struct, frozen=True, kw_only=True):
    """An address that several devices have. It reaches nothing, because the packet filter cannot tell them apart."""

    address: str
    devices: list[str]  # what people call them, or their ids


class AccessReport(Struct, frozen=True, kw_only=True):
    """What the policies do to the access of devices that have a peer or get one."""

    gained: int  # devices that get their first access
    lost: int  # devices that lose all access
    changed: int  # devices that get other access
    diffs: list[AccessDiff]  # those that wait come first, then the largest ones
    withheld: list[str]  # ids of devices that would lose all access, and keep it until an admin approves
    plan: str  # the plan id that an admin approves
    limit: float  # so many devices may lose all access in the window without an approval
    window: float  # seconds. 0: this plan alone
    recent: int  # other devices that lost all access in the window
    shared: list[SharedAddress]  # the first ones


def access_report(plan: AccessPlan, names: Labels) -> AccessReport:
    """The report of a plan of access. ``names``: what owners call their devices."""
    diffs = [*_diffs(plan.held, names, withheld=True), *_diffs(plan.changes, names, withheld=False)]
    return AccessReport(
        **plan.counts._asdict(),
        diffs=diffs[:MOST],
        withheld=[redact(one) for one in sorted(plan.withheld)],
        plan=plan.plan_id,
        limit=plan.verdict.limit,
        window=plan.verdict.window,
        recent=plan.verdict.recent,
        shared=[
            SharedAddress(address=host.address, devices=called(ids, names))
            for host, ids in list(plan.shared.items())[:MOST]
        ],
    )


def called(devices: Iterable[str], names: Labels) -> list[str]:
    """What people call these devices, or their ids. "" is the id of a peer that no row is about."""
    return sorted(redact(names.of(one) or one or "a peer without a row") for one in devices)


def _diffs(changes: Iterable[AccessChange], names: Labels, *, withheld: bool) -> list[AccessDiff]:
    """The changes by name, with the devices together that gain and lose the same by the same policies."""
    known: dict[object, object] = {}  # devices share what they reach and their policies, so each is split once
    alike: dict[object, list[AccessChange]] = {}
    for change in sorted(changes, key=lambda one: (names.name(one.device), one.owner, one.device)):
        key = (change.before, change.after, tuple(rule.policy.id for rule in change.rules))
        if key not in known:
            known[key] = tuple(tuple(split_by_rule(one, change.rules)) for one in (change.gained, change.lost))
        alike.setdefault(known[key], []).append(change)
    return [_diff(some, names, withheld=withheld) for some in sorted(alike.values(), key=len, reverse=True)]


def _diff(some: Sequence[AccessChange], names: Labels, *, withheld: bool) -> AccessDiff:
    first = some[0]
    gained, lost = (_ranges(access, first.rules) for access in (first.gained, first.lost))
    return AccessDiff(
        count=len(some),
        devices=[
            AccessDevice(device=redact(one.device), name=redact(names.name(one.device)), owner=redact(one.owner))
            for one in some[:MOST]
        ],
        gained=gained[:MOST],
        lost=lost[:MOST],
        more_ranges=max(0, len(gained) - MOST) + max(0, len(lost) - MOST),
        withheld=withheld,
    )


def _ranges(access: Access, rules: Iterable[Rule]) -> list[AccessRange]:
    return [
        AccessRange(range=text, policy=redact(part.rule.policy.name) if part.rule is not None else "")
        for part in split_by_rule(access, rules)
        for text in part.access.texts()
    ]
