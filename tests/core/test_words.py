"""One thing is no "1 peers": every message with a number and a noun makes the noun fit the number."""

from __future__ import annotations

import ast
import re

from tests.sources import FILES, tree
from wgsyncd.core.words import counted

_PLURAL = re.compile(
    r" (?:(?:live|audit|more) )?(?:peers|devices|rows|changes|removals|faults|deltas|contracts|addresses|policies|columns"
    r"|discrepancies|profiles|counters|steps|ranges)\b(?! of )"
)
_NEVER_ONE = {  # what stands behind the number of at least two things, or behind a name
    " devices have this: ",
    " live peers would go",
    " more ranges",
    " peers",  # of a line of changes that are too many to be shown one by one
    " changes with each posting (ON UPDATE), and it is not wgsyncd's to change",
    " counters, its most is ",
}


def test_a_noun_fits_its_number() -> None:
    assert [counted(number, "peer") for number in (0, 1, 2)] == ["0 peers", "1 peer", "2 peers"]
    assert [counted(number, "policy is", "policies are") for number in (1, 2)] == ["1 policy is", "2 policies are"]


def test_no_message_puts_a_plural_behind_every_number() -> None:
    found = [
        f"{name}:{value.lineno}: {after.value}"
        for name, path in FILES.items()
        if not name.startswith("demo/")
        for text in ast.walk(tree(path))
        if isinstance(text, ast.JoinedStr)
        for value, after in zip(text.values, text.values[1:], strict=False)
        if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)
        and isinstance(after.value, str) and _PLURAL.match(after.value) and after.value not in _NEVER_ONE
    ]  # fmt: skip
    assert not found
