"""Which devices are shaped, and which keep the shaping they have, as a decision about peers says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tests.samples import POLICY as PEERS
from tests.samples import actual, dump, peer, planned, row, state, wants
from wgsyncd.core.model import DeviceRow, InterfaceState, Status
from wgsyncd.core.network import Network, Networks, parse_host, parse_network
from wgsyncd.core.peers.desired import PeerPolicy
from wgsyncd.core.peers.guard import Decision, ReadError, RemovalLimits, apply_guard
from wgsyncd.core.shaping.profiles import Profile, ShapingPolicy, Terms
from wgsyncd.core.shaping.wanted import Wanted, wanted_shaping

PROFILES = {"standard": Profile(down=1000, up=500), "open": Profile()}
POLICY = ShapingPolicy(enforce=True, exempt=(parse_network("192.0.2.0/24"),), profiles=PROFILES)
TERMS = {"0001": Terms("standard")}


def decide(
    rows: Iterable[DeviceRow],
    kernel: Mapping[str, InterfaceState],
    *,
    most: int | None = None,
    policy: PeerPolicy = PEERS,
) -> Decision:
    rows = list(rows)
    plan = planned(rows, kernel, policy=policy)
    return apply_guard(
        wants(rows, kernel, policy=policy), plan, kernel, RemovalLimits(most or 1, 0.0 if most else 1.0, 0), None
    )


def shaped(decision: Decision, *, policy: ShapingPolicy = POLICY, terms: Mapping[str, Terms] = TERMS,
           networks: Mapping[str, Networks] | None = None) -> Wanted:  # fmt: skip
    return wanted_shaping(decision, terms, policy, networks or {})


def live(*numbers: int) -> dict[str, InterfaceState]:
    return actual(dump(*(state(peer(number)) for number in numbers)), dump(name="wg1"))


def ids(wanted: Wanted) -> list[object]:
    return [one.id for one in wanted.devices]


def host(number: int) -> Network:
    return parse_host(f"10.200.0.{number}")


def test_every_device_that_wants_a_peer_is_shaped_before_its_peer_is_there() -> None:
    wanted = shaped(decide((row(7), row(5), row(6, status=Status.OFF)), live(5)))
    assert ids(wanted) == [5, 7]
    assert [one.addresses for one in wanted.devices] == [(host(5),), (host(7),)]
    assert (wanted.devices[0].owner, wanted.devices[0].interface, wanted.devices[0].choice.down) == (
        "0001",
        "wg0",
        1000,
    )
    assert wanted.exempt == POLICY.exempt and not wanted.held


def test_contracts_without_a_rate_and_foreign_peers_are_not_shaped() -> None:
    rows = (row(5), row(6, owner="0002"), row(7, owner="0003"))
    wanted = shaped(
        decide(rows, live(5, 9), policy=replace(PEERS, foreign="keep")), terms=TERMS | {"0002": Terms("open")}
    )
    assert ids(wanted) == [5]
    assert not wanted.held


def test_a_frozen_peer_keeps_what_it_has() -> None:
    wanted = shaped(decide((row(5), row(6, address="junk")), live(5, 6)))
    assert ids(wanted) == [5]
    assert wanted.held == {host(6)}


def test_a_peer_whose_removal_is_withheld_keeps_what_it_has() -> None:
    kernel = live(5, 6, 7, 8)
    off = [row(number, status=Status.OFF) for number in (6, 7, 8)]
    assert shaped(decide((row(5), *off), kernel)).held == frozenset()
    wanted = shaped(decide((row(5), *off), kernel, most=1))
    assert ids(wanted) == [5]
    assert wanted.held == {host(6), host(7), host(8)}


def test_a_device_that_waits_for_a_withheld_removal_is_not_shaped_yet() -> None:
    """It gets the address of a peer that stays, and this address keeps its shaping."""
    off = [row(number, status=Status.OFF) for number in (6, 7, 8)]
    wanted = shaped(decide((row(5), *off, row(9, address="10.200.0.6")), live(5, 6, 7, 8), most=1))
    assert ids(wanted) == [5]
    assert host(6) in wanted.held


def test_a_peer_that_may_belong_to_an_unreadable_key_keeps_what_it_has() -> None:
    wanted = shaped(decide((row(5), row(6, public_key="junk")), live(5, 9)))
    assert ids(wanted) == [5]
    assert wanted.held == {host(9)}


def test_all_addresses_of_an_interface_that_could_not_be_read_are_held() -> None:
    decision = replace(decide((row(5),), live(5)), interface_errors={"wg1": ReadError("EBUSY", "")})
    wanted = shaped(decision, networks={"wg1": (parse_network("10.251.0.0/24"),)})
    assert wanted.holds(parse_host("10.251.0.77"))
    assert not wanted.holds(parse_host("10.200.0.77"))


def test_switched_off_nothing_is_wanted_and_nothing_held() -> None:
    wanted = shaped(decide((row(5), row(6, address="junk")), live(5, 6)), policy=replace(POLICY, enforce=False))
    assert wanted == Wanted()


def test_a_contract_that_the_store_does_not_know_has_the_default() -> None:
    wanted = shaped(decide((row(5),), live(5)), policy=replace(POLICY, default="standard"), terms={})
    assert wanted.devices[0].choice.name == "standard"
