"""Bash and zsh complete the commands, options and values of wgsyncd: each test asks the shell itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from etc.debian import manpages
from wgsyncd.cli import output
from wgsyncd.cli.commands.quarantine import QuarantinedReport, QuarantineReport
from wgsyncd.engine.reports.devices import DeviceReport, DevicesReport
from wgsyncd.engine.reports.status_document import GuardReport

COMMANDS = manpages.commands(manpages.top())
BASH = """\
source "$1/wgsyncd.bash"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_shtab_wgsyncd
[ "${#COMPREPLY[@]}" = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
"""
# zsh completes only in an interactive shell. The outer shell gives the inner one a terminal, a line and the tab key.
ZSH = """\
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "source ${(q)1}/inner"
zpty -r shell answer '*READY*'
zpty -w -n shell "${2}"$'\t'
while zpty -r shell answer; do :; done
"""
# Each match goes to the file "matches". The shell ends when the completion is complete.
ZSH_INNER = """\
PROMPT= RPROMPT=
here={directory}
fpath=($here $fpath)
autoload -Uz compinit
compinit -C -d $here/compdump
compadd() {{
    local -a matches
    [[ ${{@[1,(i)(-|--)]}} == *-(O|A|D)\\ * ]] || {{ builtin compadd -O matches "$@"; print -rl -- $matches >&3 }}
    builtin compadd "$@"
}}
finish() {{ exit }}
comppostfuncs=(finish)
bindkey '^I' complete-word
exec 3>$here/matches
print RE''ADY
"""


class Shell:
    """Runs bash or zsh with the completion of wgsyncd."""

    def __init__(self, name: str, directory: Path, files: Mapping[str, str]) -> None:
        self._name, self._directory, self._matches = name, directory, directory / "matches"
        for file, text in files.items():
            (directory / file).write_text(text, encoding="ascii")
        (directory / "inner").write_text(ZSH_INNER.format(directory=directory))

    def completed(self, *words: str, cwd: Path | None = None) -> set[str]:
        """Returns the matches for the last word of a command line that begins with wgsyncd."""
        words = ("wgsyncd", *words)
        where = str(self._directory)
        if self._name == "bash":
            argv = ["bash", "--norc", "-uc", BASH, "bash", where, *words]
        else:
            argv = ["zsh", "-f", "-c", ZSH, "zsh", where, " ".join(words)]
        self._matches.unlink(missing_ok=True)
        done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=cwd, timeout=30)
        assert done.stderr == ""
        # zsh quotes a match for its command line, and bash does that later
        said = done.stdout if self._name == "bash" else self._matches.read_text().replace("\\", "")
        return {line for line in said.splitlines() if line}


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(request.param, tmp_path_factory.mktemp("completion"), manpages.completion())


def test_commands_are_completed(shell: Shell) -> None:
    assert shell.completed("") == {*COMMANDS}
    assert shell.completed("st") == {"status"}
    assert {"--help", "--version"} <= shell.completed("--")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_completed(shell: Shell, command: str) -> None:
    options = {name for action in COMMANDS[command]._actions for name in action.option_strings}
    assert shell.completed(command, "-") == options
    assert shell.completed(command, "--") == {one for one in options if one.startswith("--")}


def test_values_are_completed(shell: Shell, tmp_path: Path) -> None:
    assert shell.completed("usage", "--by", "") == {"hour", "day", "month"}
    assert shell.completed("quarantine", "r") == {"release"}
    assert shell.completed("status", "--watch", "") == set()
    (tmp_path / "a file.toml").touch()
    assert shell.completed("plan", "--config", "a", cwd=tmp_path) == {"a file.toml"}


@pytest.fixture
def node_with_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Puts a command on the path that answers with the documents of a node."""
    devices = msgspec.convert(
        {one.name: "" for one in msgspec.structs.fields(DevicesReport) if one.type is str}
        | {"sampled": None, "count": 3, "online": 0, "off": 0, "matching": 3, "figures": [], "devices": []},
        DevicesReport,
    )
    made = [
        msgspec.convert(
            {"row": at, "device": f"0001-DEV-00{at}", "name": name, "owner": owner, "status": "active", "state": "live", "why": "",
             "interface": "wg0", "addresses": [], "reaches": None, "more_ranges": 0, "online": False, "latest_handshake": None, "handshake_age": None,
             "rx_rate": None, "tx_rate": None, "bytes": {}, "hours": None, "bandwidth": None},
            DeviceReport,
        )
        for at, name, owner in ((1, "", "0001"), (2, "laptop", "0001"), (3, "my phone", "0002 a"))
    ]  # fmt: skip
    output.print_json(msgspec.structs.replace(devices, devices=made))
    output.print_json(GuardReport(tripped=True, approved=False, plan="90f0bf914384d5a1c07e62fb8d3390ac"))
    waiting = QuarantinedReport(
        id=7, row_id=1, device="0001-DEV-001", name="", interface="wg0", rx=1, tx=1, since=0, until=1, rate=8
    )
    output.print_json(QuarantineReport(quarantine=[waiting]))
    documents = dict(zip(("devices", "status", "quarantine"), capsys.readouterr().out.splitlines(), strict=True))
    for name, text in documents.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "wgsyncd").write_text(f'#!/bin/sh\ncat "{tmp_path}/$1"\n')
    (tmp_path / "wgsyncd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("node_with_names")
def test_names_of_this_node_are_completed(shell: Shell) -> None:
    devices = {f"0001-DEV-00{at}" for at in (1, 2, 3)}
    assert shell.completed("explain", "") == devices | {"laptop"}, "a blank parts a word"
    assert shell.completed("explain", "lap") == {"laptop"}
    assert shell.completed("explain", "0001-DEV-003") == {"0001-DEV-003"}
    assert shell.completed("usage", "0001") == devices | {"0001"}
    assert shell.completed("sync", "") == devices, "sync knows no other names"
    assert shell.completed("sync", "0001-DEV-001", "0001-DEV-002") == {"0001-DEV-002"}
    assert shell.completed("quarantine", "release", "") == {"7"}
    assert shell.completed("approve", "") == {"90f0bf914384d5a1c07e62fb8d3390ac"}


def test_without_a_daemon_there_are_no_names_and_no_noise(shell: Shell) -> None:
    assert shell.completed("explain", "x") == set()
