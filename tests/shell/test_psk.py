"""`wgsyncd psk` seals a preshared key and checks an envelope, and never shows a key."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from tests.samples import psk
from wgsyncd.cli.main import main
from wgsyncd.core.model import encode_key
from wgsyncd.stores.nexavpn.psk import open_envelope

SECRET = bytes(range(32))
ROW = UUID(int=5)
Psk = Callable[..., tuple[int, str, str]]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(encode_key(SECRET) + "\n", encoding="utf-8")
    file.chmod(0o600)
    return file


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key_file: Path) -> Psk:
    """Returns a function that runs the command, and returns its exit status and both outputs."""

    def run(action: str, typed: str, *more: str, row: UUID = ROW, key: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        status = main(["psk", action, "--row", str(row), "--key", key or f"fra1={key_file}", *more])
        return status, *capsys.readouterr()

    return run


def test_what_is_sealed_opens_for_its_row_alone(run: Psk) -> None:
    status, envelope, _ = run("seal", encode_key(psk(5)) + "\n")
    assert (status, open_envelope(envelope.strip(), ROW, {"fra1": SECRET})) == (0, psk(5))
    assert run("check", envelope) == (0, "the envelope opens with key fra1\n", "")
    status, out, told = run("check", envelope, row=UUID(int=6))
    assert (status, out) == (1, "")
    assert "another row" in told


def test_a_document_has_the_envelope_and_no_key(run: Psk) -> None:
    status, out, _ = run("seal", encode_key(psk(5)), "--json")
    found = json.loads(out)
    assert (status, found["row"], found["key_id"]) == (0, str(ROW), "fra1")
    status, out, _ = run("check", found["envelope"], "--json")
    assert (status, json.loads(out)) == (0, {"row": str(ROW), "key_id": "fra1", "envelope": None})
    assert encode_key(psk(5)) not in out


@pytest.mark.parametrize(("typed", "why"), [("", "has 0 bytes"), ("AAAA", "has 3 bytes"), ("!" * 44, "is not base64")])
def test_what_is_no_preshared_key_is_not_sealed(run: Psk, typed: str, why: str) -> None:
    status, out, told = run("seal", typed)
    assert (status, out) == (1, "")
    assert why in told
    assert not typed or typed not in told


def test_a_bad_key_file_or_usage_ends_with_2(run: Psk, tmp_path: Path) -> None:
    status, _, told = run("check", "v1:fra1:", key=f"fra1={tmp_path / 'gone'}")
    assert status == 2
    assert "No such file" in told
    for bad in (("--key", "fra1"), ("--row", "5"), ("--key", "other=file"), ("--key", "fra1=file")):
        with pytest.raises(SystemExit) as ended:
            run("seal", "", *bad)
        assert ended.value.code == 2


def test_two_files_of_one_key_id_are_refused(run: Psk, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("check", "v1:fra1:", "--key", "fra1=/another/file")
    assert capsys.readouterr().err.endswith("--key: two files have the same id\n")


@pytest.mark.parametrize("action", ["seal", "check"])
def test_a_missing_library_is_named_with_its_remedy(run: Psk, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    status, out, told = run(action, encode_key(psk(5)))
    assert (status, out) == (1, "")
    assert "the library for preshared keys is not installed: " in told
