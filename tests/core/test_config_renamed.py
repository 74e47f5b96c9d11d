"""The message about a key or section of an earlier version gives its present name."""

from __future__ import annotations

import msgspec
import pytest

from wgsyncd.config.load import parse
from wgsyncd.config.renamed import RENAMED
from wgsyncd.config.schema import Settings
from wgsyncd.errors import ConfigError

LEAST = '[interfaces.wg0]\nnetworks = ["10.200.0.0/24"]\n'
INTERFACE = '[interfaces."NAME"]\nnetworks = ["10.251.0.0/24"]\n'


def file_with(name: str) -> str:
    """Returns a configuration that has this key or section."""
    section, _, key = name.rpartition(".")
    if not section:
        return f"{LEAST}[{key}]\nanything = 1\n"
    table = INTERFACE if section == "interfaces.NAME" else f"[{section}]\n"
    return f'{LEAST}{table}{key} = "5s"\n'


def told(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_fault_has_the_present_name(old: str, new: str) -> None:
    assert told(file_with(old)) == [f"{old}: is now {new}"]


@pytest.mark.parametrize("new", RENAMED.values())
def test_the_present_name_is_one(new: str) -> None:
    kind: object = Settings
    for name in new.replace("interfaces.NAME", "interfaces").split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
        kind = fields[name].__args__[1] if name == "interfaces" else fields[name]


def test_an_interface_keeps_its_own_name() -> None:
    assert told('[interfaces."wg.7"]\nnetworks = ["10.200.0.0/24"]\nrows = "wg0"\n') == [
        "interfaces.wg.7.rows: is now interfaces.wg.7.store_name"
    ]


def test_all_of_them_are_told_at_once() -> None:
    assert len(told(f'{LEAST}rows = "a"\n[audit]\n[database]\n[guard]\nshare = 1\nmin_removals = 5\n')) == 5
