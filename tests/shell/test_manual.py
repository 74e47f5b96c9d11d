"""The manual pages are complete and valid: the build makes them from the parser and the configuration."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping

import msgspec
import pytest

from etc.debian import manpages, roff, toml_page
from wgsyncd import stores
from wgsyncd.config.schema import Settings

COMMANDS = manpages.commands(manpages.top())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Returns the files that `python -m etc.debian.manpages DIRECTORY` writes, by name."""
    directory = tmp_path_factory.mktemp("manual") / "new"
    assert manpages.main([str(directory)]) == 0
    return {file.name: file.read_text(encoding="ascii") for file in directory.iterdir()}


def printed(page: str) -> str:
    """Returns a page as man(1) shows it, as one line without its typesetting."""
    done = subprocess.run(["mandoc", "-T", "utf8"], input=page, capture_output=True, text=True, check=True)
    return " ".join(re.sub(r".\x08", "", done.stdout).split())


def test_the_pages_are_sound(made: Mapping[str, str]) -> None:
    assert set(made) == {
        "wgsyncd.8",
        "wgsyncd.toml.5",
        "wgsyncd-install.7",
        "wgsyncd-runbook.7",
        "wgsyncd.bash",
        "_wgsyncd",
        "wgsyncd.catalog",
    }
    for name in ("wgsyncd.8", "wgsyncd.toml.5"):
        lint = ["mandoc", "-T", "lint", "-W", "style"]
        done = subprocess.run(lint, input=made[name], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, ""), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_in_the_manual_as_in_the_help(made: Mapping[str, str], command: str) -> None:
    parser = COMMANDS[command]
    page = made["wgsyncd.8"]
    assert f"\\fBwgsyncd {roff.escape(command)}\\fR" in page
    section = printed(".TH A 8 2026-01-01\n.SH A\n" + page.split(f".SS {roff.escape(command)}\n")[1].split(".SS ")[0])
    helped = " ".join(parser.format_help().split())
    assert " ".join((parser.description or "").split()) in section
    for action in manpages.options(parser):
        assert action.help, f"{command} {action.dest}"
        told = " ".join(manpages._help(parser, action).replace("`", "").split())
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
    """Returns the dotted keys that the configuration may have."""
    found: set[str] = set()
    for field in msgspec.structs.fields(kind):
        name = f"{path}{field.name}"
        if field.name == "interfaces":
            found |= keys(field.type.__args__[1], "interfaces.NAME.")
        elif field.name == "bandwidth":
            found |= keys(field.type.__args__[1], "bandwidth.NAME.")
        elif field.name == "store":
            for name in stores.CONTROL_PLANES:
                found |= keys(stores.settings_type(name), f"{name}.")
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found |= keys(field.type, f"{name}.")
        else:
            found.add(name)
    return found


def test_every_key_of_the_configuration_is_in_the_manual_and_says_what_it_is(made: Mapping[str, str]) -> None:
    _, sections = toml_page.every_section()
    told = {f"{one.name}.{key.name}".lstrip("."): key.about for one in sections for key in one.keys}
    assert set(told) == keys(Settings)
    assert {key for key, about in told.items() if not about} == set()
    page = printed(made["wgsyncd.toml.5"])
    for section in sections:
        assert (f"[{section.name}]" if section.name else "BEFORE THE FIRST TABLE") in page
        for key in section.keys:
            assert f"{key.name} = {key.value}" in page
            assert key.about in page


@pytest.mark.parametrize("line", ["nonsense", "key", "# nothing of a key"])
def test_a_line_that_would_be_left_out_is_a_bug(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        toml_page.sections(f"[a]\n{line}\n")


def test_the_date_is_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert manpages.command_page().splitlines()[0].startswith('.TH WGSYNCD 8 "1970-01-02"')
    assert manpages.command_page() == manpages.command_page()


def test_roff_is_escaped() -> None:
    assert roff.escape(".a -b `c d` \\") == "\\&.a \\-b \\fBc d\\fR \\e"
    assert roff.escape("µ^~") == "\\[u00B5]\\(ha\\(ti"


def test_a_place_where_nothing_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert manpages.main(["/dev/null/here"]) == 1
    assert capsys.readouterr().err == "/dev/null/here: Not a directory\n"
