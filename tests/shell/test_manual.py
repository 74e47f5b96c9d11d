"""Manual pages and completion are made of the parser and of the shipped configuration: that nothing is left out of them,
and that they are sound."""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from wgsyncd import manual, shipped, toml_comments
from wgsyncd.settings import Settings

COMMANDS = manual.commands(manual.top())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What `python -m wgsyncd.manual DIRECTORY` writes."""
    directory = tmp_path_factory.mktemp("manual") / "new"
    assert manual.main([str(directory)]) == 0
    return {file.name: file.read_text(encoding="ascii") for file in directory.iterdir()}


def printed(page: str) -> str:
    """A page as man(1) shows it, as one line without its typesetting."""
    done = subprocess.run(["mandoc", "-T", "utf8"], input=page, capture_output=True, text=True, check=True)
    return " ".join(re.sub(r".\x08", "", done.stdout).split())


def test_the_pages_are_sound(made: Mapping[str, str]) -> None:
    assert set(made) == {"wgsyncd.8", "wgsyncd.toml.5", "wgsyncd.bash"}
    for name in ("wgsyncd.8", "wgsyncd.toml.5"):
        lint = ["mandoc", "-T", "lint", "-W", "style"]
        done = subprocess.run(lint, input=made[name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_in_the_manual_as_in_the_help(made: Mapping[str, str], command: str) -> None:
    parser = COMMANDS[command]
    page = made["wgsyncd.8"]
    assert f"\\fBwgsyncd {manual.escape(command)}\\fR" in page
    section = printed(".TH A 8 2026-01-01\n.SH A\n" + page.split(f".SS {manual.escape(command)}\n")[1].split(".SS ")[0])
    helped = " ".join(parser.format_help().split())
    assert " ".join((parser.description or "").split()) in section
    for action in manual.options(parser):
        assert action.help, f"{command} {action.dest}"
        told = " ".join(manual._help(parser, action).replace("`", "").split())
        assert told in section, f"{command} {action.dest}"
        assert told in helped.replace("`", ""), f"{command} {action.dest}"
        assert all(option in section for option in action.option_strings)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_its_exit_status(command: str) -> None:
    assert re.search(r"exit status: 0 .*\b1\b|exit status: 0 .*\b2\b", COMMANDS[command].format_help(), re.DOTALL)


def test_every_command_that_a_machine_may_read_has_json() -> None:
    without = {name for name, one in COMMANDS.items() if "--json" not in one.format_help()}
    assert without == {"run", "init-db"}


def keys(kind: type[msgspec.Struct], path: str = "") -> set[str]:
    """The dotted keys that the configuration may have."""
    found: set[str] = set()
    for field in msgspec.structs.fields(kind):
        name = f"{path}{field.name}"
        if field.name == "interfaces":
            found |= keys(field.type.__args__[1], "interfaces.NAME.")
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= keys(field.type, f"{name}.")
        else:
            found.add(name)
    return found


def test_every_key_of_the_configuration_is_in_the_manual_and_says_what_it_is(made: Mapping[str, str]) -> None:
    _, sections = toml_comments.sections(shipped.text("wgsyncd.toml"))
    told = {f"{one.name}.{key.name}": key.about for one in sections for key in one.keys}
    assert set(told) == keys(Settings)
    assert {key for key, about in told.items() if not about} == set()
    page = printed(made["wgsyncd.toml.5"])
    for section in sections:
        assert f"[{section.name}]" in page
        for key in section.keys:
            assert f"{key.name} = {key.value}" in page
            assert key.about in page


@pytest.mark.parametrize("line", ["nonsense", "key", "# nothing of a key"])
def test_a_line_that_would_be_left_out_is_a_bug(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        toml_comments.sections(f"[a]\n{line}\n")


def test_the_date_is_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert manual.command_page().splitlines()[0].startswith('.TH WGSYNCD 8 "1970-01-02"')
    assert manual.command_page() == manual.command_page()


def test_roff_is_escaped() -> None:
    assert manual.escape(".a -b `c d` \\") == "\\&.a \\-b \\fBc d\\fR \\e"
    assert manual.escape("µ^~") == "\\[u00B5]\\(ha\\(ti"


def test_a_place_where_nothing_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert manual.main(["/dev/null/here"]) == 1
    assert capsys.readouterr().err == "/dev/null/here: Not a directory\n"


# -- completion, by bash itself


def completed(script: Path, *words: str, cwd: Path | None = None) -> set[str]:
    """What bash offers for the last word."""
    asked = (
        f'source "{script}"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _wgsyncd; '
        '[ "${#COMPREPLY[@]}" = 0 ] || printf "%s\\n" "${COMPREPLY[@]}"'
    )
    argv = ["bash", "--norc", "-uc", asked, "bash", "wgsyncd", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=cwd)
    assert done.stderr == ""
    return set(done.stdout.splitlines())


@pytest.fixture(scope="module")
def script(made: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "wgsyncd"
    file.write_text(made["wgsyncd.bash"])
    return file


def test_commands_are_completed(script: Path) -> None:
    assert completed(script, "") == {*COMMANDS, "--help", "--version"}
    assert completed(script, "st") == {"status"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_completed(script: Path, command: str) -> None:
    options = {name for action in COMMANDS[command]._actions for name in action.option_strings}
    assert options <= completed(script, command, "")
    assert completed(script, command, "--") == {one for one in options if one.startswith("--")}


def test_values_are_completed(script: Path, tmp_path: Path) -> None:
    assert completed(script, "usage", "--by", "") == {"hour", "day", "month"}
    assert completed(script, "quarantine", "r") == {"release"}
    assert completed(script, "status", "--watch", "") == set()
    (tmp_path / "a file.toml").touch()
    assert completed(script, "plan", "--config", "a", cwd=tmp_path) == {"a file.toml"}
    choices = [a for one in COMMANDS.values() for a in one._actions if a.option_strings and a.choices]
    assert all(isinstance(action, argparse.Action) for action in choices)
