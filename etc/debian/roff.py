"""Text in the man(7) language, ASCII only."""

from __future__ import annotations

import os
import re
import textwrap
import time
from collections.abc import Iterator, Mapping

from wgsyncd import __version__


def escape(text: str) -> str:
    """Text as man(7) prints it: `code` in bold, all that is not ASCII by its number."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", ascii_only(text))
    lines = textwrap.wrap(text, 78, break_long_words=False, break_on_hyphens=False)  # which roff joins again
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in lines)


def ascii_only(text: str) -> str:
    """The text with every other character by its number."""
    return "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in text)


def head(name: str, section: int, about: str) -> Iterator[str]:
    """The title line and the section NAME."""
    at = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time()))
    yield f'.TH {name.upper()} {section} "{time.strftime("%Y-%m-%d", at)}" "wgsyncd {__version__}" "wgsyncd"'
    yield ".nh"  # a file's name is not hyphenated
    yield from (".SH NAME", f"{escape(name)} \\- {escape(about)}")


def definitions(entries: Mapping[str, str]) -> Iterator[str]:
    """Terms, each with its text."""
    for term, text in entries.items():
        yield from (".TP", f"\\fB{escape(term)}\\fR", escape(text))


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a text. An empty line separates two of them."""
    for number, one in enumerate(part for part in text.split("\n\n") if part.strip()):
        if number:
            yield ".PP"
        yield escape(" ".join(one.split()))
