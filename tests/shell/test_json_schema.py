"""The shipped JSON schemas match the documents that the commands print, and every document has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from etc import json_schema
from etc.debian import manpages
from tests.node import Node
from tests.shell.conftest import Run

COMMANDS = manpages.commands(manpages.top())


@pytest.mark.parametrize("name", json_schema.DOCUMENTS)
def test_the_shipped_schema_is_that_of_the_document(name: str) -> None:
    shipped = (json_schema.DIRECTORY / f"{name}.json").read_text(encoding="utf-8")
    assert shipped == json_schema.schema(name), "stale: run `python etc/json_schema.py`"


def test_every_document_has_a_schema_and_no_schema_is_left_over() -> None:
    with_json = {name for name, one in COMMANDS.items() if "--json" in one.format_help()}
    assert {name.removesuffix("-top") for name in json_schema.DOCUMENTS} == with_json | {"error"}
    assert {file.stem for file in json_schema.DIRECTORY.iterdir()} == set(json_schema.DOCUMENTS)


def test_a_directory_is_written(tmp_path: Path) -> None:
    json_schema.main(tmp_path / "new")
    assert {file.stem for file in (tmp_path / "new").iterdir()} == set(json_schema.DOCUMENTS)


@pytest.mark.parametrize("name", ["adopt", "check-config", "plan", "quarantine", "status", "verify"])
def test_what_a_command_prints_is_its_document_and_has_all_its_keys(node: Node, run: Run, name: str) -> None:
    node.db.update(5, status="paused")
    node.db.update(6, preshared_key="junk")
    printed: dict[str, Any] = json.loads(run(name, "--json")[1][0])
    report = msgspec.convert(printed, json_schema.DOCUMENTS[name], strict=True)
    assert msgspec.to_builtins(report) == printed
    described = json.loads(json_schema.schema(name))
    keys = described["$defs"][described["$ref"].rpartition("/")[2]]
    assert set(keys["required"]) == set(printed) == set(keys["properties"])
