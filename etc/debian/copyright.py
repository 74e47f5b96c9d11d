"""Prints the package's copyright file: the project's own, then a paragraph for each library that the package contains.

    python debian/copyright.py LIBRARIES

LIBRARIES is the directory that pip has installed them into.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

PLACE = "/usr/lib/wgsyncd"
OWN = Path(__file__).with_name("copyright")
NOTICE = re.compile(r"^ *Copyright (?:\(c\) )?((?:\d{4}|[A-Z])[^<>[\n]+)$", re.MULTILINE)
FSF = "Free Software Foundation"  # it holds the copyright of the text of the GPL, not of the library


def field(library: Distribution, name: str) -> str:
    """A field of the library's metadata, or "" if it has no field with this name."""
    return next(iter(library.metadata.get_all(name, [])), "")


def licence(library: Distribution) -> str:
    """The licence as the library's metadata names it."""
    named = field(library, "License-Expression") or field(library, "License")
    classifiers = [
        one.rpartition(" :: ")[2] for one in library.metadata.get_all("Classifier", []) if one.startswith("License ::")
    ]
    named = named.partition("\n")[0] or " or ".join(classifiers)
    if not named:
        raise LookupError(f"{library.name} names no licence")
    return named


def holders(folder: Path, library: Distribution) -> Iterator[str]:
    """Who holds the copyright: the notices in the licence files, or else the author of the metadata."""
    files = [
        path for path in sorted(folder.rglob("*")) if re.match(r"licen[cs]e|copying|notice", path.name, re.IGNORECASE)
    ]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file()]
    found = [one.strip() for text in texts for one in NOTICE.findall(text) if FSF not in one]
    author = field(library, "Author") or field(library, "Author-email") or f"the authors of {library.name}"
    yield from dict.fromkeys(found or [author])


def paragraphs(libraries: Path) -> Iterator[str]:
    """One paragraph for each library but wgsyncd itself."""
    for folder in sorted(libraries.glob("*.dist-info")):
        library = PathDistribution(folder)
        if library.name != "wgsyncd":
            copyright_ = "\n           ".join(holders(folder, library))
            yield (
                f"Files: {PLACE}/{folder.name.partition('-')[0]}*\n"
                f"Copyright: {copyright_}\n"
                f"License: {licence(library)}\n The text is in {PLACE}/{folder.name}.\n"
            )


if __name__ == "__main__":
    print(OWN.read_text(encoding="utf-8"), *paragraphs(Path(sys.argv[1])), sep="\n", end="")
