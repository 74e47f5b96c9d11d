"""Peer records are found by interface and key, and a copy is independent of its original."""

from __future__ import annotations

from tests.samples import key, record, records


def test_one_key_on_two_interfaces_has_two_records() -> None:
    here, there = record(5), record(5, interface="wg1", row_id=6)
    both = records(here, there)
    assert dict(both) == {("wg0", key(5)): here, ("wg1", key(5)): there}
    assert len(both) == 2
    assert list(both.each()) == list(both.values()) == [here, there]
    assert (both.of("wg0"), both.of("wg1"), both.of("wg2")) == ({key(5): here}, {key(5): there}, {})


def test_who_is_not_there() -> None:
    some = records(record(5))
    for slot in (("wg0", key(6)), ("wg1", key(5))):
        assert slot not in some
        assert some.get(slot) is None
        some.discard(slot)
    assert some == records(record(5))


def test_a_copy_goes_its_own_way() -> None:
    some = records(record(5), record(6))
    other = some.copy()
    other.discard(("wg0", key(5)))
    other.add(record(6, rx=7))
    other.add(record(7))
    assert some == records(record(5), record(6))
    assert other == records(record(6, rx=7), record(7))
