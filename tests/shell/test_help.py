"""--help fits a terminal, and an error names the commands that help."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.asked_daemon import Work
from tests.node import Node
from wgsyncd.cli import main


@pytest.mark.parametrize("name", ["", *main.COMMANDS])
def test_each_help_fits_a_terminal_of_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = []
    for argv in ([name, "--help"] if name else ["--help"], ["help", name] if name else ["help"]):
        with pytest.raises(SystemExit) as caught:
            main.main(argv)
        assert caught.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert max(map(len, said[0].splitlines())) <= 80
    text = main.COMMANDS.get(name, f"{main.PROGRAM}\n\n{main.EXIT_STATUS}")
    paragraphs = [re.sub(r"\s+", " ", one) for one in said[0].split("\n\n")]
    assert {re.sub(r"\s+", " ", one).strip() for one in text.split("\n\n")} <= {one.strip() for one in paragraphs}


@pytest.mark.parametrize("argv", [("plan",), ("explain", "0001-DEV-005")])
def test_a_command_that_needs_the_database_names_those_that_do_not(
    node: Node, work: Work, config: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]
) -> None:
    """The daemon answers the one command, and the other one asks the database itself."""
    node.store.down = True
    assert main.main([argv[0], "--config", str(config), *argv[1:]]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.findall(r"`(?:sudo )?wgsyncd (\w+)`", last) == ["doctor", "status", "devices"]
    assert main.main(["status", "--config", str(config)]) == 0
    assert main.main(["devices", "--config", str(config)]) == 0
    assert "10.200.0.5" in capsys.readouterr().out
