"""README.md and etc/doc agree with each other and with the program."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from etc.debian import manpages
from etc.debian.markdown_page import markdown_page
from tests import pages
from tests.core.test_architecture import ROOMS
from tests.monitoring import alerts
from tests.pages import DOC, INSTALL, PAGES, README, TOP
from tests.prose import words
from tests.shell.test_manual import keys
from tests.shell.test_monitoring import exported
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.verify import FAULTS
from wgsyncd.core.reasons import Reason
from wgsyncd.daemon.metrics import TASKS
from wgsyncd.stores.mikyun.messages import ACTIONS

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
COMMANDS = manpages.commands(manpages.top())
SCREENS = {"text", "sql", "yaml", "php", "python"}  # blocks in these languages hold no commands


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in pages.links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in pages.anchors(target), link


def test_every_page_is_linked_from_the_readme() -> None:
    assert {DOC / Path(link.partition("#")[0]).name for link in pages.links(README) if link.endswith(".md")} >= set(
        PAGES
    ) - {README}


def test_the_readme_is_short() -> None:
    assert len(pages.text(README).splitlines()) <= 150


@pytest.mark.parametrize("page", [README, INSTALL], ids=lambda page: page.stem)
def test_every_block_of_commands_has_a_name(page: Path) -> None:
    """tests/real/test_readme.py and test_install_page.py run all named blocks."""
    fences = re.findall(r"^```(.*)$", pages.text(page), re.MULTILINE)[::2]
    assert set(fences) <= {"sh", *SCREENS}
    assert len(pages.blocks(page)) == fences.count("sh") > 4


def test_the_readme_has_the_two_lines() -> None:
    """tests/real/test_demo.py runs the first line. The second line runs this test."""
    demo, tests = pages.indented(README)
    assert demo.endswith(".venv/bin/wgsyncd demo --install")
    assert os.access(TOP / tests, os.X_OK)


def test_the_commands_are_listed() -> None:
    cells = pages.first_cells(pages.section(DOC / "commands.md", "Overview"))
    assert {name.split()[0] for cell in cells for name in pages.code(cell)} == set(COMMANDS)


@every_page
def test_options_of_the_pages_exist(page: Path) -> None:
    said = {(command, option) for text in pages.code(pages.text(page))
            for command, rest in re.findall(r"\bwgsyncd ([a-z-]+)\b(.*)", text)
            for option in re.findall(r"--[a-z-]+", rest)}  # fmt: skip
    options = {(name, option) for name, parser in COMMANDS.items()
               for action in manpages.options(parser) for option in action.option_strings}  # fmt: skip
    assert said <= options


@pytest.mark.parametrize("page", ["install", "runbook"])
def test_a_page_becomes_a_manual_page(page: str) -> None:
    """The page is made at 80 columns, as in the package.

    Its headings appear in the manual page, and no line is lost.
    """
    roff = markdown_page(page)
    argv = ["mandoc", "-T", "utf8", "-W", "error"]
    lint = subprocess.run(argv, input=roff, capture_output=True, text=True, check=True)
    shown = re.sub(r".\x08", "", lint.stdout)
    for heading in re.findall(r"^## (.+)$", pages.text(DOC / f"{page}.md"), re.MULTILINE):
        assert re.search(rf"^ *{re.escape(heading)}$", shown, re.MULTILINE), heading
    for name, commands in pages.blocks(DOC / f"{page}.md").items():
        for line in commands.splitlines():
            assert line.strip() in shown, name


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    runbook = pages.text(DOC / "runbook.md")
    assert re.findall(r"^## (.+)$", runbook, re.MULTILINE) == [alert.name for alert in alerts()]
    for alert in alerts():
        said = pages.section(DOC / "runbook.md", alert.name).strip()
        assert said.startswith(f"{alert.field('severity')}. ")
        assert "\n*Look*: " in said
        assert "\n*Do*: " in said
        assert words(said) > 20


@every_page
def test_metrics_of_the_pages_exist(page: Path) -> None:
    said = {name for text in pages.code(pages.text(page)) for name in re.findall(r"\b(?:wgsyncd|wireguard)_\w+", text)}
    scripts = [TOP / f"etc/sql/{name}" for name in ("mikyun/wgsyncd.sql", "nexavpn/nexavpn.sql")]
    texts = [script.read_text(encoding="utf-8") for script in scripts]
    tables = {name for one in texts for name in re.findall(r"\b((?:wgsyncd|wireguard)_\w+)", one)}
    families = {re.sub(r"_(sum|count)$", "", name) for name in exported()}
    assert said - {"wgsyncd_"} <= exported() | families | tables


def test_monitoring_names_what_matters() -> None:
    assert len(set(re.findall(r"`(wgsyncd_\w+)", pages.text(DOC / "monitoring.md")))) > 25


def test_the_reasons_of_rejection_are_explained() -> None:
    cells = pages.first_cells(pages.section(DOC / "tables.md", "Rejected rows"))
    assert {name for cell in cells for name in pages.code(cell)} == {str(reason) for reason in Reason}


def test_the_audit_actions_are_listed() -> None:
    cells = pages.first_cells(pages.section(DOC / "tables.md", "What wgsyncd writes down"))
    assert {name for cell in cells for name in pages.code(cell)} == ACTIONS


def test_the_checks_of_verify_are_explained() -> None:
    for page, heading in (("accounting", "Do the numbers add up?"), ("troubleshooting", "Verify reports something")):
        cells = pages.first_cells(pages.section(DOC / f"{page}.md", heading))
        assert {name for cell in cells for name in pages.code(cell)} == {str(check) for check in FAULTS}


def test_every_file_that_the_architecture_names_is_there() -> None:
    page = pages.text(DOC / "architecture.md")
    for table in ("Two roads", "Where to add things"):
        assert table in page
    named = {name for name in pages.code(page) if re.fullmatch(r"[\w/]+(\.\w+|/)", name)}
    homes = (TOP / "wgsyncd", TOP, DOC, TOP / "wgsyncd/dataplane", TOP / "wgsyncd/dataplane/wireguard")
    assert len(named) > 40
    assert [name for name in sorted(named) if not any((home / name).exists() for home in homes)] == []


def test_the_architecture_has_the_import_table_of_its_test() -> None:
    table = pages.section(DOC / "architecture.md", "Rooms")
    core = {"core", "core.peers", "core.usage", "core.inspect", "core.shaping", "core.policies"}
    found = {}
    for room, _, allowed in re.findall(r"^\| `(.+?)` \|(.+)\|(.+)\|$", table, re.MULTILINE):
        names = {name.replace("/", ".") for name in pages.code(allowed)}
        found[room] = names - {"core.*"} | (core if "core.*" in names else set())
    found["cli/"] = {""}
    assert found == {room: set(allowed) for room, allowed in ROOMS.items() if not room.startswith("_")}


def test_the_configuration_has_every_key_once() -> None:
    cells = pages.first_cells(pages.section(DOC / "configuration.md", "Keys"))
    assert sorted(key for cell in cells for key in pages.code(cell)) == sorted(keys(Settings))


def test_the_glossary_has_each_term_once() -> None:
    terms = [
        term
        for cell in pages.first_cells(pages.text(DOC / "glossary.md"))
        for term in re.findall(r"\*\*(.+?)\*\*", cell)
    ]
    assert len(terms) > 60
    assert sorted(set(terms)) == sorted(terms)


def test_the_glossary_lists_each_task() -> None:
    (meaning,) = re.findall(r"^\| \*\*task\*\* \|(.+)\|$", pages.text(DOC / "glossary.md"), re.MULTILINE)
    assert set(pages.code(meaning)) == set(TASKS)


def test_pictures_are_small_and_can_be_read_in_dark_and_in_light() -> None:
    pictures = sorted((TOP / "etc/pictures").iterdir())
    shown = {
        target.rpartition("/")[2]
        for page in (README, *PAGES)
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text())
    }
    assert {one.name for one in pictures} == shown
    for one in pictures:
        if one.suffix == ".png":  # of a browser
            assert one.stat().st_size < 60_000
            continue
        style = ElementTree.parse(one).find("{http://www.w3.org/2000/svg}style")  # noqa: S314  # a file of this repository
        assert style is not None
        light, _, dark = (style.text or "").partition("@media(prefers-color-scheme:dark)")
        used = {name for name in re.findall(r'class="(\w+)"', one.read_text()) if name != "bold"}
        assert {*used, "text", "rect"} <= {name.strip(".") for name in re.findall(r"([.\w]+)\{fill", light)}, one.name
        assert {*used, "text", "rect"} <= {name.strip(".") for name in re.findall(r"([.\w]+)\{fill", dark)}, one.name
        assert one.stat().st_size < 10_000
