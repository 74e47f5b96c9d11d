"""What people call devices and contracts -> which ones they mean."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NamedTuple


class DeviceName(NamedTuple):
    """A device's names."""

    row_id: int
    device: str
    owner: str


def _same(text: str, name: str) -> bool:
    return text.casefold() == name.casefold()  # as the columns' collation compares


def find_device(text: str, names: Iterable[DeviceName]) -> DeviceName | None:
    """The device of that device id; else, where it is a plain number, the one with that row id."""
    names = tuple(names)
    for one in names:
        if _same(text, one.device):
            return one
    if text.isdecimal() and text.isascii():
        return next((one for one in names if str(one.row_id) == text), None)
    return None


def find_owner(text: str, names: Iterable[DeviceName]) -> str | None:
    """The contract of that contract id, among those that have a device."""
    return next((one.owner for one in names if _same(text, one.owner)), None)


def suggestions(text: str, names: Iterable[str], most: int = 5) -> list[str]:
    """Names that may have been meant: those that hold the text, then those that look like it."""
    known = {name.casefold(): name for name in sorted(set(names), reverse=True) if name}
    wanted = text.casefold()
    holding = sorted(name for name in known if wanted and wanted in name)
    alike = difflib.get_close_matches(wanted, known, n=most, cutoff=0.6)
    return [known[name] for name in dict.fromkeys([*holding[:most], *alike])][:most]
