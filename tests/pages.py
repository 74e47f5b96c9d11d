"""README.md and the pages of etc/doc, as tests read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import wgsyncd

TOP = Path(wgsyncd.__file__).resolve().parents[1]
DOC = TOP / "etc" / "doc"
README, INSTALL = TOP / "README.md", DOC / "install.md"
PAGES = [README, *sorted(DOC.glob("*.md"))]


def text(page: Path) -> str:
    """A whole page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str = "sh") -> dict[str, str]:
    """The page's named blocks of commands: the first line of such a block is ``# name``."""
    return dict(re.findall(rf"^```{language}\n# ([^\n]+)\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL))


def indented(page: Path) -> list[str]:
    """The lines of commands that stand in no fence."""
    return re.findall(r"^    (\S.*)$", _outside_blocks(text(page)), re.MULTILINE)


def commands(page: Path, name: str) -> str:
    """The commands of one named block."""
    return blocks(page)[name]


def section(page: Path, heading: str) -> str:
    """What stands below a heading of the second level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.+?)(?=^## |\Z)", text(page), re.DOTALL | re.MULTILINE)
    assert found, f"{page.name} has no section {heading!r}"
    return found[1]


def first_cells(markdown: str) -> list[str]:
    """The first cell of each row of the tables in a text, without the heads."""
    rows = re.findall(r"^\|(.+?)(?<!\\)\|", markdown, re.MULTILINE)
    return [row.strip() for at, row in enumerate(rows) if not row.startswith("-") and not _is_head(rows, at)]


def _is_head(rows: list[str], at: int) -> bool:
    return at + 1 < len(rows) and rows[at + 1].startswith("-")


def code(markdown: str) -> list[str]:
    """What stands in backquotes within the text, in order."""
    return re.findall(r"`([^`\n]+)`", _outside_blocks(markdown))


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures, but for those of the web."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _outside_blocks(text(page))):
        if "://" not in target:
            yield target


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _outside_blocks(text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _outside_blocks(markdown: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
