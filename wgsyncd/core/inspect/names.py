"""Finds the device or owner that a person means by a name, and what people call a device."""

import difflib
import re
from collections.abc import Container, Iterable
from typing import NamedTuple

from wgsyncd.core.model import DeviceId, DeviceRow


class DeviceName(NamedTuple):
    """The names of one device: row id, device id, owner id, and what its owner calls it."""

    row_id: DeviceId
    device: str
    owner: str
    label: str = ""  # several devices may have the same one. "": the store keeps none


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def called(label: str, owner: str) -> str:
    """What people call a device: "laptop of alice"."""
    return f"{label} of {owner}" if label and owner else label


class Labels:
    """What people call devices: "laptop of alice". Empty for a store whose device ids are such names."""

    def __init__(self, names: Iterable[DeviceName]) -> None:
        self._names = {one.device: one for one in names if one.label}

    @classmethod
    def of_rows(cls, rows: Iterable[DeviceRow], devices: Container[str] | None = None) -> "Labels":
        """What the rows say, of these devices or of all."""
        some = (row for row in rows if row.name and (devices is None or row.device in devices))
        return cls(DeviceName(row.id, row.device, row.owner, row.name) for row in some)

    def name(self, device: str) -> str:
        """What its owner calls the device, or ""."""
        return self._names[device].label if device in self._names else ""

    def of(self, device: str) -> str:
        """The device's name with its owner, or ""."""
        one = self._names.get(device)
        return "" if one is None else called(one.label, one.owner)

    def fact(self, device: str) -> dict[str, str]:
        """The same as a fact for a line of the log, which has no empty one."""
        return {"called": word} if (word := self.of(device)) else {}

    def put_into(self, text: str) -> str:
        """The text with these names in place of device ids, which are UUIDs."""
        return _UUID.sub(lambda found: self.of(found[0]) or found[0], text) if self._names else text


def _same(text: str, name: str) -> bool:
    return text.casefold() == name.casefold()  # the columns' collation ignores case, too


def find_device(text: str, names: Iterable[DeviceName]) -> DeviceName | None:
    """The device with this device id. Else the device with this row id, or the only one that is called so."""
    names = tuple(names)
    for one in names:
        if _same(text, one.device):
            return one
    if text.isdecimal() and text.isascii():
        return next((one for one in names if str(one.row_id) == text), None)
    called = find_labelled(text, names)
    return called[0] if len(called) == 1 else None


def find_labelled(text: str, names: Iterable[DeviceName]) -> list[DeviceName]:
    """The devices that are called ``text``: "laptop", or "alice/laptop" with the owner."""
    return [one for one in names if one.label and (_same(text, one.label) or _same(text, f"{one.owner}/{one.label}"))]


def find_owner(text: str, names: Iterable[DeviceName]) -> str | None:
    """The owner id that equals the text, among the owners that have a device."""
    return next((one.owner for one in names if _same(text, one.owner)), None)


def suggestions(text: str, names: Iterable[str], most: int = 5) -> list[str]:
    """At most ``most`` names that may be meant: first names that contain the text, then similar names."""
    known = {name.casefold(): name for name in sorted(set(names), reverse=True) if name}
    wanted = text.casefold()
    holding = sorted(name for name in known if wanted and wanted in name)
    alike = difflib.get_close_matches(wanted, known, n=most, cutoff=0.6)
    return [known[name] for name in dict.fromkeys([*holding[:most], *alike])][:most]
