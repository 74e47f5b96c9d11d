"""`wgsyncd explain --to` on real PostgreSQL and nftables: what decides, in the words of NexaVPN."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nexavpn_sides import named
from tests.postgres import PrivatePostgres
from tests.real.nexavpn_bench import Bench, opened
from tests.real.running import Ear, wait
from tests.samples import address
from tests.samples import text as key_text


@pytest.fixture
def bench(postgres: PrivatePostgres, ear: Ear, tmp_path: Path) -> Iterator[Bench]:
    """A node with device 5 of alice, who is an engineer. The daemon does not run yet."""
    with opened(postgres, ear, tmp_path) as made:
        tables = made.tables
        configure(made, "enforce = false", "enforce = true")
        tables.insert(5)
        tables._insert("groups", {"id": named("engineering"), "name": "engineering"})
        tables._insert("group_memberships", {"group_id": named("engineering"), "user_id": named("alice")})
        tables.policy("office", "allow", "10.0.0.0/8", to=[("group", named("engineering"))])
        tables.policy("no finance", "deny", "10.0.5.0/24", to=[("user", named("alice"))], priority=10)
        tables.policy("six", "allow", "fd00::/8", to=[("device", tables.id(5))], priority=200)
        tables.update("gateways", named("wg0"), dns_servers=["10.0.5.53"])
        yield made


def configure(bench: Bench, old: str, new: str) -> None:
    text = bench.daemon.config.read_text(encoding="utf-8")
    assert old in text
    bench.daemon.config.write_text(text.replace(old, new), encoding="utf-8")


def start(bench: Bench) -> None:
    bench.daemon.start()
    device = str(bench.tables.id(5))
    wait(lambda: device in bench.world.server.run("nft", "list", "ruleset"), "the element of the device")


def told(bench: Bench, to: str, device: str = "laptop 5") -> str:
    """What the command says of an address: the second line, which is the last one but one, too."""
    lines = bench.daemon.cli("explain", device, "--to", to, shows=key_text(5)).stdout.splitlines()
    assert lines[1] == lines[-1] or lines[1] in lines[-3:]
    return lines[1]


def story(bench: Bench, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        bench.daemon.cli("explain", str(bench.tables.id(5)), "--json", *more, shows=key_text(5)).stdout
    )
    return found


SAME = "The packet filter does the same now."


def test_an_address_is_allowed_or_refused_and_the_policy_is_named(bench: Bench) -> None:
    start(bench)
    assert told(bench, "10.1.0.1") == f"10.1.0.1 is allowed: policy 'office' (priority 100) allows 10.0.0.0/8. {SAME}"
    assert told(bench, "10.0.5.7") == (
        "10.0.5.7 is refused: policy 'no finance' (priority 10) denies 10.0.5.0/24."
        f" It comes before policy 'office' (priority 100), which allows it. {SAME}"
    )
    assert told(bench, "10.0.5.53").endswith(
        f"At port 53 it is allowed all the same: it is a DNS server of the gateway. {SAME}"
    )
    nothing = "192.0.2.1 is refused: there are 3 policies of the device, and none covers it."
    assert told(bench, "192.0.2.1") == f"{nothing} {SAME}"
    assert told(bench, "fd00::1") == f"fd00::1 is refused: the device has no IPv6 address. {SAME}"
    bench.tables.policy("The World", "allow", full_tunnel=True, is_active=False, to=[("user", named("alice"))])
    assert "Policy 'The World' (priority 100) would allow it, but it is not active." in told(bench, "192.0.2.1")

    found = story(bench, "--to", "10.0.5.7")["policies"]
    assert [(one["effect"], one["name"], one["targets"]) for one in found["policies"]] == [
        ("deny", "no finance", ["user alice"]),
        ("allow", "office", ["group engineering"]),
        ("allow", "six", ["the device"]),
    ]
    assert found["allowed"] == found["installed"] == ["10.0.0.0-10.0.4.255", "10.0.6.0-10.255.255.255"]
    assert found["dns_servers"] == ["10.0.5.53"]
    to = found["to"]
    assert (to["allowed"], to["why"], to["policy"], to["range"], to["overruled"], to["installed"]) == (
        False, "policy", "no finance", "10.0.5.0/24", ["office"], False
    )  # fmt: skip
    shown = bench.daemon.cli("explain", "alice/laptop 5", shows=key_text(5)).stdout
    assert shown.startswith("laptop 5 has its peer on wg0")
    assert f"row        {bench.tables.id(5)}, user alice, wg0, " in shown
    assert bench.daemon.cli("usage", "alice").stdout.startswith("user alice, by day")
    assert "+  wg0  laptop 5 of alice  wanted" in bench.daemon.cli("status", code=None).stdout
    assert "no device or user is called 'nobody'" in bench.daemon.cli("usage", "nobody", code=1).stderr
    assert "0 of 0 users with traffic" in bench.daemon.cli("usage", "--top", "3", "--by-user").stdout
    (device,) = json.loads(bench.daemon.cli("devices", "laptop", "--json").stdout)["devices"]
    assert device["reaches"] == found["allowed"] and device["more_ranges"] == 0
    listed = bench.daemon.cli("devices", "laptop").stdout.splitlines()
    assert listed[2].split()[:3] == ["device", "user", "status"] and listed[3].split()[1:4] == ["laptop", "5", "alice"]
    assert "policies   1. deny 10.0.5.0/24: 'no finance'\n              priority 10, for user alice\n" in shown
    assert "reaches    10.0.0.0-10.0.4.255, 10.0.6.0-10.255.255.255, port 53 of 10.0.5.53\n" in shown


def test_what_the_packet_filter_does_is_told_where_it_differs(bench: Bench) -> None:
    bench.tables.insert(6)
    start(bench)
    bench.tables.sql("DELETE FROM policy_destinations")
    wait(lambda: bench.daemon.lines(event="NOTHING WAS TAKEN AWAY: the guard keeps the access of devices"),
         "the guard")  # fmt: skip
    kept = f"The packet filter still allows it: the guard keeps the old access: see `{bench.daemon.proposed('plan')}`."
    assert told(bench, "10.1.0.1").endswith(f"and none covers it. {kept}")
    assert story(bench)["policies"]["withheld"] is True
    shown = bench.daemon.cli("explain", "laptop 5", shows=key_text(5)).stdout
    assert shown.splitlines()[1] == (
        "No policy lets it reach an address. The guard keeps its old access: see filter below"
    )
    lines = bench.daemon.cli("plan", code=2).stdout.splitlines()
    at = lines.index("  laptop 5 of alice, laptop 6 of alice: withheld")
    assert lines[at + 1].strip() == "- 10.0.0.0-10.0.4.255  no policy covers it now"
    bench.daemon.stop()
    bench.world.server.run("nft", "delete", "table", "inet", "wgsyncd")
    assert "Nothing is refused now: the packet filter has no table of wgsyncd." in told(bench, "10.1.0.1")


def test_without_a_peer_nothing_passes(bench: Bench) -> None:
    start(bench)
    bench.tables.update("devices", bench.tables.id(5), status="blocked")
    wait(lambda: not story(bench)["peers"], "the removal")
    assert told(bench, "10.1.0.1").endswith("The device has no peer now, so nothing of it passes.")
    bench.tables.sql("DELETE FROM policy_targets")
    assert told(bench, "10.1.0.1").startswith("10.1.0.1 is refused: no policy applies to the device.")


def test_policies_that_nobody_enforces_and_a_faulty_one(bench: Bench) -> None:
    bench.tables.policy("odd", "maybe", "10.9.0.0/16", to=[("device", bench.tables.id(5))])
    start(bench)
    shown = bench.daemon.cli("explain", "laptop 5", shows=key_text(5)).stdout
    assert "deny 10.9.0.0/16: 'odd' (effect 'maybe' is taken for a deny)" in shown
    assert told(bench, "10.200.0.1").startswith("10.200.0.1 is allowed: policy 'office' ")
    bench.daemon.stop()
    configure(bench, "enforce = true", 'enforce = true\nlocal = "leave"')
    leave = 'it is the gateway\'s own address, and the setting policies.local is "leave".'
    assert told(bench, "10.200.0.1") == f"10.200.0.1 is not refused here: {leave}"
    configure(bench, "enforce = true", "enforce = false")
    assert told(bench, "10.1.0.1") == "10.1.0.1 is not refused here: the setting policies.enforce is false."
    shown = bench.daemon.cli("explain", "laptop 5", "--to", "10.1.0.1", shows=key_text(5)).stdout
    assert "policies   are not enforced by the configuration: nothing is refused here" in shown


def test_what_is_not_judged_and_a_stale_profile_are_told(bench: Bench) -> None:
    configure(bench, "enforce = true", 'enforce = true\nfree_sources = ["192.0.2.0/24"]')
    start(bench)
    free = "But it may begin flows to the device: policies.free_sources has it, or a peer of peers.always_keep."
    assert told(bench, "192.0.2.1").endswith(f"none covers it. {SAME} {free}")
    assert free not in told(bench, "198.51.100.1")
    stale = (
        "client     its client profile is stale: it routes other addresses. Issue the device's configuration again\n"
    )
    assert stale in bench.daemon.cli("explain", "laptop 5", shows=key_text(5)).stdout
    bench.tables.update("wireguard_peers", bench.tables.peer_id(5), allowed_ips=["10.0.0.0/8"])
    assert stale not in bench.daemon.cli("explain", "laptop 5", shows=key_text(5)).stdout
    bench.daemon.stop()
    text = bench.daemon.config.read_text(encoding="utf-8")
    bench.daemon.config.write_text(f'{text}[peers]\nalways_keep = ["{key_text(5)}"]\n', encoding="utf-8")
    kept = "192.0.2.1 is not refused here: the device's key is in peers.always_keep."
    assert told(bench, "192.0.2.1").startswith(kept)
    shown = bench.daemon.cli("explain", "laptop 5", shows=key_text(5)).stdout
    assert "policies   do not judge it: its key is in peers.always_keep\n" in shown


def test_an_address_with_a_port_and_a_name_of_two_devices_are_refused(bench: Bench) -> None:
    wrong = bench.daemon.cli("explain", "laptop 5", "--to", "10.1.0.1:443", code=2).stderr
    assert "'10.1.0.1:443' is not one IPv4 or IPv6 address, such as 10.0.5.7. Policies have no ports" in wrong
    bench.tables.insert(6)
    bench.tables.update("devices", bench.tables.id(6), name="laptop 5")
    both = bench.daemon.cli("explain", "laptop 5", code=1).stderr
    assert all(f"{bench.tables.id(number)} of alice" in both for number in (5, 6))


def test_plan_shows_who_gains_and_loses_which_range_by_which_policy(bench: Bench) -> None:
    start(bench)
    bench.daemon.stop()
    bench.tables.policy("stop", "deny", "10.1.0.0/16", priority=5, to=[("group", named("engineering"))])
    bench.tables.policy("lab", "allow", "192.0.2.0/24", to=[("device", bench.tables.id(5))])
    lines = bench.daemon.cli("plan", code=2).stdout.splitlines()
    assert lines[:4] == [
        "access: 1 device gets other access",
        "  laptop 5 of alice",
        "    + 192.0.2.0/24  policy 'lab' allows it",
        "    - 10.1.0.0/16  policy 'stop' denies it",
    ]
    (diff,) = json.loads(bench.daemon.cli("plan", "--json", code=2).stdout)["access"]["diffs"]
    assert diff["devices"] == [{"device": str(bench.tables.id(5)), "name": "laptop 5", "owner": "alice"}]
    assert diff["lost"] == [{"range": "10.1.0.0/16", "policy": "stop"}]
    start(bench)
    wait(lambda: "192.0.2." in bench.world.server.run("nft", "list", "ruleset"), "the new policy")
    assert "no changes" in bench.daemon.cli("plan").stdout


def test_an_address_of_two_devices_is_named_with_both_until_one_has_another(bench: Bench) -> None:
    configure(bench, '["10.251.0.0/24"]\naddresses', '["10.200.0.0/24"]\naddresses')
    bench.tables.insert(6, "wg1", assigned_ip=address(5))
    bench.daemon.start()
    begins, ends = "several devices have one address, so it reaches nothing", "no address belongs to several devices"
    wait(lambda: bench.daemon.lines(event=begins), "the line of the log")
    (line,) = bench.daemon.lines(event=begins)
    assert (line["addresses"], sorted(line["called"])) == ([address(5)], ["laptop 5 of alice", "laptop 6 of alice"])
    also = f"its address {address(5)} also belongs to laptop 6 of alice, so its policies have no effect"
    shown = bench.daemon.cli("explain", "laptop 5", shows=key_text(5)).stdout
    assert shown.splitlines()[1] == f"It reaches nothing: {also}. Give one of the devices another address"
    assert f"reaches    nothing: {also}\n" in shown
    refused = f"10.1.0.1 is refused: {also}. Give one of the devices another address."
    assert told(bench, "10.1.0.1") == refused
    both = f"{address(5)} reaches nothing, because it belongs to laptop 5 of alice, laptop 6 of alice"
    assert f"? {both}" in bench.daemon.cli("plan", code=None).stdout
    status = bench.daemon.cli("status", code=None).stdout
    assert "addresses: 1 address belongs to several devices. Such an address reaches nothing" in status
    assert f"{address(5)} " not in bench.world.server.run("nft", "list", "map", "inet", "wgsyncd", "devices4")

    for table in ("wireguard_peers", "ip_allocations"):
        column = "assigned_ip" if table == "wireguard_peers" else "address"
        bench.tables.sql(f"UPDATE {table} SET {column} = %s WHERE device_id = %s", address(6), bench.tables.id(6))
    wait(lambda: [one for one in bench.daemon.lines() if one["event"].startswith(ends)], "the end")
    assert len(bench.daemon.lines(event=begins)) == 1
    assert told(bench, "10.1.0.1").endswith(SAME)
    assert both not in bench.daemon.cli("plan", code=None).stdout
