"""Access ends with the next packet, and no address gives one device the access of another, at no moment."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from tests.policing import device, networks, policy, ruleset, tables
from tests.routed import SECONDS, Gateway, drain, waiting
from tests.samples import actual, dump
from tests.wait import until
from wgsyncd.core.network import parse_host
from wgsyncd.core.policies.model import Access, Ruleset
from wgsyncd.dataplane.nftables import commands
from wgsyncd.dataplane.nftables.filter import remove_table
from wgsyncd.errors import FilterError
from wgsyncd.ports import Phase

ALICE, SECOND = device(2, "10.8.0.2", "fd08::2"), device(3, "10.8.0.3")
BOTH = [ALICE, SECOND]
OPEN = policy(1, "allow", "10.1.0.0/16", "fd01::/64", to=[("device", "dev-2")])
CLOSED = tables(policy(1, "allow", "10.2.0.0/16", to=[("device", "dev-2")]))


def flow(router: Gateway, source: str = "10.8.0.2", address: str = "10.1.0.1") -> tuple[socket.socket, socket.socket]:
    """A flow of datagrams that runs in both directions: the socket of the client and the one of the server."""
    one, other = router.socket(router.alice, source), router.socket(router.server, address)
    assert router.passes(one, other, address) and router.passes(other, one, source)
    return one, other


@pytest.mark.parametrize(("source", "address"), [("10.8.0.2", "10.1.0.1"), ("fd08::2", "fd01::2")])
def test_a_stream_of_datagrams_ends_with_the_next_packet_in_both_directions(
    router: Gateway, source: str, address: str
) -> None:
    router.cycle(BOTH, tables(OPEN))
    one, other = flow(router, source, address)
    router.cycle(BOTH, CLOSED)
    assert not router.passes(other, one, source), "the server goes on sending"
    assert not router.passes(one, other, address)
    router.cycle(BOTH, tables(OPEN))
    assert router.passes(other, one, source)


@pytest.mark.parametrize("from_server", [True, False])
def test_a_stream_of_tcp_ends_although_one_side_goes_on_sending(router: Gateway, from_server: bool) -> None:
    router.cycle(BOTH, tables(OPEN))
    listener = router.socket(router.server, "10.1.0.1", kind=socket.SOCK_STREAM)
    listener.listen()
    client = router.socket(router.alice, "10.8.0.2", kind=socket.SOCK_STREAM)
    client.connect(listener.getsockname())
    with listener.accept()[0] as server:
        sender, receiver = (server, client) if from_server else (client, server)
        sender.sendall(b"first")
        assert receiver.recv(100) == b"first"
        router.cycle(BOTH, CLOSED)
        refused = router.refused()
        sender.sendall(b"second")
        until(lambda: router.refused() > refused + 1, SECONDS, "the sender tries it again")
        assert not waiting(receiver)


def test_a_device_without_a_peer_reaches_nothing_more(router: Gateway) -> None:
    router.cycle(BOTH, tables(OPEN))
    one, other = flow(router)
    router.cycle([SECOND], tables(OPEN), between=lambda: _refused(router, one, other))
    _refused(router, one, other)


def _refused(router: Gateway, one: socket.socket, other: socket.socket) -> None:
    assert not router.passes(one, other, "10.1.0.1") and not router.passes(other, one, "10.8.0.2")


def test_an_address_that_changes_hands_gives_nobody_the_access_of_the_other(router: Gateway) -> None:
    """Alice's address goes to the second device, which may reach another server. Packets are tried in between, too."""
    theirs = policy(2, "allow", "10.2.0.0/16", to=[("device", "dev-3")])
    router.cycle(BOTH, tables(OPEN, theirs))
    one, other = flow(router)
    third = router.socket(router.server, "10.2.0.1")

    def in_between() -> None:
        _refused(router, one, other)
        assert not router.passes(one, third, "10.2.0.1")

    plan = router.cycle([device(3, "10.8.0.2")], tables(OPEN, theirs), between=in_between)
    assert plan.withdrawn == {parse_host(text) for text in ("10.8.0.2", "10.8.0.3", "fd08::2")}
    assert router.filter.status.forgotten_flows >= 1
    _refused(router, one, other)
    assert router.passes(one, third, "10.2.0.1")


def test_no_flow_of_the_former_device_reaches_the_next_one_even_where_both_may_go(router: Gateway) -> None:
    everybody = policy(1, "allow", "10.1.0.0/16", to=[("device", "dev-2"), ("device", "dev-3")])
    router.cycle([ALICE], tables(everybody))
    one, other = flow(router)
    router.cycle([device(3, "10.8.0.2")], tables(everybody))
    assert not router.passes(other, one, "10.8.0.2"), "the server's stream was for the former device"
    assert router.passes(one, other, "10.1.0.1")


def test_flows_of_other_devices_go_on(router: Gateway) -> None:
    everybody = policy(1, "allow", "10.1.0.0/16", to=[("device", "dev-2"), ("device", "dev-3")])
    router.cycle(BOTH, tables(everybody))
    one, other = flow(router, "10.8.0.3")
    router.cycle([SECOND], tables(everybody))
    assert router.passes(other, one, "10.8.0.3")


def test_many_addresses_are_forgotten_by_one_walk_through_all_flows(router: Gateway) -> None:
    router.cycle(BOTH, tables(OPEN))
    flow(router)
    flow(router, "fd08::2", "fd01::2")
    many = [parse_host(f"10.8.0.{number}") for number in range(2, 60)]
    assert router.netfilter.forget(many) == 1
    assert router.netfilter.forget([parse_host("fd08::2")]) == 1
    assert router.netfilter.forget(many) == 0


def test_a_ruleset_that_is_as_wanted_is_not_touched(router: Gateway) -> None:
    router.cycle(BOTH, tables(OPEN, dns=("10.1.0.53",)))
    before = router.netfilter.generation()
    router.cycle(BOTH, tables(OPEN, dns=("10.1.0.53",)))
    assert router.netfilter.generation() == before and not router.filter.mend()


def test_profiles_that_nobody_has_are_gone(router: Gateway) -> None:
    router.cycle(BOTH, tables(OPEN))
    router.cycle(BOTH, CLOSED)
    assert set(router.found().ruleset.profiles) == {networks("10.2.0.0/16").profile, networks().profile}


def test_a_peer_that_did_not_come_gets_no_element(router: Gateway) -> None:
    """The address is still with another peer: the kernel refused a change."""
    router.cycle(BOTH, tables(OPEN))
    plan = router.plan([device(3, "10.8.0.2")], tables(OPEN))
    nobody = actual(dump(name="wg0"), dump(name="wg1"))
    router.filter.apply(Phase.WITHDRAW, plan, nobody)
    router.filter.apply(Phase.GRANT, plan, nobody)
    assert not router.found().ruleset.elements


def test_what_needs_an_admin_is_told_once(router: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    many = [device(number, f"10.8.0.{number}") for number in range(2, 12)]
    everybody = policy(1, "allow", "10.1.0.0/16", to=[("device", one.id) for one in many])
    plan = router.cycle(many, tables(everybody, policy(2, "maybe", "10.7.0.0/16")))
    assert plan.counts == (10, 0, 0)
    for _ in range(2):
        plan_id = router.cycle(many, tables(policy(2, "maybe", "10.7.0.0/16"))).plan_id
    status = router.filter.status
    assert (status.withheld, status.plan_id) == (10, plan_id)
    said = capsys.readouterr().out
    for one in ("access changed", "policy is faulty", "NOTHING WAS TAKEN AWAY"):
        assert said.count(one) == 1, one


# -- other programs, and nft that fails


def test_a_flush_by_another_program_is_put_right_and_the_program_is_named(
    router: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel counts a commit before it tells of it, so the first look may hear nothing."""
    router.cycle(BOTH, tables(OPEN, dns=("10.1.0.53",)))
    before = router.found().ruleset
    one, other = flow(router)
    router.nft.run("flush ruleset\n")
    told, first = router.netfilter.commits, iter([True])
    monkeypatch.setattr(router.netfilter, "commits", lambda: [] if next(first, False) else told())
    until(router.filter.mend, SECONDS, "restored")
    assert router.found().ruleset == before and router.found().is_intact
    assert router.filter.status.restorations == 1 and router.filter.status.culprit.startswith("nft (")
    assert any("another program" in line and "process='nft (" in line for line in capsys.readouterr().out.splitlines())
    assert router.passes(other, one, "10.8.0.2")
    assert not router.filter.mend()


TAMPERED = [
    "add element inet wgsyncd devices4 { 10.8.0.9 : accept }",
    'add element inet wgsyncd devices4 { 10.8.0.9 comment "dev-2" : goto p_PROFILE }',
    "delete element inet wgsyncd devices4 { 10.8.0.2 }",
    "flush map inet wgsyncd devices4",
    "add element inet wgsyncd d4_PROFILE { 10.2.0.0/16 }",
    "insert rule inet wgsyncd judge accept",
    "flush chain inet wgsyncd refuse",
    "flush chain inet wgsyncd p_PROFILE",
    "delete element inet wgsyncd tunnels { wg0 }",
    "add element inet wgsyncd free4 { 0.0.0.0/0 }",
    "add element inet wgsyncd dns4 { 10.2.0.1 }",
    "add chain inet wgsyncd more { type filter hook forward priority -10; }",
    "add table inet wgsyncd { flags dormant; }",
    "delete table inet wgsyncd",
]


@pytest.mark.parametrize("command", TAMPERED)
def test_each_change_of_somebody_else_is_drift_and_put_right(router: Gateway, command: str) -> None:
    router.cycle(BOTH, tables(OPEN))
    before = router.found()
    router.nft.run(command.replace("PROFILE", networks("10.1.0.0/16", "fd01::/64").profile) + "\n")
    assert router.filter.mend()
    assert (router.found().ruleset, router.found().is_intact) == (before.ruleset, True)
    assert router.reaches(router.alice, "10.8.0.2", "10.1.0.1")
    assert not router.reaches(router.alice, "10.8.0.3", "10.1.0.1")


def test_the_rules_of_others_are_left_alone(router: Gateway) -> None:
    router.cycle(BOTH, tables(OPEN))
    router.nft.run("add table inet other\nadd chain inet other some\n")
    assert not router.filter.mend()
    router.nft.run("delete table inet wgsyncd\n")
    assert router.filter.mend()
    router.nft.run("delete chain inet other some\n")  # it is still there


def test_a_refused_change_changes_nothing(router: Gateway) -> None:
    router.cycle(BOTH, tables(OPEN))
    before = router.netfilter.generation()
    with pytest.raises(FilterError, match="none is made"):
        router.nft.run(commands.complete(Ruleset()) + "add rule inet wgsyncd nowhere accept\n")
    assert router.netfilter.generation() == before
    assert router.reaches(router.alice, "10.8.0.2", "10.1.0.1")


def test_an_nft_that_fails_leaves_the_last_ruleset_and_the_next_cycle_goes_on(
    router: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    router.cycle(BOTH, tables(OPEN))
    before = router.found().ruleset
    monkeypatch.setattr(router.nft, "_program", "false")
    with pytest.raises(FilterError):
        router.cycle(BOTH, CLOSED)
    monkeypatch.setattr(router.nft, "_program", "nft")
    assert router.found().ruleset == before and router.reaches(router.alice, "10.8.0.2", "10.1.0.1")
    router.cycle(BOTH, CLOSED)
    assert not router.reaches(router.alice, "10.8.0.2", "10.1.0.1")


def test_a_missing_nft_is_told_with_what_to_do(router: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router.nft, "_program", "no-such-nft")
    with pytest.raises(FilterError, match="Install Debian's package nftables"):
        router.nft.show()


def test_a_new_process_goes_on_with_the_table_that_the_last_one_left(router: Gateway) -> None:
    router.cycle(BOTH, tables(OPEN))
    before, generation = router.found().ruleset, router.netfilter.generation()
    router.restart()
    assert router.filter.wanted == before and router.netfilter.generation() == generation
    router.cycle(BOTH, tables(OPEN))
    assert router.netfilter.generation() == generation


@pytest.mark.parametrize("command", ["insert rule {0} judge accept", "delete chain {0} forward"])
def test_other_chains_at_start_are_replaced_and_access_stays(router: Gateway, command: str) -> None:
    router.cycle(BOTH, tables(OPEN))
    client, server = flow(router)
    router.nft.run(command.format("inet wgsyncd") + "\n")
    router.restart()
    assert router.passes(client, server, "10.1.0.1") and router.passes(server, client, "10.8.0.2")
    assert not router.reaches(router.alice, "10.8.0.2", "10.2.0.1")
    assert router.found().is_intact


@pytest.mark.parametrize("command", ["d4_{} {{ 10.2.0.0/16 }}", "devices4 {{ 10.8.0.9 : accept }}"])
def test_elements_that_wgsyncd_never_makes_let_nothing_through_at_start(router: Gateway, command: str) -> None:
    router.cycle(BOTH, tables(OPEN))
    profile = router.found().ruleset.elements[parse_host("10.8.0.2")].profile
    router.nft.run(f"add element inet wgsyncd {command.format(profile)}\n")
    router.restart()
    assert not router.reaches(router.alice, "10.8.0.2", "10.1.0.1")
    assert not router.reaches(router.alice, "10.8.0.2", "10.2.0.1")


def test_a_table_that_is_not_wanted_any_more_is_removed(router: Gateway) -> None:
    assert remove_table(router.nft) and router.nft.show() is None
    assert not remove_table(router.nft)
    one, other = router.socket(router.alice, "10.8.0.2"), router.socket(router.server, "10.1.0.1")
    one.sendto(b"x", other.getsockname())
    assert other.recv(10) == b"x"


def test_ten_thousand_devices_are_read_back_as_they_were_written(router: Gateway) -> None:
    profiles = [Access(tuple((number << 16 | part << 8, number << 16 | part << 8 | 99) for part in range(20))) for number in range(1, 51)]  # fmt: skip
    devices = [(device(n, f"100.64.{n >> 8}.{n & 255}"), profiles[n % 50]) for n in range(10_000)]
    wanted = replace(ruleset(*devices), tunnels=frozenset(("wg0", "wg1")))
    router.nft.run(commands.complete(wanted))
    assert router.found().ruleset == wanted and router.found().is_intact
    assert drain(router.socket(router.server, "10.1.0.1")) == []
