"""The packet filter counts what it lets through and what it refuses, by interface."""

from __future__ import annotations

from tests.policing import device, policy, tables
from tests.routed import LIMITS, TUNNELS, gateway
from wgsyncd.core.policies.model import PolicySettings
from wgsyncd.core.policies.status import NO_TRAFFIC, Traffic
from wgsyncd.dataplane.nftables.view import FilterSettings

ALICE, SECOND, BOB = device(2, "10.8.0.2"), device(3, "10.8.0.3"), device(4, "10.9.0.2", interface="wg1")
OPEN = policy(1, "allow", "10.1.0.0/16", to=[("device", "dev-2")])


def test_traffic_is_counted_by_interface_over_all_tables_and_profiles() -> None:
    with gateway(PolicySettings()) as router:
        router.filter.start()
        router.cycle([ALICE, SECOND, BOB], tables(OPEN))
        status = router.filter.status
        for tunnels in (TUNNELS, frozenset(("wg0",)), TUNNELS):
            router.filter.configure(FilterSettings(tunnels, router.policies, LIMITS))
            router.filter.poll()
            accepted = status.accepted
            refused, others = (status.refused.get(name, NO_TRAFFIC) for name in ("wg0", "wg1"))
            assert router.reaches(router.alice, "10.8.0.2", "10.1.0.1")
            for source in ("10.8.0.2", "10.8.0.3"):
                assert not router.reaches(router.alice, source, "10.2.0.1")
            router.filter.poll()
            assert status.accepted == Traffic(accepted.packets + 2, accepted.bytes + 2 * 29)  # IPv4, UDP and one byte
            assert status.refused["wg0"] == Traffic(refused.packets + 2, refused.bytes + 2 * 29)
            if "wg1" in tunnels:
                assert not router.reaches(router.bob, "10.9.0.2", "10.1.0.1", to=router.server)
                one, other = router.socket(router.server, "10.1.0.1"), router.socket(router.bob, "10.9.0.2")
                assert not router.passes(one, other, "10.9.0.2")
                router.filter.poll()
                assert status.refused["wg1"].packets == others.packets + 2, "from and to the interface"
            assert status.refused["wg0"].packets == refused.packets + 2
            assert router.netfilter.counters() == router.found().counters, "as nft shows them"
            router.nft.run("flush ruleset\n")
            assert router.netfilter.counters() == {}
            assert router.filter.mend()
