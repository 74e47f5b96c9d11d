"""The message about a key or section of an earlier version gives its present name."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from wgsyncd import stores
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


def faults_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return [str(dataclasses.replace(fault, line=None)) for fault in caught.value.faults]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_the_fault_has_the_present_name(old: str, new: str) -> None:
    assert faults_of(file_with(old)) == [f"{old}: is now {new}"]


@pytest.mark.parametrize("new", RENAMED.values())
def test_the_present_name_is_one(new: str) -> None:
    kind: object = Settings
    for name in new.replace("interfaces.NAME", "interfaces").split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
        if kind is Settings:  # the table of a control plane has the type that its store names
            fields |= {plane: stores.settings_type(plane) for plane in stores.CONTROL_PLANES}
        kind = fields[name].__args__[1] if name == "interfaces" else fields[name]


def test_an_interface_keeps_its_own_name() -> None:
    assert faults_of('[interfaces."wg.7"]\nnetworks = ["10.200.0.0/24"]\nrows = "wg0"\n') == [
        "interfaces.wg.7.rows: is now interfaces.wg.7.store_name"
    ]


def test_all_of_them_are_reported_at_once() -> None:
    assert len(faults_of(f'{LEAST}rows = "a"\n[audit]\n[database]\n[guard]\nshare = 1\nmin_removals = 5\n')) == 5


def test_an_old_key_beside_its_present_one_is_a_fault() -> None:
    """The file could contradict itself. So wgsyncd does not choose one of the two."""
    text = f"{LEAST}[guard]\nmin_removals = 5\nalways_allowed = 5\n"
    assert faults_of(text) == ["guard.min_removals: is now guard.always_allowed"]


def test_no_value_of_an_old_section_is_shown() -> None:
    """The old section may hold a password that somebody wrote into it."""
    (fault,) = faults_of(f'{LEAST}[database]\npassword = "tell nobody"\nhost = "127.0.0.1"\n')
    assert fault == "database: is now mikyun.database"


@pytest.mark.parametrize("key", ["guard.min_removal", "guard.Min_removals", "schedule.poll", "interfaces.wg0.row"])
def test_a_similar_name_is_only_unknown(key: str) -> None:
    section, _, name = key.rpartition(".")
    text = f"{LEAST}{name} = 1\n" if section == "interfaces.wg0" else f"{LEAST}[{section}]\n{name} = 1\n"
    (fault,) = faults_of(text)
    assert fault.startswith(f"{key} = 1: is not a key that wgsyncd knows")
    assert "is now" not in fault
