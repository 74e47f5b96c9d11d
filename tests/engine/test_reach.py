"""The list of devices says what the packet filter lets each device reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.policing import device, networks, ruleset
from wgsyncd.core.policies.model import Access, Ruleset
from wgsyncd.core.policies.status import FilterStatus
from wgsyncd.engine.reports.access_texts import AccessTexts
from wgsyncd.engine.reports.devices import DeviceReport

BOTH = device(2, "10.8.0.2", "fd08::2")
OFFICE = networks("10.0.0.0/8", "192.0.2.0/24", "fd00::/8")
THERE = ruleset((BOTH, OFFICE), (device(3), Access()))


def reached(found: Ruleset | None, number: int, *addresses: str) -> list[str] | None:
    status = FilterStatus()
    if found is not None:
        status.note(found)
    return AccessTexts(status).of(f"dev-{number}", addresses)


def test_each_address_reaches_the_ranges_of_its_own_version() -> None:
    assert reached(THERE, 2, "10.8.0.2/32", "fd08::2/128") == ["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"]
    assert reached(THERE, 2, "10.8.0.2/32") == ["10.0.0.0/8", "192.0.2.0/24"]
    assert reached(THERE, 3, "10.8.0.3/32") == reached(THERE, 4, "10.8.0.4/32", "odd") == []


def test_an_element_of_another_device_counts_for_nobody_else() -> None:
    assert reached(THERE, 9, "10.8.0.2/32") == []


def test_who_is_not_judged_reaches_everything_and_without_policies_nothing_is_said() -> None:
    assert reached(replace(THERE, free=networks("10.8.0.9/32")), 9, "10.8.0.9/32") == ["everything"]
    assert reached(None, 2, "10.8.0.2/32") is None
    assert AccessTexts(None).of("dev-2", ("10.8.0.2/32",)) is None


@pytest.mark.parametrize(
    ("ranges", "more", "shown"),
    [(None, 0, ""), ([], 0, "nothing"), (["10.0.0.0/8"], 0, "10.0.0.0/8"), (["10.0.0.0/8", "192.0.2.0/24"], 5, "10.0.0.0/8 +6")],
)  # fmt: skip
def test_a_table_has_the_first_range_and_how_many_more(ranges: list[str] | None, more: int, shown: str) -> None:
    plain: dict[str, Any] = dict.fromkeys(DeviceReport.__struct_fields__)
    assert DeviceReport(**plain | {"reaches": ranges, "more_ranges": more}).reached == shown
    assert "reached" not in msgspec.to_builtins(DeviceReport(**plain))
