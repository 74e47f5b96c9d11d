"""The shipped configuration as documentation: sections, keys, and what the comments say of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_SECTION = re.compile(r"\[([\w.]+)\]\s*(?:#\s*(.*))?$")
_KEY = re.compile(r"""(#\s)?(\w+)\s=\s("[^"]*"|\[[^\]]*\]|[^\s#]+)\s*(?:\#\s*(.*))?$""")
_MORE = re.compile(r"\s+#\s*(.*)$")


class Key(NamedTuple):
    """A key, as the file has it."""

    name: str
    value: str
    about: str
    unset: bool  # it is commented out: an example


class Section(NamedTuple):
    """A table. That of an interface stands for all of them."""

    name: str
    about: str
    keys: Sequence[Key]


def sections(text: str) -> tuple[str, list[Section]]:
    """What the head says, and the sections. ValueError where a line is not understood: it would be left out."""
    head: list[str] = []
    found: list[Section] = []
    for number, line in enumerate(text.splitlines(), 1):
        keys = list(found[-1].keys) if found else []
        if not line.strip():
            continue
        if match := _SECTION.match(line):
            found.append(Section(match[1], match[2] or "", ()))
        elif found and (match := _KEY.match(line)):
            keys.append(Key(match[2], match[3], match[4] or "", bool(match[1])))
            found[-1] = found[-1]._replace(keys=keys)
        elif keys and (match := _MORE.match(line)):
            keys[-1] = keys[-1]._replace(about=f"{keys[-1].about} {match[1]}".strip())
            found[-1] = found[-1]._replace(keys=keys)
        elif not found and line.startswith("# "):
            head.append(line[2:])
        else:
            raise ValueError(f"line {number}: {line}")
    return " ".join(head), _one_interface(found)


def _one_interface(found: list[Section]) -> list[Section]:
    interfaces = [one for one in found if one.name.startswith("interfaces.")]
    first = interfaces[0]._replace(name="interfaces.NAME")
    return [first if one is interfaces[0] else one for one in found if one not in interfaces[1:]]
