"""Any ruleset becomes any other one in one transaction of nft, and is read back as it was written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.namespace import own_network
from wgsyncd.core.network import Network
from wgsyncd.core.peers.guard import RemovalLimits
from wgsyncd.core.policies.model import Access, Element, PolicySettings, Ruleset
from wgsyncd.core.policies.ranges import Ranges, join
from wgsyncd.dataplane.nftables import commands, listing
from wgsyncd.dataplane.nftables.filter import PacketFilter
from wgsyncd.dataplane.nftables.netfilter import Netfilter
from wgsyncd.dataplane.nftables.nft import Nft
from wgsyncd.dataplane.nftables.view import FilterSettings
from wgsyncd.errors import FilterError, UserError

LAST = {4: 2**32 - 1, 16: 2**128 - 1}


@pytest.fixture
def nft() -> Iterator[Nft]:
    with own_network():
        yield Nft()


def found(nft: Nft) -> listing.Found:
    shown = nft.show()
    assert shown is not None
    return listing.decode(shown)


def some_ranges(chance: random.Random, size: int) -> Ranges:
    """Ranges that often touch the first or the last address, one another, or the border of a prefix."""
    last, middle = LAST[size], chance.choice([0, 10 << (8 * size - 8), LAST[size] - 300])
    ranges = []
    for _ in range(chance.randint(0, 6)):
        first = min(middle + chance.randint(0, 300), last)
        ranges.append((first, min(first + chance.choice([0, 1, 7, 15, 16, 255]), last)))
    if chance.random() < 0.1:
        ranges = [(0, last)]
    return join(ranges)


def some_host(chance: random.Random) -> Network:
    size = chance.choice([4, 4, 16])
    return Network((chance.randint(1, 40) + (10 << (8 * size - 8))).to_bytes(size), 8 * size)


def some_ruleset(chance: random.Random, before: Ruleset) -> Ruleset:
    def access() -> Access:
        return Access(some_ranges(chance, 4), some_ranges(chance, 16))

    profiles = {one.profile: one for one in (*chance.sample(list(before.profiles.values()), len(before.profiles) // 2), *(access() for _ in range(chance.randint(1, 4))))}  # fmt: skip
    elements = {
        some_host(chance): Element(chance.choice(["", "dev-1", f"dev-{chance.randint(1, 99)}"]), chance.choice(list(profiles)))
        for _ in range(chance.randint(0, 25))
    }  # fmt: skip
    used = {element.profile for element in elements.values()}
    return Ruleset(
        tunnels=frozenset(chance.sample(["wg0", "wg1", "wg-office.7"], chance.randint(1, 3))),
        dns=frozenset(some_host(chance) for _ in range(chance.randint(0, 3))),
        free=access(), sites=access() if chance.random() < 0.5 else Access(),
        profiles={name: one for name, one in profiles.items() if name in used}, elements=elements,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_any_ruleset_becomes_any_other_and_is_read_back(nft: Nft, seed: int) -> None:
    chance = random.Random(seed)
    before = some_ruleset(chance, Ruleset())
    nft.run(commands.complete(before))
    for _ in range(12):
        there = found(nft)
        assert (there.ruleset, there.is_intact) == (before, True)
        assert commands.change(there.ruleset, before) == ""
        wanted = some_ruleset(chance, before)
        if changes := commands.change(there.ruleset, wanted):
            nft.run(changes)
        before = wanted


@pytest.mark.parametrize("rejects", [True, False])
@pytest.mark.parametrize("judges_local", [True, False])
def test_the_chains_are_as_the_settings_say(nft: Nft, rejects: bool, judges_local: bool) -> None:
    wanted = Ruleset(tunnels=frozenset(("wg0",)), rejects=rejects, judges_local=judges_local)
    nft.run(commands.complete(wanted))
    assert found(nft).ruleset == wanted and found(nft).is_intact


@pytest.mark.parametrize("name", ['wg0"; flush ruleset', "wg 0", "", "x" * 16, "wg0\n"])
def test_a_name_that_is_no_name_of_an_interface_is_refused_before_anything_is_done(nft: Nft, name: str) -> None:
    settings = FilterSettings(frozenset(("wg0", name)), PolicySettings(), RemovalLimits(3, 0.2, 3))
    with closing(Netfilter()) as netfilter, pytest.raises(UserError, match="cannot be the name of an interface"):
        PacketFilter(settings, nft, netfilter)
    with pytest.raises(UserError):
        commands.complete(Ruleset(tunnels=frozenset((name,))))


@pytest.mark.parametrize("shown", ["", "{}", "[]", '{"nftables": [{"set": 1}]}', '{"nftables": [{}]}'])
def test_a_listing_that_makes_no_sense_is_an_error(shown: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of json, or of decode()
        listing.decode(shown)


def test_an_nft_that_gives_no_answer_is_ended() -> None:
    with own_network(), pytest.raises(FilterError, match="gave no answer within 0"):
        Nft(timeout=0.0).show()
