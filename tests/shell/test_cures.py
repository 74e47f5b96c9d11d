"""Each command of wgsyncd that a message or a page proposes is one that the program understands."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from tests import pages
from tests.pages import DOC, README
from wgsyncd.cli import main
from wgsyncd.stores.mikyun.trouble import translate

PROGRAM = Path(main.__file__).parents[1]


def proposed() -> dict[str, str]:
    """Returns the command lines, each with the file that proposes it."""
    found: dict[str, str] = {}
    for file in sorted(PROGRAM.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            for command in re.findall(r"`(?:sudo )?wgsyncd ([a-z][^`{]*)`|\((?:sudo )?wgsyncd ([a-z][a-z-]*)\)", text):
                found.setdefault(" ".join(command).strip(), file.name)
            if re.fullmatch(r"sudo wgsyncd [a-z-]+", text):
                found.setdefault(text.partition("wgsyncd ")[2], file.name)
    # These name a document or a command, and propose no run.
    found = {one: file for one, file in found.items() if not one.endswith("--json") and one != "explain"}
    for page in [README, *sorted(DOC.glob("*.md"))]:
        for block in pages.blocks(page).values():
            for line in block.splitlines():
                if command := re.match(r"(?:sudo )?wgsyncd ([a-z].*)", line):
                    found.setdefault(command[1], page.name)
    return found


COMMANDS = proposed()


def test_there_are_such_commands() -> None:
    assert {"plan", "adopt", "check-config", "reload"} <= COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_parser_understands_it(command: str) -> None:
    words = shlex.split(re.split(r"\s(?:&&|\||>|;|#)\s?", command)[0], comments=True)
    assert main.parser().parse_args(words).command == words[0], COMMANDS[command]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1044, "Access denied for user 'wgsyncd'@'localhost' to database 'mikyun_cloud'"),
        (1142, "DELETE command denied to user 'wgsyncd'@'127.0.0.1' for table `mikyun_cloud`.`wgsyncd_peers`"),
        (1143, "SELECT command denied to user ''@'%' for column 'a b' in table 't'"),
    ],
)
def test_the_cure_of_a_missing_right_names_the_account(number: int, text: str) -> None:
    cure = str(translate(Exception(number, text), known=True)).partition("As root: wgsyncd ")[2]
    args = main.parser().parse_args(shlex.split(cure))
    assert args.grants in text


def test_no_circle() -> None:
    """A database that does not exist is made by its application: `init-db` would meet the same error."""
    error = translate(Exception(1049, "Unknown database 'mikyun_cloud'"), known=True)
    assert "init-db" not in str(error)
    assert "man wgsyncd-install" in str(error)
