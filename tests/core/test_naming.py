"""A name that an admin types finds the right device or owner, or close suggestions."""

from __future__ import annotations

from wgsyncd.core.inspect.names import DeviceName, find_device, find_labelled, find_owner, suggestions

NAMES = [DeviceName(5, "0001-DEV-005", "0001"), DeviceName(6, "0001-DEV-006", "0001"), DeviceName(1, "M010-DEV-001", "M010"),
         DeviceName(7, "5", "0005")]  # fmt: skip


def test_a_device_by_its_id_and_by_its_row() -> None:
    assert find_device("0001-DEV-006", NAMES) == NAMES[1]
    assert find_device("m010-dev-001", NAMES) == NAMES[2], "as the column compares"
    assert find_device("6", NAMES) == NAMES[1]
    assert find_device("5", NAMES) == NAMES[3], "a name comes first"
    assert [find_device(text, NAMES) for text in ("06", "99", "0001", "", "６")] == [None] * 5


def test_a_contract() -> None:
    assert find_owner("m010", NAMES) == "M010"
    assert find_owner("1", NAMES) is None


def test_near_misses() -> None:
    devices = [one.device for one in NAMES]
    assert suggestions("DEV-005", devices) == ["0001-DEV-005", "M010-DEV-001", "0001-DEV-006"]
    assert suggestions("0001-DEV-0o6", devices)[0] == "0001-DEV-006"
    assert suggestions("", devices) == []
    assert suggestions("nothing like it at all", devices) == []
    assert len(suggestions("dev", [f"dev-{n}" for n in range(50)])) == 5


def test_a_device_is_found_by_what_its_owner_calls_it_if_no_other_is_called_so() -> None:
    phones = [
        DeviceName(1, "d1", "alice", "phone"),
        DeviceName(2, "d2", "bob", "Phone"),
        DeviceName(3, "d3", "bob", "tv"),
    ]
    assert find_device("TV", phones) == phones[2]
    assert find_device("phone", phones) is None
    assert find_device("bob/phone", phones) == phones[1]
    assert find_device("d1", [*phones, DeviceName(4, "d4", "eve", "d1")]) == phones[0], "an id comes before a name"
    assert find_labelled("phone", phones) == phones[:2]
