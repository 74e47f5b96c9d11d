"""Rows of NexaVPN: which row of a device counts, which wants no peer, and which is rejected for which reason."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.samples import NOW, POLICY, SITES, actual, address, dump, key, peer, psk, record, records, text
from wgsyncd.core.model import ChangeKind, DeviceRow, Status, encode_key
from wgsyncd.core.peers.desired import Desired, build_desired
from wgsyncd.core.peers.plan import make_plan
from wgsyncd.core.reasons import ChangeCause, Inactive, Reason
from wgsyncd.core.state import Condition
from wgsyncd.engine import wording
from wgsyncd.stores.nexavpn.eligibility import FLAGS, PeerRow, Requirements, device_rows, rules, unallocated
from wgsyncd.stores.nexavpn.psk import PskSealed, open_envelope, seal
from wgsyncd.stores.nexavpn.rows import Gateways, RowCache

FRA, AMS = str(UUID(int=0xF)), str(UUID(int=0xA))
SECRET = bytes(range(32))
REQUIRED = Requirements({FRA: "wg0", AMS: "wg1"}, lambda text, row: open_envelope(text, row, {"fra1": SECRET}))


def device(number: int) -> str:
    return str(UUID(int=number))


def flags(*others: str) -> str:
    """The flags of a good row, but for ``others``, which have the other value."""
    return "".join(
        str(int((name in ("approved", "user active", "gateway active")) != (name in others))) for name in FLAGS
    )


def peer_row(number: int, *others: str, **changes: Any) -> PeerRow:
    """The only peer of a device, at Frankfurt. ``others``: flags that are not as in a good row."""
    plain = PeerRow(
        device(number), str(UUID(int=1000 + number)), FRA, f"17900000{number:02}.000000", text(number),
        f"{address(number)}/32", "", text(number), FRA, "active", "alice", "", device(number), flags(*others),
    )  # fmt: skip
    return plain._replace(**changes)


def one(*rows: PeerRow, policy: Requirements = REQUIRED) -> DeviceRow:
    (found,) = device_rows(rows, policy)
    return found


def desired(*devices: tuple[PeerRow, ...], kernel: Any = None, policy: Requirements = REQUIRED) -> Desired:
    rows = [row for some in devices for row in device_rows(some, policy)]
    return build_desired(rows, SITES, POLICY, kernel or actual(dump(), dump(name="wg1")), NOW)


def reasons(found: Desired) -> dict[str, Reason]:
    return {rejection.device: rejection.reason for rejection in found.rejections}


def test_a_good_row_is_a_peer_with_one_host_route_and_its_preshared_key() -> None:
    row = peer_row(5, envelope=seal(SECRET, "fra1", UUID(int=1005), psk(5)))
    found = desired((row,))
    assert found.rejections == ()
    assert found.peers["wg0"][key(5)].config == peer(5, preshared_key=psk(5))
    assert one(row).device == device(5)
    assert all(rule.holds for rule in rules(one(row)))


UNWANTED = {
    "peer deleted": ("device has a deleted peer", Inactive.DEVICE_INACTIVE),
    "device deleted": ("device deleted", Inactive.DEVICE_INACTIVE),
    "revoked": ("device revoked", Inactive.DEVICE_INACTIVE),
    "user missing": ("user alice does not exist", Inactive.OWNER_MISSING),
    "user active": ("user alice inactive", Inactive.OWNER_INACTIVE),
    "user deleted": ("user alice deleted", Inactive.OWNER_INACTIVE),
    "gateway active": ("gateway inactive", Inactive.GATEWAY_INACTIVE),
    "gateway deleted": ("gateway deleted", Inactive.GATEWAY_INACTIVE),
}


@pytest.mark.parametrize(("flag", "said"), UNWANTED.items())
def test_each_reason_to_want_none_is_said(flag: str, said: tuple[str, Inactive]) -> None:
    row = one(peer_row(5, flag, envelope="v1:gone:"))
    why = row.inactive_reason(NOW)
    assert why is not None
    assert (wording.inactive(why), why.kind) == said
    found = desired((peer_row(5, flag, envelope="v1:gone:"),))
    assert found.revoked.keys() == {key(5)}
    assert found.rejections == (), "a row that wants no peer is not judged"
    assert sum(not rule.holds for rule in rules(row)) == 1


def test_a_deleted_peer_of_a_device_at_another_gateway_has_moved() -> None:
    why = one(peer_row(5, "peer deleted", device_gateway=AMS)).inactive_reason(NOW)
    assert why is not None
    assert wording.inactive(why) == "device moved to another gateway"


def test_approval_counts_only_where_it_is_required() -> None:
    row = peer_row(5, "approved")
    assert one(row).inactive == ()
    why = one(row, policy=REQUIRED._replace(require_approval=True)).inactive_reason(NOW)
    assert why is not None
    assert wording.inactive(why) == "device not approved"


@pytest.mark.parametrize("word", ["pending", "disabled", "blocked", "revoked", "expired", "deleted"])
def test_a_word_of_the_list_wants_none(word: str) -> None:
    why = one(peer_row(5, status=word)).inactive_reason(NOW)
    assert why is not None
    assert wording.inactive(why) == f"device {word}"


@pytest.mark.parametrize("word", ["activ", "Active", "active\r", "", "blocked "])
def test_any_other_word_freezes_the_peer(word: str) -> None:
    row = one(peer_row(5, status=word))
    assert (row.status, row.status_text) == (Status.UNKNOWN, "of unknown status")
    found = desired((peer_row(5, status=word),), kernel=actual(dump(peer(5)), dump(name="wg1")))
    assert reasons(found) == {device(5): Reason.UNKNOWN_STATUS}
    assert found.frozen["wg0"] == {key(5)}


BAD: dict[str, tuple[Reason, str, dict[str, Any]]] = {
    "another key": (Reason.KEYS_DISAGREE, "another public key", {"device_key": text(77)}),
    "another gateway": (Reason.GATEWAY_MISMATCH, "which is on wg0", {"device_gateway": AMS}),
    "no allocation": (Reason.NOT_ALLOCATED, "10.200.0.5/32 is not allocated", {"holder": ""}),
    "released": (Reason.NOT_ALLOCATED, "not allocated to the device", {"holder": ""}),
    "another's": (Reason.ALLOCATED_ELSEWHERE, f"allocated to {device(9)}", {"holder": device(9)}),
    "a network": (Reason.BAD_ADDRESS, "10.200.0.5/24", {"address": "10.200.0.5/24", "holder": ""}),
    "all networks": (Reason.BAD_ADDRESS, "0.0.0.0/0", {"address": "0.0.0.0/0"}),
    "outside": (Reason.ADDRESS_OUTSIDE, "outside", {"address": "10.9.9.9/32"}),
    "junk as key": (Reason.BAD_KEY, "not base64", {"public_key": "x!", "device_key": "x!"}),
    "unknown key id": (Reason.PSK_SEALED, "no key ams2", {"envelope": "v1:ams2:AAAA"}),
    "another row's": (Reason.PSK_SEALED, "another row", {"envelope": seal(SECRET, "fra1", UUID(int=4), psk(5))}),
    "wrong length": (Reason.PSK_SEALED, "3 bytes", {"envelope": "v1:fra1:AAAA"}),
    "a plain PSK": (Reason.PSK_SEALED, "version", {"envelope": encode_key(psk(5))}),
    "sealed zeros": (Reason.BAD_PRESHARED_KEY, "mean none", {"envelope": seal(SECRET, "fra1", UUID(int=1005), bytes(32))}),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "said", "changes"), BAD.values(), ids=BAD.keys())
def test_a_bad_row_is_rejected_and_its_live_peer_frozen(reason: Reason, said: str, changes: dict[str, Any]) -> None:
    kernel = actual(dump(peer(5), peer(6)), dump(name="wg1"))
    found = desired((peer_row(5, **changes),), (peer_row(6),), kernel=kernel)
    assert reasons(found) == {device(5): reason}
    assert said in wording.rejection(found.rejections[0])
    assert found.frozen["wg0"] == (frozenset() if reason is Reason.BAD_KEY else {key(5)})
    assert found.peers["wg0"].keys() == {key(6)}


def test_an_allocation_may_only_be_warned_of() -> None:
    policy = REQUIRED._replace(require_allocation=False)
    rows = [peer_row(5, holder=""), peer_row(6, holder=device(9)), peer_row(7), peer_row(8, "revoked", holder="")]
    found = desired(*((row,) for row in rows), policy=policy)
    assert found.peers["wg0"].keys() == {key(5), key(6), key(7)}
    assert set(unallocated(rows, policy)) == {
        Condition("unallocated", device(5), device(5), "not_allocated"),
        Condition("unallocated", device(6), device(6), "allocated_elsewhere"),
    }


def second(number: int, **changes: Any) -> PeerRow:
    """Another row of the device ``number``, with the key ``number + 50``."""
    plain = peer_row(
        number, peer=str(UUID(int=2000 + number)), public_key=text(number + 50), created="1800000000.000000"
    )
    return plain._replace(**changes)


def test_of_two_rows_the_one_with_the_key_of_the_device_counts() -> None:
    """The other key's peer is removed as demanded, even if no record knows it."""
    for rows in ((peer_row(5), second(5)), (second(5), peer_row(5))):
        kernel = actual(dump(peer(5), peer(55)), dump(name="wg1"))
        found = desired(rows, kernel=kernel)
        assert found.peers["wg0"].keys() == {key(5)}
        plan = make_plan(found, kernel, records(record(5)), POLICY)
        (change,) = plan.changes
        assert (change.kind, change.public_key, change.is_revocation) == (ChangeKind.REMOVE, key(55), True)
        assert change.reason.cause is ChangeCause.INACTIVE
        assert wording.change(change) == "the device has another key now"


def test_two_active_rows_with_other_keys_are_both_frozen() -> None:
    rows = (peer_row(5, device_key=text(77)), second(5, device_key=text(77)))
    kernel = actual(dump(peer(5), peer(55, address(55))), dump(name="wg1"))
    found = desired(rows, (peer_row(6),), kernel=kernel)
    assert reasons(found) == {device(5): Reason.KEYS_DISAGREE}
    assert found.frozen["wg0"] == {key(5), key(55)}
    assert make_plan(found, kernel, records(), POLICY).of(ChangeKind.REMOVE) == ()


def test_a_deleted_row_beside_a_living_one_only_names_an_old_key() -> None:
    old = second(5, flags=flags("peer deleted"))
    row = one(old, peer_row(5))
    assert (row.key, row.other_keys, row.inactive) == (key(5), (key(55),), ())
    gone = one(old, peer_row(5, "peer deleted"))
    assert (gone.key, gone.other_keys) == (key(55), (key(5),)), "the last one stands for the device"


def test_a_row_left_at_the_former_gateway_does_not_stand_in_the_way_of_the_new_one() -> None:
    at_ams = {"gateway": AMS, "device_gateway": AMS, "address": f"{address(5, 'wg1')}/32"}
    rows = (second(5, device_gateway=AMS), peer_row(5, **at_ams))
    found = desired(rows)
    assert found.rejections == ()
    assert (set(found.peers["wg1"]), set(found.revoked)) == ({key(5)}, {key(55)})


def test_rows_at_two_gateways_are_both_rejected_if_the_right_key_is_at_the_wrong_one() -> None:
    rows = (peer_row(5, device_gateway=AMS), second(5, gateway=AMS, device_gateway=AMS))
    found = list(device_rows(rows, REQUIRED))
    assert [(row.interface, row.fault) for row in found] == [
        ("wg0", Reason.GATEWAY_MISMATCH), ("wg1", Reason.KEYS_DISAGREE),
    ]  # fmt: skip


def test_of_two_devices_with_one_address_the_earlier_row_has_it_and_then_the_lower_peer() -> None:
    same = {"address": f"{address(5)}/32"}
    early, late = "1700000000.000000", "1800000000.000000"
    for other, winner in (({"created": early}, 9), ({"created": late, "peer": device(1)}, 5)):
        found = desired((peer_row(5, created=late, peer=device(2)) if winner == 9 else peer_row(5, created=early),),
                        (peer_row(9, holder=device(9), **same, **other),))  # fmt: skip
        assert reasons(found) == {device(14 - winner): Reason.DUPLICATE_ADDRESS}
    tie = [(peer_row(n, created=early, peer=device(20 - n), holder=device(n), **same),) for n in (5, 9)]
    assert reasons(desired(*tie)) == {device(5): Reason.DUPLICATE_ADDRESS}
    kernel = actual(dump(peer(5)), dump(name="wg1"))
    assert reasons(desired(*tie, kernel=kernel)) == {device(9): Reason.DUPLICATE_ADDRESS}, "the live one keeps it"


def test_a_preshared_key_is_opened_only_for_a_row_that_gets_a_peer() -> None:
    opened: list[UUID] = []

    def never(_: str, row: UUID) -> bytes:
        opened.append(row)
        raise PskSealed("no")

    policy = REQUIRED._replace(open=never)
    for changes in ({"status": "blocked"}, {"holder": ""}, {"flags": flags("revoked")}):
        one(peer_row(5, envelope="v1:fra1:AAAA", **changes), policy=policy)
    assert opened == []


class _Server:
    """Answers every statement with the same rows, each as one text."""

    def __init__(self) -> None:
        self.rows: list[PeerRow] = []

    def stream(self, *_: object) -> list[tuple[str]]:
        return [("\x1f".join(row),) for row in self.rows]


@pytest.mark.parametrize("comes_first", [True, False])
def test_a_second_row_of_a_known_device_is_decoded_with_the_first(comes_first: bool) -> None:
    """The text of a row is not kept. So the rows are read again if the second one comes after the first."""
    server, gateways = _Server(), Gateways(REQUIRED.gateways, {})
    cache = RowCache("fra1", REQUIRED)
    first = peer_row(5)
    second = first._replace(peer=str(UUID(int=1009)), public_key=text(9), address=f"{address(9)}/32")
    for rows in ([peer_row(4), first], [peer_row(4), *([second, first] if comes_first else [first, second])], [first]):
        server.rows = rows
        found, _ = cache.load(server, gateways)  # type: ignore[arg-type]
        fresh, _ = RowCache("fra1", REQUIRED).load(server, gateways)  # type: ignore[arg-type]
        assert found == fresh
        assert found[-1].other_keys == ((key(9),) if second in rows else ())


def test_a_row_that_did_not_change_is_not_decoded_again() -> None:
    server, gateways = _Server(), Gateways(REQUIRED.gateways, {})
    cache = RowCache("fra1", REQUIRED)
    server.rows = [peer_row(5), peer_row(4)]
    before, _ = cache.load(server, gateways)  # type: ignore[arg-type]
    server.rows[0] = peer_row(5, status="off")
    after, _ = cache.load(server, gateways)  # type: ignore[arg-type]
    assert [one.id for one in after] == [UUID(int=4), UUID(int=5)]
    assert after[0] is before[0]
    assert after[1].status is Status.UNKNOWN
