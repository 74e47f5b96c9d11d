"""After any interruption, one more cycle reaches the desired state and the next plans nothing.

The tests generate rows and kernel states together from few keys and addresses. So conflicts are frequent.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes import FakeWireGuard
from tests.samples import address, key, planned, psk, row, text, wants
from wgsyncd.core.model import (
    NO_PRESHARED_KEY,
    Change,
    ChangeKind,
    DeviceRow,
    InterfaceState,
    PeerConfig,
    Status,
    encode_key,
)
from wgsyncd.core.network import as_networks, parse_host
from wgsyncd.core.peers.desired import PeerPolicy

NAMES = ("wg0", "wg1")
FEW = st.integers(2, 9)
Kernel = list[tuple[str, int, list[int], int, int]]


@st.composite
def rows_of(draw: st.DrawFn) -> list[DeviceRow]:
    """Returns rows with colliding keys and addresses. Some rows are revoked, and some have invalid values."""
    rows = []
    for n in range(draw(st.integers(0, 9))):
        interface = draw(st.sampled_from((*NAMES, *NAMES, *NAMES, "wg7")))
        bad = draw(st.sampled_from(("",) * 9 + ("key", "psk", "address")))
        secret = draw(st.integers(0, 2))
        written = address(draw(FEW), interface if interface in NAMES else "wg0")
        rows.append(
            row(
                n,
                interface=interface,
                public_key="junk" if bad == "key" else text(draw(FEW)),
                preshared_key="junk" if bad == "psk" else encode_key(psk(secret)) if secret else None,
                address="junk" if bad == "address" else written,
                status=draw(st.sampled_from((Status.ACTIVE, Status.ACTIVE, Status.ACTIVE, Status.OFF))),
            )
        )
    return rows


kernels: st.SearchStrategy[Kernel] = st.lists(
    st.tuples(st.sampled_from(NAMES), FEW, st.lists(FEW, max_size=3), st.integers(0, 2), st.sampled_from((0, 25))),
    max_size=10,
)
policies = st.builds(
    PeerPolicy,
    foreign=st.sampled_from(("remove", "remove", "keep", "report")),
    always_keep=st.frozensets(FEW.map(key), max_size=1),
)


def kernel_of(peers: Kernel) -> FakeWireGuard:
    kernel = FakeWireGuard(*NAMES)
    for name, number, hosts, secret, keepalive in peers:
        ips = as_networks(parse_host(address(host, name)) for host in hosts)
        kernel.add_behind(name, PeerConfig(key(number), psk(secret) if secret else NO_PRESHARED_KEY, ips, keepalive))
    return kernel


def read(kernel: FakeWireGuard) -> dict[str, InterfaceState]:
    return {name: kernel.read(name) for name in NAMES}


def apply(kernel: FakeWireGuard, changes: Iterable[Change]) -> None:
    for change in changes:
        assert kernel.apply(change.interface, [change]) == []


def is_desired(
    kernel: FakeWireGuard, rows: list[DeviceRow], policy: PeerPolicy, before: dict[str, InterfaceState]
) -> None:
    """Asserts that the kernel has exactly the desired peers, apart from blocked changes.

    A frozen or kept peer is as it was before. No other peer is left, except peers with a blocked change.
    """
    desired = wants(rows, before, policy=policy)
    plan = planned(rows, before, policy=policy)
    assert plan.withheld == (), "that is the guard's word, and none was asked"
    unclear = {(c.interface, c.public_key) for c in plan.blocked}
    for name in NAMES:
        actual, old = kernel.peers(name), before[name].peers
        wanted = {k: want.config for k, want in desired.peers[name].items()}
        for k, peer in wanted.items():
            assert (name, k) in unclear or actual[k] == peer
        for k in actual.keys() - wanted.keys():
            assert actual[k] == old[k].config, "what is not wanted is never changed"
            kept = policy.foreign != "remove" and not desired.has_key(k)
            assert kept or k in policy.always_keep or k in desired.frozen[name] or (name, k) in unclear
        for k in desired.frozen[name] | (policy.always_keep & old.keys()):
            assert actual[k] == old[k].config, "what is frozen or kept is never changed"


@settings(max_examples=100, deadline=None)
@given(rows_of(), kernels, policies)
@example([row(5, address=address(6)), row(6, address=address(5))], [("wg0", 5, [5], 0, 0), ("wg0", 6, [6], 0, 0)],
         PeerPolicy())  # fmt: skip
@example([row(5, address=address(6)), row(6, address=address(7)), row(7, address=address(5))],
         [("wg0", n, [n], 0, 0) for n in (5, 6, 7)], PeerPolicy())  # fmt: skip
@example([row(5, interface="wg1")], [("wg0", 5, [5], 1, 25)], PeerPolicy())
def test_one_cycle_reaches_desired_and_the_next_plans_nothing(
    rows: list[DeviceRow], peers: Kernel, policy: PeerPolicy
) -> None:
    kernel = kernel_of(peers)
    before = read(kernel)
    apply(kernel, planned(rows, before, policy=policy).changes)
    is_desired(kernel, rows, policy, before)
    assert planned(rows, read(kernel), policy=policy).changes == ()


@settings(max_examples=80, deadline=None)
@given(rows_of(), kernels, policies, st.data())
def test_after_any_interrupted_prefix_one_more_cycle_reaches_desired(
    rows: list[DeviceRow], peers: Kernel, policy: PeerPolicy, data: st.DataObject
) -> None:
    kernel = kernel_of(peers)
    for _ in range(data.draw(st.integers(1, 3), "crashes")):
        changes = planned(rows, read(kernel), policy=policy).changes
        apply(kernel, changes[: data.draw(st.integers(0, len(changes)), "done")])
    before = read(kernel)
    apply(kernel, planned(rows, before, policy=policy).changes)
    is_desired(kernel, rows, policy, before)
    assert planned(rows, read(kernel), policy=policy).changes == ()


@settings(max_examples=50, deadline=None)
@given(rows_of(), rows_of(), kernels)
def test_from_what_one_table_left_another_table_is_reached(
    one: list[DeviceRow], other: list[DeviceRow], peers: Kernel
) -> None:
    kernel = kernel_of(peers)
    apply(kernel, planned(one, read(kernel)).changes)
    before = read(kernel)
    apply(kernel, planned(other, before).changes)
    is_desired(kernel, other, PeerPolicy(), before)
    assert planned(other, read(kernel)).changes == ()


@settings(max_examples=80, deadline=None)
@given(rows_of(), kernels, policies)
def test_a_plan_without_its_removals_takes_nothing_from_who_stays(
    rows: list[DeviceRow], peers: Kernel, policy: PeerPolicy
) -> None:
    """A peer keeps its configuration while its removal is withheld. The plan puts no key on a second interface."""
    kernel = kernel_of(peers)
    before = read(kernel)
    plan = planned(rows, before, policy=policy).withhold(lambda c: c.kind is ChangeKind.REMOVE)
    apply(kernel, plan.changes)
    for change in plan.withheld:
        if change.current is not None:
            assert kernel.peers(change.interface)[change.public_key] == change.current
    doubled = kernel.peers("wg0").keys() & kernel.peers("wg1").keys()
    assert doubled <= before["wg0"].peers.keys() & before["wg1"].peers.keys()


@settings(max_examples=40, deadline=None)
@given(rows_of(), kernels)
def test_an_unchanged_peer_is_never_touched(rows: list[DeviceRow], peers: Kernel) -> None:
    kernel = kernel_of(peers)
    before = read(kernel)
    apply(kernel, planned(rows, before).changes)
    for name in NAMES:
        for k, peer in kernel.peers(name).items():
            if before[name].peers.get(k) is not None and before[name].peers[k].config == peer:
                only_here = k not in before[NAMES[name == "wg0"]].peers and k not in kernel.peers(NAMES[name == "wg0"])
                assert kernel.touched[k] == 0 or not only_here
