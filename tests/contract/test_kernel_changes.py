"""The client sends few messages for many changes, and it finds the changes that the kernel refuses."""

from __future__ import annotations

import errno

import pytest

from tests import netlink_server
from tests.scripted_kernel import Datagram, Script, ScriptedKernel, error, fails, peer, raises
from wgsyncd.core.model import Change, ChangeKind
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.errors import InterfaceMissing, WireGuardError


def adds(count: int) -> list[Change]:
    return [Change(ChangeKind.ADD, "wg0", peer(n).public_key, None, peer(n)) for n in range(1, count + 1)]


def keys_in(payload: bytes) -> list[bytes]:
    device = dict(netlink_server.parse(payload[4:]))
    return [dict(netlink_server.parse(raw))[1] for _, raw in netlink_server.parse(device[8])]


def refuses(*bad: Change, number: int = errno.EINVAL) -> Script:
    def script(_kind: int, seq: int, payload: bytes) -> list[Datagram]:
        return [error(number if {each.public_key for each in bad} & set(keys_in(payload)) else 0, seq)]

    return script


def test_few_messages_for_many_changes(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    scripted.answers = [refuses()]
    changes = adds(1000)
    assert wg.apply("wg0", changes) == []
    assert len(scripted.asked) < 6
    assert [key for payload in scripted.asked for key in keys_in(payload)] == [each.public_key for each in changes]


def test_refused_peers_are_found_out_and_the_rest_is_made(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    changes = adds(600)
    bad = [changes[3], changes[500]]
    scripted.answers = [refuses(*bad)]
    failed = wg.apply("wg0", changes)
    assert [(each.change, each.name, each.text) for each in failed] == [
        (each, "EINVAL", "Invalid argument") for each in bad
    ]
    made = {key for payload in scripted.asked if len(keys_in(payload)) == 1 for key in keys_in(payload)}
    in_good_batches = {
        key
        for payload in scripted.asked
        if not {b.public_key for b in bad} & set(keys_in(payload))
        for key in keys_in(payload)
    }
    assert made | in_good_batches == {each.public_key for each in changes}


def test_one_refused_change_is_sent_once(scripted: ScriptedKernel, wg: KernelWireGuard) -> None:
    (change,) = adds(1)
    scripted.answers = [refuses(change, number=errno.ENOMEM)]
    assert [each.name for each in wg.apply("wg0", [change])] == ["ENOMEM"]
    assert len(scripted.asked) == 1


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EPERM, errno.EOPNOTSUPP])
def test_what_ails_the_interface_ends_the_apply(scripted: ScriptedKernel, wg: KernelWireGuard, number: int) -> None:
    scripted.answers = [fails(number)]
    with pytest.raises(WireGuardError) as caught:
        wg.apply("wg0", adds(3))
    assert isinstance(caught.value, InterfaceMissing) == (number == errno.ENODEV)
    assert len(scripted.asked) == 1


def test_lost_acknowledgement_of_a_change_is_settled_by_saying_it_again(
    scripted: ScriptedKernel, wg: KernelWireGuard
) -> None:
    scripted.answers = [raises(errno.ENOBUFS), refuses()]
    assert wg.apply("wg0", adds(3)) == []
    assert len(scripted.asked) == 2
    assert scripted.asked[0] == scripted.asked[1]
    assert wg.retries == 0  # no dump was read again
