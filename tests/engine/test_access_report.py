"""The report of a plan of access puts devices with the same change together, and names policies."""

from __future__ import annotations

from tests.policing import device, policy, ruleset, tables
from wgsyncd.core.inspect.names import DeviceName, Labels
from wgsyncd.core.peers.guard import RemovalLimits
from wgsyncd.core.policies.model import Access, PolicySettings, PolicyTables, Ruleset
from wgsyncd.core.policies.plan import plan_access
from wgsyncd.engine.reports import access as access_report
from wgsyncd.engine.reports.access import AccessReport

DEVICES = [device(number, owner="alice") for number in range(2, 9)]
OF_ALICE = [("user", "alice")]


def report(found: Ruleset | None, *policies: PolicyTables) -> AccessReport:
    """Peers are dumped in any order, as the kernel's tables have them."""
    limits, dumped = RemovalLimits(3, 0.2, 3), DEVICES[::-1]
    return access_report.access_report(
        plan_access(dumped, policies[0], PolicySettings(), limits, found, None, tunnels=frozenset({"wg0"})),
        Labels([DeviceName(2, "dev-2", "alice", "laptop")]),
    )


def test_devices_with_the_same_change_stand_together() -> None:
    own = policy(2, "allow", "192.0.2.0/24", to=[("device", "dev-2")])
    made = report(None, tables(policy(1, "allow", "10.0.0.0/8", to=OF_ALICE), own))
    assert (made.gained, made.lost, made.changed) == (7, 0, 0)
    many, single = made.diffs
    assert (many.count, [one.device for one in many.devices]) == (6, [f"dev-{n}" for n in range(3, 9)])
    assert [(one.device, one.name, one.owner) for one in single.devices] == [("dev-2", "laptop", "alice")]
    assert [(one.range, one.policy) for one in single.gained] == [
        ("10.0.0.0/8", "policy 1"), ("192.0.2.0/24", "policy 2")
    ]  # fmt: skip
    assert not single.withheld


def test_a_policy_without_effect_on_the_change_parts_nobody() -> None:
    six = policy(2, "allow", "fd00::/8", to=[("device", "dev-2")])
    (diff,) = report(None, tables(policy(1, "allow", "10.0.0.0/8", to=OF_ALICE), six)).diffs
    assert diff.count == len(DEVICES)


def test_an_address_of_two_devices_is_named_with_both() -> None:
    """The second one has no row that anybody knows."""
    other = device(99, "10.8.0.2", interface="wg1")._replace(id="", owner="")
    plan = plan_access(
        [*DEVICES, other], tables(), PolicySettings(), RemovalLimits(3, 0.2, 3), None, None, tunnels=frozenset()
    )
    (shared,) = access_report.access_report(plan, Labels([DeviceName(2, "dev-2", "alice", "laptop")])).shared
    assert (shared.address, shared.devices) == ("10.8.0.2", ["a peer without a row", "laptop of alice"])


def test_what_waits_comes_first_and_long_lists_are_cut() -> None:
    texts = [f"10.{n}.0.0/24" for n in range(access_report.MOST + 3)]
    wide = tables(policy(1, "allow", *texts, to=OF_ALICE))
    there = plan_access(DEVICES, wide, PolicySettings(), RemovalLimits(3, 0.2, 3), None, None, tunnels=frozenset())
    made = report(there.wanted, tables())
    (diff,) = made.diffs
    assert diff.withheld and (made.gained, made.lost, made.changed) == (0, 0, 0)
    assert (len(diff.lost), diff.more_ranges, {one.policy for one in diff.lost}) == (access_report.MOST, 3, {""})
    only_some = ruleset(*((one, Access()) for one in DEVICES[1:]))
    assert report(only_some, tables()).diffs == []
