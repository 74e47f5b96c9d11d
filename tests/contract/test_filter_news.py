"""Commits of other programs cost nothing unless they change wgsyncd's table, and no change of it is missed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.policing import device, policy, tables
from tests.routed import Gateway, gateway
from wgsyncd.core.policies.model import PolicySettings
from wgsyncd.dataplane.nftables.nft import Nft

OPEN = tables(policy(1, "allow", "10.1.0.0/16", to=[("device", "dev-2")]))
OTHERS = (
    "add table inet other",
    "add table ip wgsyncd",
    "add chain inet other wgsyncd",
    "add set inet other s { type ipv4_addr; }",
)


class _Counted(Nft):
    """nft that counts its listings."""

    listings = 0

    def show(self) -> str | None:
        self.listings += 1
        return super().show()


@pytest.fixture
def router() -> Iterator[Gateway]:
    with gateway(PolicySettings()) as made:
        made.filter.start()
        made.cycle([device(2, "10.8.0.2")], OPEN)
        made.filter._nft = made.nft = _Counted()
        yield made


def listings(router: Gateway) -> int:
    assert isinstance(router.nft, _Counted)
    return router.nft.listings


def test_commits_to_other_tables_cost_no_listing(router: Gateway) -> None:
    for command in OTHERS:
        Nft().run(f"{command}\n")
        for number in range(10):
            Nft().run(f"add table inet more{number}\n")
        assert not router.filter.mend()
    router.cycle([device(2, "10.8.0.2")], OPEN)
    assert listings(router) == 0 and router.filter.status.drifts == 0


def test_a_change_of_the_table_between_many_others_is_put_right(router: Gateway) -> None:
    before = router.found().ruleset
    for number in range(30):
        Nft().run(f"add table inet more{number}\n")
        if number == 7:
            Nft().run("flush map inet wgsyncd devices4\n")
    assert router.filter.mend()
    assert router.found().ruleset == before
    assert not router.filter.mend()


def test_where_news_were_lost_the_table_is_read(router: Gateway) -> None:
    """The kernel keeps 200 KiB of news for a program that does not read them, and drops the others."""
    before = router.found().ruleset
    many = ", ".join(f"10.{a}.{b}.1" for a in range(60) for b in range(250))
    Nft().run(f"add table inet other\nadd set inet other s {{ type ipv4_addr\n}}\nadd element inet other s {{ {many} }}\n"
              "delete element inet wgsyncd devices4 { 10.8.0.2 }\n")  # fmt: skip
    assert router.filter.mend()
    assert router.found().ruleset == before
    Nft().run("delete table inet wgsyncd\n")
    assert router.filter.mend()
    assert router.found().ruleset == before


def test_a_lost_table_and_a_flush_of_everything_are_heard(router: Gateway) -> None:
    for command in ("delete table inet wgsyncd", "flush ruleset", "flush table inet wgsyncd"):
        Nft().run(f"{command}\n")
        assert router.filter.mend(), command
        assert not router.filter.mend()
    assert router.filter.status.restorations == 3
