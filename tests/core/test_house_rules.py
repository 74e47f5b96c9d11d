"""The house's rules about files: names at the top, length, the first sentence of a docstring."""

from __future__ import annotations

import ast
import re

from tests.sources import FILES, HOME, nodes, tree


def test_the_top_has_at_most_twelve_names() -> None:
    top = {name.partition("/")[0] for name in FILES} - {
        "__init__.py",
        "__main__.py",
        "_version.py",
    }  # the build writes _version.py
    assert len(top) <= 12, sorted(top)


SOURCES = sorted([*HOME.rglob("*.py"), *(HOME.parent / "tests").rglob("*.py")])


def test_no_file_is_longer_than_300_lines() -> None:
    long = {
        path.relative_to(HOME.parent).as_posix()
        for path in SOURCES
        if len(path.read_text(encoding="utf-8").splitlines()) > 300
    }
    assert not long


def test_a_docstring_begins_with_one_sentence() -> None:
    for name, path in FILES.items():
        doc = ast.get_docstring(tree(path))
        first = (doc or "").partition("\n")[0]
        good = first.endswith(".") and len(first) <= 100
        assert good, f"{name}: {first!r}"


def test_no_two_test_files_have_one_name() -> None:
    """Pytest imports test files by their base name, so it cannot collect two of one name."""
    names = [path.name for path in SOURCES if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


def test_only_the_stores_have_words_of_one_control_plane() -> None:
    """All others say owner, or the word that the store gives. The first docstring of a command is its help."""
    found = []
    for name, path in FILES.items():
        if name.startswith(("stores/", "demo/")):
            continue
        told = {node.value for node in nodes(path) if isinstance(node, ast.Expr)}
        if name.startswith("cli/commands/"):
            told -= {node.value for node in tree(path).body if isinstance(node, ast.Expr)}
        found += [
            f"{name}:{node.lineno}: {node.value}"
            for node in nodes(path)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in told
            and re.search("contract|customer|QR code", node.value, re.IGNORECASE)
        ]  # fmt: skip
    assert not found
