"""Fixtures run the command line over a node in memory, and an HTTP server on sockets of both kinds."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.asked_daemon import Work, running
from tests.http_site import Site
from tests.node import CONFIG, Node
from tests.wait import until
from wgsyncd import log, redact
from wgsyncd.cli import main, wiring
from wgsyncd.config import load
from wgsyncd.config.schema import Settings
from wgsyncd.daemon import lock
from wgsyncd.daemon.daemon import Daemon
from wgsyncd.daemon.events import Event, EventQueue
from wgsyncd.daemon.systemd import Notifier
from wgsyncd.engine.agent import Agent


class Run(Protocol):
    """Runs a command and returns its exit status and its lines."""

    def __call__(self, name: str, *args: str) -> tuple[int, list[str]]: ...


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    file = tmp_path / "wgsyncd.toml"
    file.write_text(CONFIG)
    monkeypatch.setattr(redact, "DEFAULT_CONFIG", file)  # as if it were the usual one: commands do without --config
    return file


@pytest.fixture
def node(config: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """Yields a node with three devices that are in service. The commands use its agent."""
    log.configure()
    made = Node()
    for number in (5, 6, 7):
        made.device(number)
    made.cycle()

    def agent(_: Settings) -> Agent:
        log.configure("warning", "sentence")
        return made.agent

    monkeypatch.setattr(wiring, "open_agent", agent)
    yield made
    log.configure()


@pytest.fixture
def run(config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(name: str, *args: str) -> tuple[int, list[str]]:
        capsys.readouterr()
        status = main.main([name, *(() if name in ("sync", "reload") else ("--config", str(config))), *args])
        return status, capsys.readouterr().out.splitlines()

    return command


Make = Callable[..., Site]


@pytest.fixture(params=["tcp", "unix"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    before = set(threading.enumerate())
    with ExitStack() as stack:

        def made(**options: Any) -> Site:
            if request.param == "tcp":
                listener = socket.create_server(("127.0.0.1", 0))
            else:
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listener.bind(str(tmp_path / "socket"))
                listener.listen(64)
            site = Site(listener, **options)
            stack.callback(site.server.close)
            return site

        yield made
    until(lambda: set(threading.enumerate()) <= before, 10, "every thread has ended")


@pytest.fixture
def site(make: Make) -> Site:
    return make()


@pytest.fixture
def work(node: Node, config: Path) -> Iterator[Work]:
    """Yields a daemon that runs, with its lock and its control socket."""
    with running(node, config) as made:
        yield made


@pytest.fixture
def name() -> str:
    """Returns a name that no other test of this machine claims."""
    return secrets.token_hex(8)


@pytest.fixture
def daemon(node: Node, tmp_path: Path) -> Iterator[Daemon]:
    """Yields a daemon that has reconciled once, on a node in memory."""
    claims = lock.Claims(tmp_path.name, ())
    made = Daemon(
        tmp_path / "wgsyncd.toml", node.settings, lambda *_: node.agent, EventQueue(), node.status, Notifier({}), claims
    )
    made._handle(Event.RECONCILE)
    yield made
    claims.close()


@pytest.fixture
def idle_daemon(node: Node, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """Yields a daemon on a node in memory, before its sockets are open. The port of its metrics is a free one."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as free:
        file = tmp_path / "wgsyncd.toml"
        file.write_text(
            f'[node]\nname = "{name}"\n[metrics]\nlisten = "127.0.0.1:{free.getsockname()[1]}"\n'
            '[interfaces.wg0]\nnetworks = ["10.200.0.0/24"]\n'
        )
    claims = lock.Claims(name, ())
    made = Daemon(file, load.load(file), lambda *_: node.agent, EventQueue(), node.status, Notifier({}), claims)
    yield made
    made._end()
    claims.close()
