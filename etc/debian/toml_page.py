"""The manual page wgsyncd.toml(5), from the shipped configuration and its comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from etc.debian.roff import escape, head, paragraphs
from wgsyncd.config import resources

_SECTION = re.compile(r"(?:# )?\[([\w.]+)\]\s*(?:#\s*(.*))?$")
_KEY = re.compile(r"""(#\s)?(\w+)\s=\s("[^"]*"|\[[^\]]*\]|\{[^}]*\}|[^\s#]+)\s*(?:\#\s*(.*))?$""")
_MORE = re.compile(r"\s+#\s*(.*)$")


class Key(NamedTuple):
    """A key, as the file has it."""

    name: str
    value: str
    about: str
    unset: bool  # it is commented out: an example


class Section(NamedTuple):
    """A table. The table of one interface stands for all interfaces."""

    name: str  # "" for the keys before the first table
    about: str
    keys: Sequence[Key]


def sections(text: str) -> tuple[str, list[Section]]:
    """What the head says, and the sections. ValueError where a line is not understood: it would be left out."""
    about: list[str] = []
    found: list[Section] = []
    for number, line in enumerate(text.splitlines(), 1):
        keys = list(found[-1].keys) if found else []
        if not line.strip():
            continue
        if match := _SECTION.match(line):
            found.append(Section(match[1], match[2] or "", ()))
        elif (match := _KEY.match(line)) and (found or not match[1]):
            if not found:
                found.append(Section("", "", ()))  # keys before the first table
            keys.append(Key(match[2], match[3], match[4] or "", bool(match[1])))
            found[-1] = found[-1]._replace(keys=keys)
        elif keys and (match := _MORE.match(line)):
            keys[-1] = keys[-1]._replace(about=f"{keys[-1].about} {match[1]}".strip())
            found[-1] = found[-1]._replace(keys=keys)
        elif not found and line.startswith("# "):
            about.append(line[2:])
        else:
            raise ValueError(f"line {number}: {line}")
    return " ".join(about), _one_interface(found)


def _one_interface(found: list[Section]) -> list[Section]:
    interfaces = [one for one in found if one.name.startswith("interfaces.")]
    first = interfaces[0]._replace(name="interfaces.NAME")
    found = [first if one is interfaces[0] else one for one in found if one not in interfaces[1:]]
    return [one._replace(name="bandwidth.NAME") if one.name.startswith("bandwidth.") else one for one in found]


def every_section() -> tuple[str, list[Section]]:
    """What the head of the shipped configuration says, and the sections of all control planes."""
    about, found = sections(resources.text("wgsyncd.toml"))
    _, more = sections(resources.text("examples/nexavpn.toml"))
    return about, found + [one for one in more if one.name.partition(".")[0] == "nexavpn"]


def configuration_page() -> str:
    """wgsyncd.toml(5)."""
    about, found = every_section()
    lines = [*head("wgsyncd.toml", 5, "configuration of wgsyncd")]
    lines += [".SH SYNOPSIS", "/etc/wgsyncd/wgsyncd.toml"]
    lines += [".SH DESCRIPTION", *paragraphs(about), ".PP"]
    lines += [*paragraphs(
        "The file is TOML. The value of each key here is its default. If it is an example, the text says so. A reload"
        " changes nothing if the file has faults. `wgsyncd check-config` reports all faults at once."
    )]  # fmt: skip
    for section in found:
        lines += _section(section)
    lines += [".SH SEE ALSO", "\\fBwgsyncd\\fR(8)"]
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterable[str]:
    yield f".SH {escape(f'[{section.name}]' if section.name else 'BEFORE THE FIRST TABLE')}"
    if section.about:
        yield escape(section.about)
    for key in section.keys:
        yield from (".TP", f"\\fB{escape(key.name)}\\fR = {escape(key.value)}")
        text = key.about + (" " if key.about and key.unset else "") + ("(An example: unset by default.)" * key.unset)
        yield escape(text)
