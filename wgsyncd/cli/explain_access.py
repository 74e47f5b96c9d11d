"""Makes the part of `wgsyncd explain --json` about policies, with the answer to `--to`."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

from msgspec import Struct, structs

from wgsyncd.core.inspect.explain import Explanation
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.model import PublicKey, plain_id
from wgsyncd.core.network import Network, as_networks, parse_host, parse_network
from wgsyncd.core.policies.explain import (
    FULL_TUNNEL,
    AppliedRule,
    Missed,
    Verdict,
    Why,
    explain_address,
    installed_access,
    rules_of,
)
from wgsyncd.core.policies.model import Access, AccessPolicy, Device, PolicySettings, PolicyTables, Ruleset
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.core.policies.resolve import Rule
from wgsyncd.core.words import counted
from wgsyncd.engine.reports.access import SharedAddress, called

NO_KEY = PublicKey(b"")


class AppliedPolicy(Struct, frozen=True, kw_only=True):
    """One policy that applies to the device."""

    policy: int | str  # the policy's id
    name: str
    priority: int
    effect: str  # "allow" or "deny"
    fault: str  # what is wrong with its effect or a destination, or ""
    destinations: list[str]  # as the table has them
    full_tunnel: bool
    targets: list[str]  # by which it applies: "group engineering"


class MissedPolicy(Struct, frozen=True, kw_only=True):
    """One policy that would allow the address, and why it does not count."""

    policy: int | str
    name: str
    why: str  # "inactive", "deleted", "group deleted" or "not targeted"


class AddressReport(Struct, frozen=True, kw_only=True):
    """Whether the device reaches one address."""

    address: str
    allowed: bool  # by the tables
    why: str  # "policy", "no policy", "always", "no address", "not judged" or "shared address"
    policy: str  # the name of the policy that decides, or ""
    range: str  # the destination of that policy that covers the address, or ""
    overruled: list[str]  # names of later policies that cover the address, too
    missed: list[MissedPolicy]  # of a refused address: policies that would allow it
    dns: bool  # the device reaches it at port 53 all the same
    installed: bool | None  # by the packet filter. null: not known, or it has no entry of the device
    text: str  # all of this in sentences


class PolicyReport(Struct, frozen=True, kw_only=True):
    """What the device may reach."""

    enforced: bool  # false: the configuration ends policies, and nothing is refused
    kept: bool  # its key is in peers.always_keep, so policies do not judge it
    policies: list[AppliedPolicy]  # in the order in which they decide
    allowed: list[str]  # ranges that the tables let the device reach with a peer
    dns_servers: list[str]  # that it reaches at port 53
    installed: list[str] | None  # ranges that the packet filter lets it reach now. null: it has no entry of the device
    withheld: bool  # the guard keeps its old access until an admin approves
    shared: list[
        SharedAddress
    ]  # its addresses that other devices have, too, with these. Its policies have no effect then
    stale: bool  # its client routes other addresses than its policies are about
    filter_error: str  # why the packet filter could not be asked, or ""
    to: AddressReport | None


def policy_report(
    found: Explanation, tables: PolicyTables | None, settings: PolicySettings, plan: AccessPlan | None,
    ruleset: Ruleset | str | None, to: Network | None, own: Set[Network], names: Labels, *, kept: bool,
) -> PolicyReport:  # fmt: skip
    """The report. ``ruleset``: the packet filter's, or why it could not be asked. ``tables``: None if not enforced.

    ``own``: the gateway's own addresses. ``names``: what people call devices.
    ``kept``: the device's key is in peers.always_keep.
    """
    if tables is None:
        answer = _not_judged(to, "the setting policies.enforce is false", found) if to is not None else None
        return PolicyReport(enforced=False, kept=kept, policies=[], allowed=[], dns_servers=[], installed=None,
                            withheld=False, shared=[], stale=False, filter_error="", to=answer)  # fmt: skip
    device, there = _device(found), ruleset if isinstance(ruleset, Ruleset) else None
    rules, access = rules_of(device, tables, settings)
    groups = {group.id: group.name for group in tables.groups}
    installed = installed_access(device, there) if there is not None else None
    made = PolicyReport(
        enforced=True,
        kept=kept,
        policies=[_applied(one, groups, found.row.owner) for one in rules],
        allowed=access.texts(),
        dns_servers=sorted(one.address for one in tables.dns_servers) if settings.dns else [],
        installed=installed.texts() if installed is not None else None,
        withheld=plan is not None and device.id in plan.withheld,
        shared=_shared(plan, device.id, names) if plan is not None else [],
        stale=plan is not None and device.id in plan.stale,
        filter_error=ruleset if isinstance(ruleset, str) else "",
        to=None,
    )
    if to is None:
        return made
    if kept:
        return structs.replace(made, to=_not_judged(to, "the device's key is in peers.always_keep", found))
    if to in own and not settings.judges_local:
        why = 'it is the gateway\'s own address, and the setting policies.local is "leave"'
        return structs.replace(made, to=_not_judged(to, why, found))
    if made.shared:
        return structs.replace(made, to=_nothing(to, made.shared))
    verdict = explain_address(device, to, tables, settings, there)
    answer = _address(to, verdict, made, found, has_table=there is not None)
    free = there.free if there is not None else Access.of(settings.free_sources)
    if Access.of((to,)).less(free).is_empty:
        answer = structs.replace(answer, text=f"{answer.text} {_FREE}")
    return structs.replace(made, to=answer)


def _not_judged(to: Network, why: str, found: Explanation) -> AddressReport:
    """The answer about an address that policies do not judge."""
    peer = "" if found.peers else f" {_NO_PEER}"
    text = f"{to.address} is not refused here: {why}.{peer}"
    return AddressReport(address=to.address, allowed=True, why="not judged", policy="", range="", overruled=[],
                         missed=[], dns=False, installed=None, text=text)  # fmt: skip


def _shared(plan: AccessPlan, device: str, names: Labels) -> list[SharedAddress]:
    return [
        SharedAddress(address=host.address, devices=called((one for one in ids if one != device), names))
        for host, ids in plan.shared.items()
        if device in ids
    ]


def shared_text(shared: Iterable[SharedAddress]) -> str:
    """Why the policies of a device have no effect."""
    whose = " and ".join(f"its address {one.address} also belongs to {', '.join(one.devices)}" for one in shared)
    return f"{whose}, so its policies have no effect"


def _nothing(to: Network, shared: Sequence[SharedAddress]) -> AddressReport:
    """The answer about an address while another device has the device's own address."""
    text = f"{to.address} is refused: {shared_text(shared)}. Give one of the devices another address."
    return AddressReport(address=to.address, allowed=False, why="shared address", policy="", range="", overruled=[],
                         missed=[], dns=False, installed=False, text=text)  # fmt: skip


def _device(found: Explanation) -> Device:
    """The device with the addresses of its peer if that stays unchanged, else with the addresses of its row."""
    hosts: list[Network] = []
    if found.frozen:
        hosts = [net for one in found.peers for net in one.found.config.allowed_ips]
    for text in found.row.addresses if not hosts else ():
        with contextlib.suppress(ValueError):
            hosts.append(parse_host(text))
    return Device(found.row.device, found.row.owner, as_networks(hosts), found.interface or "", found.key or NO_KEY)


def _applied(one: AppliedRule, groups: Mapping[str, str], owner: str) -> AppliedPolicy:
    policy = one.rule.policy
    words: dict[str, Callable[[str], str]] = {
        "user": lambda _: f"user {owner}",
        "group": lambda group: f"group {groups.get(group) or group}",
    }
    return AppliedPolicy(
        policy=plain_id(policy.id),
        name=policy.name,
        priority=policy.priority,
        effect=_effect(one.rule),
        fault=_fault(policy, one.rule),
        destinations=list(policy.destinations),
        full_tunnel=policy.full_tunnel,
        targets=[words[it.type](it.id) if it.type in words else "the device" for it in one.targets],
    )


def _effect(rule: Rule) -> str:
    return "allow" if rule.allows else "deny"


def _fault(policy: AccessPolicy, rule: Rule) -> str:
    """What is wrong with a policy's own texts, and what it means."""
    if policy.effect.strip().lower() != _effect(rule):
        return f"effect {policy.effect[:45]!r} is taken for a deny"
    for text in policy.destinations:
        try:
            parse_network(text)
        except ValueError:
            meant = "left out" if rule.allows else "taken as wide as it may be meant"
            return f"destination {text[:45]!r} is no network, and is {meant}"
    return ""


def _address(
    to: Network, verdict: Verdict, known: PolicyReport, found: Explanation, *, has_table: bool
) -> AddressReport:
    own = tuple(_sentences(to, verdict, len(known.policies)))
    return AddressReport(
        address=to.address,
        allowed=verdict.allowed,
        why=verdict.why.value,
        policy=verdict.rule.policy.name if verdict.rule is not None else "",
        range=verdict.range,
        overruled=[one.policy.name for one in verdict.overruled],
        missed=[
            MissedPolicy(policy=plain_id(policy.id), name=policy.name, why=why.value) for policy, why in verdict.missed
        ],
        dns=verdict.dns,
        installed=verdict.installed,
        text=" ".join((*own, _now(verdict, known, found, has_table=has_table))),
    )


def _sentences(to: Network, verdict: Verdict, policies: int) -> Iterator[str]:
    """What the tables say about an address."""
    said = f"{to.address} is {'allowed' if verdict.allowed else 'refused'}"
    rule = verdict.rule
    if rule is not None:
        where = "all addresses (full tunnel)" if verdict.range == FULL_TUNNEL else verdict.range
        yield f"{said}: {_title(rule.policy)} {'allows' if rule.allows else 'denies'} {where}."
        other = next((one for one in verdict.overruled if one.allows != rule.allows), None)
        if other is not None:
            yield f"It comes before {_title(other.policy)}, which {'allows' if other.allows else 'denies'} it."
    elif verdict.why is Why.ALWAYS:
        yield f"{said}: the setting policies.always has it."
    elif verdict.why is Why.NO_ADDRESS:
        yield f"{said}: the device has no IPv{4 if len(to.packed) == 4 else 6} address."
    else:
        none = f"{counted(policies, 'policy', 'policies')} of the device, and none covers it"
        yield f"{said}: there {'is' if policies == 1 else 'are'} {none}." if policies else f"{said}: {NO_POLICY}."
    for policy, why in verdict.missed[:2]:
        yield f"P{_title(policy)[1:]} would allow it, but {_MISSED[why]}."
    if verdict.dns and not verdict.allowed:
        yield "At port 53 it is allowed all the same: it is a DNS server of the gateway."


_NO_PEER = "The device has no peer now, so nothing of it passes."
_FREE = "But it may begin flows to the device: policies.free_sources has it, or a peer of peers.always_keep."
NO_POLICY = "no policy applies to the device"
_MISSED = {
    Missed.DELETED: "it is deleted",
    Missed.INACTIVE: "it is not active",
    Missed.GROUP_DELETED: "its group is deleted",
    Missed.NOT_TARGETED: "it is not for this device, its user or a group of the user",
}


def _title(policy: AccessPolicy) -> str:
    return f"policy {policy.name!r} (priority {policy.priority})"


def _now(verdict: Verdict, known: PolicyReport, found: Explanation, *, has_table: bool) -> str:
    """What the packet filter does with the address at this moment."""
    if known.filter_error:
        return f"The packet filter cannot be asked: {known.filter_error}."
    if not has_table:
        return "Nothing is refused now: the packet filter has no table of wgsyncd. Start the daemon."
    if not found.peers:
        return _NO_PEER
    if verdict.installed is None and verdict.why is not Why.NO_ADDRESS:
        return "The packet filter has no entry of the device now, so it refuses everything."
    if bool(verdict.installed) == verdict.allowed:
        return "The packet filter does the same now."
    why = "the guard keeps the old access: see `wgsyncd plan`" if known.withheld else "the next cycle changes that"
    return f"The packet filter still {'allows' if verdict.installed else 'refuses'} it: {why}."
