"""Each invalid row is rejected beside 200 valid ones, and the right peers are desired or frozen."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.samples import (
    DELETED,
    NO_OWNER,
    NOW,
    POLICY,
    SITES,
    actual,
    address,
    device_name,
    dump,
    issued,
    key,
    loose_base64,
    nets,
    owner,
    peer,
    psk,
    record,
    records,
    row,
    text,
    wants,
)
from wgsyncd.core.model import NO_PRESHARED_KEY, ChangeKind, DeviceId, Status, encode_key
from wgsyncd.core.network import parse_host
from wgsyncd.core.peers.desired import Desired, PeerPolicy, build_desired
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.peers.validate import InterfaceSpec
from wgsyncd.core.reasons import Reason
from wgsyncd.core.records import PeerId, PeerRecords
from wgsyncd.engine import wording

HUNDREDS = [row(n) for n in range(2, 202)]
OWN = 900  # the interface's own key
KERNEL = actual(dump(own=OWN), dump(name="wg1", own=OWN + 1))


def reasons(desired: Desired) -> dict[DeviceId, Reason]:
    return {one.row_id: one.reason for one in desired.rejections}


def followed(desired: Desired) -> set[DeviceId]:
    return {want.row.id for peers in desired.peers.values() for want in peers.values()}


WANTS = {
    "active": ({}, True),
    "paused": ({"status": Status.OFF, "status_text": "paused"}, False),
    "contract paused": ({"inactive": owner("paused")}, False),
    "no contract": ({"inactive": NO_OWNER}, False),
    "deleted": ({"inactive": DELETED}, False),
    "issued, alive": ({"status": Status.ISSUED, "activation_deadline": NOW + 1}, True),
    "issued, at its end": ({"status": Status.ISSUED, "activation_deadline": NOW}, True),
    "issued, ended": ({"status": Status.ISSUED, "activation_deadline": NOW - 0.001}, False),
    "active, its QR long ended": ({"activation_deadline": NOW - 1e6}, True),
    "issued, alive, contract terminated": (
        {
            "status": Status.ISSUED,
            "activation_deadline": NOW + 9,
            "inactive": owner("terminated"),
        },
        False,
    ),
}


@pytest.mark.parametrize(("changes", "wanted"), WANTS.values(), ids=WANTS.keys())
def test_which_rows_want_a_peer(changes: dict[str, Any], wanted: bool) -> None:
    desired = wants([row(5, **changes)])
    assert followed(desired) == ({5} if wanted else set())
    assert set(desired.revoked) == (set() if wanted else {key(5)})
    assert desired.rejections == ()


def test_why_a_row_wants_none_is_said() -> None:
    reasons = {
        row(5, inactive=DELETED).inactive_reason(NOW),
        row(5, inactive=NO_OWNER).inactive_reason(NOW),
        row(5, inactive=owner("paused")).inactive_reason(NOW),
        row(5, status=Status.OFF, status_text="revoked").inactive_reason(NOW),
        issued(5, NOW - 1).inactive_reason(NOW),
    }
    assert {wording.inactive(why) for why in reasons if why is not None} == {"device deleted", "contract 0001 does not exist", "contract 0001 paused", "device revoked",
                    "activation deadline passed"}  # fmt: skip


def test_the_peer_is_key_psk_host_route_and_the_configured_keepalive() -> None:
    site = InterfaceSpec("kernel0", "wg0", SITES[0].networks, frozenset(), 25)
    rows = [row(5, preshared_key=encode_key(psk(5))), row(6, preshared_key="", address="10.200.0.6/32")]
    peers = wants(rows, {}, sites=[site]).peers["kernel0"]
    assert peers[key(5)].config == peer(5, preshared_key=psk(5), keepalive=25)
    assert peers[key(6)].config == peer(6, preshared_key=NO_PRESHARED_KEY, keepalive=25)


BAD: dict[str, tuple[Reason, dict[str, Any]]] = {
    "no key": (Reason.BAD_KEY, {"public_key": None}),
    "empty key": (Reason.BAD_KEY, {"public_key": ""}),
    "short key": (Reason.BAD_KEY, {"public_key": text(250)[:43]}),
    "junk in base64": (Reason.BAD_KEY, {"public_key": "!" + text(250)[1:]}),
    "newline in base64": (Reason.BAD_KEY, {"public_key": text(250) + "\n"}),
    "non-canonical base64": (Reason.BAD_KEY, {"public_key": loose_base64(key(250))}),
    "zero key": (Reason.BAD_KEY, {"public_key": encode_key(bytes(32))}),
    "key with NUL": (Reason.BAD_KEY, {"public_key": text(250)[:-2] + "\0="}),
    "key of emoji": (Reason.BAD_KEY, {"public_key": "🔑" * 44}),
    "PSK of 31 bytes": (Reason.BAD_PRESHARED_KEY, {"preshared_key": base64.b64encode(bytes(31)).decode()}),
    "PSK with junk": (Reason.BAD_PRESHARED_KEY, {"preshared_key": "!" + text(1)[1:]}),
    "PSK of zeros": (Reason.BAD_PRESHARED_KEY, {"preshared_key": encode_key(bytes(32))}),
    "PSK of a space": (Reason.BAD_PRESHARED_KEY, {"preshared_key": " "}),
    "no address": (Reason.BAD_ADDRESS, {"address": ""}),
    "a whole network": (Reason.BAD_ADDRESS, {"address": "10.200.0.0/24"}),
    "address with a NUL": (Reason.BAD_ADDRESS, {"address": "10.200.0.250\0"}),
    "address of emoji": (Reason.BAD_ADDRESS, {"address": "📱"}),
    "two addresses": (Reason.BAD_ADDRESS, {"address": "10.200.0.250,10.200.0.251"}),
    "outside": (Reason.ADDRESS_OUTSIDE, {"address": "10.200.1.5"}),
    "on the other interface's network": (Reason.ADDRESS_OUTSIDE, {"address": "10.251.0.250"}),
    "another family": (Reason.ADDRESS_OUTSIDE, {"address": "fd00::5"}),
    "the interface's own address": (Reason.INTERFACE_ADDRESS, {"address": "10.200.0.1"}),
    "its own key": (Reason.INTERFACE_KEY, {"public_key": text(OWN)}),
    "the other interface's key": (Reason.INTERFACE_KEY, {"public_key": text(OWN + 1)}),
    "unknown interface": (Reason.UNKNOWN_INTERFACE, {"interface": "wg7"}),
    "no interface": (Reason.UNKNOWN_INTERFACE, {"interface": ""}),
    "interface in capitals": (Reason.UNKNOWN_INTERFACE, {"interface": "WG0"}),
    "duplicate key": (Reason.DUPLICATE_KEY, {"public_key": text(100)}),
    "duplicate key on the other interface": (
        Reason.DUPLICATE_KEY,
        {"public_key": text(100), "interface": "wg1", "address": "10.251.0.9"},
    ),
    "duplicate address": (Reason.DUPLICATE_ADDRESS, {"address": "10.200.0.100"}),
    "the same address, written otherwise": (Reason.DUPLICATE_ADDRESS, {"address": "10.200.0.100/32"}),
    "no QR end": (Reason.NO_DEADLINE, {"status": Status.ISSUED}),
    "a name that is cut": (Reason.LONG_NAME, {"fault": Reason.LONG_NAME}),
    "an unknown status": (Reason.UNKNOWN_STATUS, {"status": Status.UNKNOWN}),
    "an owner of unknown status": (Reason.UNKNOWN_STATUS, {"fault": Reason.UNKNOWN_STATUS}),
}


@pytest.mark.parametrize(("reason", "changes"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_rejected_and_stops_no_other(reason: Reason, changes: dict[str, Any]) -> None:
    desired = wants([*HUNDREDS, row(250, **changes)], KERNEL)
    assert reasons(desired) == {250: reason}
    assert followed(desired) == {one.id for one in HUNDREDS}
    assert desired.rejected_by_reason() == {reason.value: 1}


@pytest.mark.parametrize(("reason", "changes"), BAD.values(), ids=BAD.keys())
def test_a_rejection_quotes_no_key(reason: Reason, changes: dict[str, Any]) -> None:
    secret = row(250, **{"preshared_key": encode_key(psk(9)), **changes})
    rejection = wants([*HUNDREDS, secret], KERNEL).rejections[0]
    for one in (changes.get("public_key"), changes.get("preshared_key"), encode_key(psk(9)), text(250)):
        assert not one or len(one) < 20 or one not in wording.rejection(rejection)


@pytest.mark.parametrize("changes", [c for r, c in BAD.values() if "public_key" not in c], ids=str)
def test_a_rejected_row_freezes_its_live_peer(changes: dict[str, Any]) -> None:
    kernel = actual(dump(*(peer(n) for n in range(2, 202)), peer(250, "10.200.0.240/32"), own=OWN))
    desired = wants([*HUNDREDS, row(250, **changes)], kernel)
    assert desired.frozen["wg0"] == {key(250)}
    assert followed(desired) == {one.id for one in HUNDREDS}


def test_an_active_row_needs_no_qr_end() -> None:
    assert followed(wants([row(5, activation_deadline=None)])) == {5}


def test_names_may_hold_anything() -> None:
    rows = [row(5, device="NUL\0 and 📱", owner="\0"), row(6, device="", owner="")]
    assert followed(wants(rows)) == {5, 6}


def test_rows_of_other_nodes_are_neither_ours_nor_wrong() -> None:
    desired = wants([row(5, interface="wg9"), row(6)], policy=PeerPolicy(ignored_interfaces=frozenset(("wg9",))))
    assert followed(desired) == {6}
    assert desired.rejections == ()
    assert not desired.has_key(key(5))


bad_rows = st.sampled_from([changes for _, changes in BAD.values()])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(bad_rows, max_size=6),
    st.lists(st.tuples(st.integers(2, 12), st.integers(2, 12)), max_size=9),
    st.lists(st.tuples(st.integers(2, 14), st.integers(2, 12)), max_size=6, unique_by=(lambda t: t[0], lambda t: t[1])),
    st.randoms(),
)
def test_what_is_followed_never_conflicts(
    bad: list[dict[str, Any]], good: list[tuple[int, int]], kernel: list[tuple[int, int]], random: Any
) -> None:
    """Accepted peers share no key and no address, and they use none of a frozen peer.

    Every row is either accepted or rejected. The order of the rows changes nothing.
    """
    rows = [row(2 + n, **changes) for n, changes in enumerate(bad)]
    rows += [row(20 + n, public_key=text(k), address=address(a)) for n, (k, a) in enumerate(good)]
    random.shuffle(rows)
    state = actual(dump(*(peer(k, address(a)) for k, a in kernel), own=OWN))
    desired = wants(rows, state)
    mine = desired.peers["wg0"]
    taken = [net for want in mine.values() for net in want.config.allowed_ips]
    assert len(taken) == len(set(taken))
    held = {net for k in desired.frozen["wg0"] for net in state["wg0"].peers[k].config.allowed_ips}
    assert held.isdisjoint(taken)
    assert mine.keys().isdisjoint(desired.frozen["wg0"])
    assert sorted(followed(desired) | set(reasons(desired))) == sorted(one.id for one in rows)
    assert wants(rows[::-1], state).peers == desired.peers
    assert parse_host("10.200.0.1") not in taken
    assert not set(nets("10.200.0.0/24")) & set(taken)


@pytest.mark.parametrize("foreign", ["keep", "report"])
def test_a_peer_that_was_installed_for_a_row_is_not_foreign_once_the_row_has_another_key(foreign: str) -> None:
    kernel, policy = actual(dump(peer(5))), PeerPolicy(foreign=foreign)
    rekeyed = [row(5, public_key=text(50))]
    desired = build_desired(
        rekeyed, SITES, policy, kernel, NOW, lambda: {(5, device_name(5)): frozenset({("wg0", key(5))})}
    )
    assert (followed(desired), desired.rejections) == ({5}, ())
    plan = make_plan(desired, kernel, records(record(5)), policy)
    assert [(c.kind, c.public_key) for c in plan.changes] == [(ChangeKind.REMOVE, key(5)), (ChangeKind.ADD, key(50))]
    stranger = build_desired(
        rekeyed, SITES, policy, kernel, NOW, lambda: {(6, device_name(6)): frozenset({("wg0", key(6))})}
    )
    assert reasons(stranger) == {5: Reason.DUPLICATE_ADDRESS}, "one that nobody recorded keeps its address"


@pytest.mark.parametrize("foreign", ["keep", "report"])
def test_the_address_of_a_device_whose_row_is_gone_is_free_for_another(foreign: str) -> None:
    kernel, policy = actual(dump(peer(5))), PeerPolicy(foreign=foreign)
    desired = build_desired(
        [row(6, address=address(5))],
        SITES,
        policy,
        kernel,
        NOW,
        lambda: {(5, device_name(5)): frozenset({("wg0", key(5))})},
    )
    assert followed(desired) == {6}
    plan = make_plan(desired, kernel, records(record(5)), policy)
    assert [(c.kind, c.public_key, wording.change(c)) for c in plan.changes] == [
        (ChangeKind.REMOVE, key(5), "row is gone"), (ChangeKind.ADD, key(6), "address moved from 0001-DEV-005")
    ]  # fmt: skip


@pytest.mark.parametrize("foreign", ["keep", "report"])
def test_a_foreign_peer_keeps_its_address_although_its_key_was_installed_on_another_interface(foreign: str) -> None:
    kernel = actual(dump(peer(6)), dump(peer(6, address(6, "wg1")), name="wg1"))
    policy, known = PeerPolicy(foreign=foreign), records(record(6, interface="wg1", row_id=3))
    rows = [row(5, address=address(6)), row(7, interface="wg1", address=address(6, "wg1"))]
    desired = build_desired(
        rows, SITES, policy, kernel, NOW, lambda: {(3, device_name(3)): frozenset({("wg1", key(6))})}
    )
    assert (followed(desired), reasons(desired)) == ({7}, {5: Reason.DUPLICATE_ADDRESS})
    plan = make_plan(desired, kernel, known, policy)
    assert [(c.kind, c.interface) for c in plan.changes] == [(ChangeKind.REMOVE, "wg1"), (ChangeKind.ADD, "wg1")]


def test_a_row_with_a_new_key_that_cannot_be_followed_keeps_the_peer_it_had() -> None:
    """The old peer still belongs to a paying customer. It is not frozen if another row names that key by now."""
    kernel = actual(dump(peer(5)))
    installed: Mapping[tuple[DeviceId, str], frozenset[PeerId]] = {(5, device_name(5)): frozenset({("wg0", key(5))})}
    for bad in (row(5, public_key=text(50), preshared_key="junk"), row(5, public_key="junk")):
        desired = build_desired([bad], SITES, POLICY, kernel, NOW, lambda: installed)
        assert desired.frozen["wg0"] == {key(5)}
        assert not make_plan(desired, kernel, PeerRecords(), POLICY).changes
        taken_over = build_desired([bad, row(6, public_key=text(5))], SITES, POLICY, kernel, NOW, lambda: installed)
        assert taken_over.frozen["wg0"] == frozenset()
        assert followed(taken_over) == {6}


def test_facts_hold_no_more_of_a_text_than_a_valid_one_has() -> None:
    """A part of a secret may be in the wrong column. Only a complete key would be recognised and masked."""
    rows = [row(5, interface="x" * 32), row(6, address="1" * 60)]
    desired = build_desired(rows, SITES, POLICY, actual(dump()), NOW)
    assert {one.facts.value for one in desired.rejections} == {"x" * 15, "1" * 45}
