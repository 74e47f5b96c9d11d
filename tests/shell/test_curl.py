"""curl drives the control socket: each line of etc/doc/commands.md works, and errors are clear."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etc import json_schema
from tests import pages
from tests.asked_daemon import Work
from tests.node import Node
from wgsyncd.daemon import control_socket

LINES = re.findall(r"^(curl .+)$", pages.section(pages.DOC / "commands.md", "Asking the daemon"), re.MULTILINE)
SOCKET, PLAN = "/run/wgsyncd/control.sock", "51e263ee01054d0c9f7be6428a1d3b57"  # the page shows these values


def curl(*args: str) -> tuple[int, Any]:
    """Returns the HTTP status and the decoded answer."""
    argv = [
        "curl",
        "-sS",
        "--max-time",
        "60",
        "-w",
        "\n%{http_code}",
        "--unix-socket",
        str(control_socket.path()),
        *args,
    ]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    body, _, status = said.rpartition("\n")
    return int(status), json.loads(body) if body else None


@pytest.mark.parametrize("line", LINES)
def test_each_line_of_the_page_works(node: Node, work: Work, line: str) -> None:
    node.db.devices.clear()  # the guard withholds the removals of this plan
    node.cycle()
    line = line.replace(SOCKET, str(control_socket.path())).replace(PLAN, node.status.plan_id)
    done = subprocess.run(
        ["sh", "-c", line.replace("curl", "curl -sS --fail", 1)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    path = line.rpartition("http://localhost")[2]
    if path not in ("/", "/healthz"):
        document = json_schema.DOCUMENTS[path.removeprefix("/")]
        said = json.loads(done.stdout)
        assert msgspec.to_builtins(msgspec.convert(said, document, strict=True)) == said, "all of its keys, no other"
    if path == "/approve":
        assert node.kernel() == {"wg0": {}, "wg1": {}}


def test_the_page_has_every_path(work: Work) -> None:
    cells = pages.first_cells(pages.section(pages.DOC / "commands.md", "Asking the daemon"))
    said = {request for cell in cells for request in pages.code(cell) if " /" in request}
    argv = ["curl", "-sS", "--unix-socket", str(control_socket.path()), "http://localhost/"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == {"GET /", *listed} - {"GET /healthz", "GET /readyz"}
    shown = {line.rpartition("http://localhost")[2] for line in LINES}
    assert {one.split()[1] for one in said} - {"/metrics"} <= shown


@pytest.mark.parametrize(("args", "status", "key"), [
    (["http://a/none"], 404, None), (["http://a/plan"], 405, None), (["-d", "{}", "http://a/status"], 405, None),
    (["-d", "{", "http://a/plan"], 400, None), (["-d", '{"plan": 5}', "http://a/approve"], 400, "plan"),
    (["-X", "POST", "http://a/approve"], 400, "plan"), (["-d", '{"device": "D-1"}', "http://a/sync"], 400, "device"),
    (["-d", '{"devices": ["D D"]}', "http://a/sync"], 200, None), (["-d", '{"devices": ["\\u0001"]}', "http://a/sync"], 400, "devices"),
    (["-d", '{"plan": "0123456789ab"}', "http://a/approve"], 409, "plan"), (["http://a/status?config=/etc/other"], 409, "config"),
    (["-H", "Transfer-Encoding: chunked", "-d", "{}", "http://a/plan"], 400, "Transfer-Encoding"),
    (["-d", " " * 70000, "http://a/plan"], 413, None), (["-d", '{"devices": ["D-9"]}', "http://a/sync"], 503, "database"),
])  # fmt: skip
def test_what_curl_is_told(work: Work, args: list[str], status: int, key: str | None) -> None:
    found, answer = curl(*args)
    assert found == status
    if status == 200:
        assert answer == {"compared": ["D D"], "without_row": ["D"]}
    else:
        assert set(answer) == {"error", "key"}
        assert (answer["key"], bool(answer["error"])) == (key, True)


def test_curl_asks_for_the_head(work: Work) -> None:
    argv = ["curl", "-sS", "--head", "--unix-socket", str(control_socket.path()), "http://localhost/status"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert said.startswith("HTTP/1.0 200 OK")
    assert "Content-Type: application/json" in said


def test_who_is_not_permitted_is_told_so_by_status(work: Work, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nobody = control_socket.Caller(12345, frozenset({12345}), 77)
    monkeypatch.setattr(control_socket, "caller_of", lambda _: nobody)
    for args in (["http://a/status"], ["-d", "{}", "http://a/sync"], ["-d", " " * 70000, "http://a/plan"]):
        status, answer = curl(*args)
        assert (status, answer["error"]) == (403, "not permitted: run this as root or in the group wgsyncd")
    assert work.said == []
