"""The project's English can be read by people who learnt it at school. tests/prose.py measures it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from etc.debian import toml_page
from tests import prose
from tests.monitoring import alerts, panels
from tests.pages import PAGES, TOP, text
from tests.prose import Limits
from wgsyncd.cli import main

OF_PAGES = Limits(mean=15, longest=25)
OF_CODE = Limits(mean=20, longest=40)
OF_CELLS = Limits(mean=15, longest=40)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_plain(page: Path) -> None:
    assert prose.faults(prose.of_markdown(text(page)), OF_PAGES) == []
    assert prose.faults(prose.cells_of_markdown(text(page)), OF_CELLS) == []


@pytest.mark.parametrize("file", sorted((TOP / "wgsyncd").rglob("*.py")), ids=lambda file: str(file.relative_to(TOP)))
def test_code_is_plain(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert prose.faults(prose.of_python(source), OF_CODE) == []
    assert prose.faults(prose.messages(source), OF_CODE) == []


def test_the_configuration_is_plain() -> None:
    _, sections = toml_page.sections((TOP / "etc/wgsyncd.toml").read_text(encoding="utf-8"))
    about = [part for section in sections for key in section.keys for part in prose.of_markdown(key.about)]
    assert len(about) > 40
    assert prose.faults(about, OF_CODE) == []


# Files whose comments say something to an administrator or a packager, with the mark of a comment.
COMMENTED = {
    **dict.fromkeys(sorted((TOP / "etc/sql").rglob("*.sql")), "--"),
    **dict.fromkeys(sorted((TOP / "systemd").iterdir()), "#"),
    **{TOP / "etc/debian" / name: "#" for name in ("build", "install", "lock", "postrm", "prerm", "rules")},
    **dict.fromkeys(sorted((TOP / "etc/prometheus").rglob("*.yml")), "#"),
}


@pytest.mark.parametrize("file", COMMENTED, ids=lambda file: str(file.relative_to(TOP)))
def test_comments_are_plain(file: Path) -> None:
    assert prose.faults(prose.of_comments(file.read_text(encoding="utf-8"), COMMENTED[file]), OF_CODE) == []


def test_the_programs_of_etc_are_plain() -> None:
    """Their texts are those of the manual pages, among others."""
    for file in sorted((TOP / "etc").rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        found = prose.faults(prose.of_python(source), OF_CODE) + prose.faults(prose.messages(source), OF_CODE)
        assert found == [], file.relative_to(TOP)


def test_one_sentence_says_what_wgsyncd_is() -> None:
    sentence = " ".join(text(TOP / "README.md").split("\n\n")[1].split())
    metadata = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]["description"]
    package = " ".join((TOP / "etc/debian/control").read_text(encoding="utf-8").split())
    assert sentence == main.PROGRAM
    assert f"wgsyncd k{metadata[1:]}." == sentence
    assert sentence in package


@pytest.mark.parametrize("field", ["summary", "description"])
def test_alerts_are_plain(field: str) -> None:
    assert prose.faults([alert.field(field) for alert in alerts()], OF_CODE) == []


def test_the_dashboard_is_plain() -> None:
    texts = [panel[field] for panel in panels() for field in ("title", "description") if panel.get(field)]
    assert len(texts) > 60
    assert prose.faults(texts, OF_CODE) == []


# -- that it can fail


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("Peers whom a row shuts out are removed.", "'whom'"),
        ("It is read twice; then it is compared.", "semicolon"),
        ("word " * 41 + "end.", "42 words"),
        ("Eleven words make this sentence longer than the mean allows it.", "on average"),
    ],
)
def test_each_rule_can_be_broken(sentence: str, fault: str) -> None:
    (found,) = prose.faults([sentence], Limits(mean=10 if "average" in fault else 50, longest=40))
    assert fault in found


PAGE = """\
# A heading; whom

A sentence with `code; whom` and a [link; here](https://a.example/;whom).
It goes on. Then another one:

```sh
whom; whom
```

| whom; | a cell |
|---|---|
| a second; cell | `code; whom` |

- An item
  of two lines
- Another item; **bold**
"""


def test_what_counts_on_a_page() -> None:
    assert prose.of_markdown(PAGE) == [
        "A sentence with code and a link; here.", "It goes on.", "Then another one:", "An item of two lines",
        "Another item; bold",
    ]  # fmt: skip
    assert prose.cells_of_markdown(PAGE) == ["whom;", "a cell", "---", "---", "a second; cell", "code"]


def test_what_counts_in_other_files() -> None:
    script = "#!/bin/sh\n# One\n# text; whom.\n#   a command; whom\n#Setting=1\nwork  # whom\n    # A last one"
    assert prose.of_comments(script, "#") == ["One text; whom.", "A last one"]


MODULE = '''\
"""One sentence. Another `name; here`."""
# A comment
# of two lines; whom
LIMIT = 3  # of tries
#
#: a marker


def refuse(name):
    """Says why."""
    query = "SELECT a FROM b WHERE c; whom and more words"
    raise Refused(f"the table {name} is not there: " "create it; then try again")
'''


def test_what_counts_in_a_module() -> None:
    assert prose.of_python(MODULE) == [
        "One sentence.", "Another code.", "Says why.", "A comment of two lines; whom", "of tries", ": a marker",
    ]  # fmt: skip
    assert prose.messages(MODULE) == ["the table code is not there: create it; then try again"]
