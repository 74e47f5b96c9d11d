"""The command line over a node in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.node import CONFIG, Node
from wgsyncd import log
from wgsyncd.cli import main
from wgsyncd.config.schema import Settings
from wgsyncd.engine.agent import Agent


class Run(Protocol):
    """Runs a command: its exit status and its lines."""

    def __call__(self, name: str, *args: str) -> tuple[int, list[str]]: ...


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    file = tmp_path / "wgsyncd.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def node(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """Three devices, in service."""
    made = Node()
    for number in (5, 6, 7):
        made.device(number)
    made.cycle()

    def agent(_: Settings) -> Agent:
        log.configure("warning")
        return made.agent

    monkeypatch.setattr(main, "_agent", agent)
    yield made
    log.configure()


@pytest.fixture
def run(config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(name: str, *args: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        status = main.main([name, *(() if name in ("sync", "reload") else ("--config", str(config))), *args])
        return status, capsys.readouterr().out.splitlines()

    return command
