"""The node state remembers the key and port of each interface. A change is told until it is undone or said to be right."""

from __future__ import annotations

from dataclasses import replace

from tests.samples import key
from wgsyncd.core.model import InterfaceState, PublicKey
from wgsyncd.core.peers.identities import IdentityChange, identity, identity_changes, to_remember
from wgsyncd.core.state import Condition
from wgsyncd.engine.wording import identity_change


def interface(number: int | None, port: int = 51820) -> dict[str, InterfaceState]:
    """wg0 with the key of this number. None: it has no key."""
    return {"wg0": InterfaceState("wg0", "epoch", None if number is None else PublicKey(key(number)), port, {})}


def change(
    known: frozenset[Condition], actual: dict[str, InterfaceState], approved: str | None = None
) -> IdentityChange | None:
    return identity_changes(known, actual, {}, approved).get("wg0")


KNOWN = to_remember(interface(90), {})


def test_what_was_seen_first_is_remembered() -> None:
    assert change(frozenset(), interface(90)) is None
    assert to_remember(interface(None), {}) == frozenset()
    assert to_remember(interface(90, 0), {}) == frozenset(), "its port comes next"
    assert change(KNOWN, interface(90)) is None


def test_a_damaged_memory_is_told_and_stops_nothing() -> None:
    for damaged in ("", "a", "a b c"):
        what, todo = identity_change("wg0", IdentityChange(damaged, identity(interface(90)["wg0"])))
        assert what and "wg0" in todo


def test_another_key_port_or_no_key_is_a_change_until_it_is_undone() -> None:
    for actual in (interface(91), interface(90, 51821), interface(None)):
        assert (found := change(KNOWN, actual)) is not None
        assert bool(found.approval) is (actual["wg0"].public_key is not None), "nobody means to lose a key"
        assert to_remember(actual, {"wg0": found}) == frozenset()
    assert change(KNOWN, {}) is None, "an interface that cannot be read"
    assert change(KNOWN, interface(90)) is None


def test_an_approval_is_for_exactly_one_change() -> None:
    found = change(KNOWN, interface(91))
    assert found is not None
    assert change(KNOWN, interface(91), "0" * 32) == found
    assert change(KNOWN, interface(92), found.approval) is not None, "the key has changed once more"
    assert change(KNOWN, interface(91), found.approval) is None
    accepted = to_remember(interface(91), {})
    assert change(accepted, interface(91)) is None
    assert change(accepted, interface(90)) is not None, "now the old key is another one"


def test_the_row_of_a_gateway_says_what_is_right() -> None:
    right = {"wg0": (PublicKey(key(91)), 51820)}
    assert identity_changes(KNOWN, interface(91), right, None) == {}
    other = {"wg0": replace(interface(91)["wg0"], listen_port=1)}
    assert identity_changes(KNOWN, other, right, None)
