"""The page is for users of this machine only, and off unless the configuration turns it on."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pages
from tests.configuring import LEAST, faults
from tests.node import Node
from tests.page_site import Site
from wgsyncd.config import resources
from wgsyncd.config.load import parse
from wgsyncd.daemon import monitoring
from wgsyncd.daemon.front_page import is_ours


@pytest.fixture
def site(node: Node) -> Iterator[Site]:
    made = Site(node)
    yield made
    made.server.close()


def test_it_is_off_unless_the_configuration_turns_it_on(node: Node, site: Site) -> None:
    site.settings = node.settings
    status, text, headers = site.get()
    assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert text.splitlines() == ["GET /metrics", "The page is off: metrics.page = true turns it on."]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9586", "10.0.0.1", "127.0.0.1.evil.example", "[::2]:1", "localhost.evil"]
)
def test_a_name_of_others_gets_no_page(site: Site, host: str) -> None:
    """The site of somebody else could lead a browser on this machine here by its own name."""
    status, text, _ = site.get(host=host)
    assert (status, json.loads(text)["key"]) == (403, "Host")
    assert "DEV" not in text


@pytest.mark.parametrize(
    "host", ["", "localhost", "localhost:1234", "127.0.0.1", "127.0.0.1:9586", "[::1]", "[::1]:9586"]
)
def test_names_of_this_machine(host: str) -> None:
    assert is_ours(host)


def test_a_port_for_others_has_no_page(node: Node) -> None:
    site = Site(node, "0.0.0.0")  # noqa: S104 - this is what the page refuses
    try:
        status, text, _ = site.get()
        assert status == 403
        assert "change ListenStream=" in json.loads(text)["error"]
    finally:
        site.server.close()


def test_a_unix_socket_has_the_page(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "page.sock"))
    listener.listen()
    monkeypatch.setattr(monitoring, "_inherited", lambda: listener)
    site = Site(node)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, client.makefile("rb") as answer:
        client.connect(str(tmp_path / "page.sock"))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = answer.read()
    site.server.close()
    assert said.startswith(b"HTTP/1.0 200") and b"0001-DEV-005" in said


@pytest.mark.parametrize("listen", ["0.0.0.0:9586", "[::]:9586", "10.0.0.1:9586", "node.example:9586", ""])
def test_the_configuration_refuses_the_page_for_others(listen: str) -> None:
    found: dict[str, Any] = faults(f'{LEAST}[metrics]\npage = true\nlisten = "{listen}"')
    assert "loopback" in found["metrics.page"].why


@pytest.mark.parametrize("listen", ["127.0.0.1:9586", "[::1]:9586", "localhost:1", "127.9.9.9:1"])
def test_the_configuration_takes_the_page_on_loopback(listen: str) -> None:
    assert parse(f'{LEAST}[metrics]\npage = true\nlisten = "{listen}"').metrics.page


def test_the_commands_of_the_page_turn_it_on_in_the_shipped_file(tmp_path: Path) -> None:
    (tmp_path / "wgsyncd.toml").write_text(resources.text("wgsyncd.toml"))
    sed, _, rest = pages.commands(pages.DOC / "monitoring.md", "page").partition("\n")
    assert rest.startswith("wgsyncd reload\n")
    subprocess.run(["sh", "-ec", sed.replace("/etc/wgsyncd", str(tmp_path))], check=True)
    assert parse((tmp_path / "wgsyncd.toml").read_text()).metrics.page
