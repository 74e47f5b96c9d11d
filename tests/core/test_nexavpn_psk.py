"""Envelopes of preshared keys open for their own row alone, and nothing else is taken for a key."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from uuid import UUID

import pytest

from wgsyncd.errors import ConfigError
from wgsyncd.stores.nexavpn.psk import PskSealed, key_id_of, open_envelope, read_keys, seal

ROW, OTHER = UUID(int=5), UUID(int=6)
KEY, PSK = bytes(range(32)), bytes(range(100, 132))
KEYS = {"fra1": KEY, "old-2025": bytes(reversed(KEY))}
GOOD = seal(KEY, "fra1", ROW, PSK)
RAW = base64.b64decode(GOOD.rpartition(":")[2])


def test_what_was_sealed_opens_and_each_nonce_is_new() -> None:
    assert open_envelope(GOOD, ROW, KEYS) == PSK
    assert open_envelope(seal(KEYS["old-2025"], "old-2025", ROW, PSK), ROW, KEYS) == PSK
    assert len({seal(KEY, "fra1", ROW, PSK) for _ in range(20)}) == 20
    assert (len(GOOD), key_id_of(GOOD)) == (8 + 80, "fra1")


def envelope(raw: bytes) -> str:
    return f"v1:fra1:{base64.b64encode(raw).decode()}"


BAD = {
    "another version": ("version", "v2" + GOOD[2:]),
    "a plain key": ("version", base64.b64encode(PSK).decode()),
    "no key id": ("key id", "v1:" + GOOD.rpartition(":")[2]),
    "a key id in capitals": ("key id", GOOD.replace("fra1", "FRA1")),
    "a long key id": ("key id", GOOD.replace("fra1", "f" * 33)),
    "an unknown key id": ("no key ams2", GOOD.replace("fra1", "ams2")),
    "another key of the node": ("another key", GOOD.replace("fra1", "old-2025")),
    "not base64": ("base64", GOOD[:-4] + "!!!!"),
    "not padded": ("base64", GOOD[:-1]),
    "white space": ("base64", GOOD + "\n"),
    "one more part": ("key id", "v1::fra1:" + GOOD.rpartition(":")[2]),
    "a part too many": ("base64", GOOD.replace("fra1:", "fra1:junk:")),
    "59 bytes": ("59 bytes", envelope(RAW[:-1])),
    "61 bytes": ("61 bytes", envelope(RAW + b"\0")),
    "nothing": ("0 bytes", "v1:fra1:"),
    "another tag": ("changed", envelope(RAW[:-1] + bytes((RAW[-1] ^ 1,)))),
    "another nonce": ("changed", envelope(bytes((RAW[0] ^ 1,)) + RAW[1:])),
}


@pytest.mark.parametrize(("why", "text"), BAD.values(), ids=BAD.keys())
def test_what_is_no_envelope_of_the_row_does_not_open(why: str, text: str) -> None:
    with pytest.raises(PskSealed, match=why) as caught:
        open_envelope(text, ROW, KEYS)
    assert GOOD[-20:] not in str(caught.value)


def test_the_envelope_of_another_row_does_not_open() -> None:
    with pytest.raises(PskSealed, match="another row"):
        open_envelope(GOOD, OTHER, KEYS)


def test_a_key_comes_from_a_file_or_from_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_bytes(base64.b64encode(KEY) + b"\n")
    file.chmod(0o600)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "psk-ams2").write_bytes(base64.b64encode(PSK))
    assert read_keys({"fra1": file, "ams2": tmp_path / "gone"}) == {"fra1": KEY, "ams2": PSK}


def test_every_file_that_is_no_key_is_told_and_none_of_its_text(tmp_path: Path) -> None:
    texts = {"short": base64.b64encode(KEY[:31]), "junk": b"!" * 44, "open": base64.b64encode(KEY), "BAD": b""}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    files = {name: tmp_path / name for name in (*texts, "gone")}
    with pytest.raises(ConfigError) as caught:
        read_keys(files)
    told = {fault.key.rpartition(".")[2]: fault.why for fault in caught.value.faults}
    assert told.keys() == files.keys()
    assert told["short"] == "has 31 bytes, not 32"
    assert told["junk"] == "is not base64"
    assert "0644" in told["open"]
    assert "No such file" in told["gone"]
    assert not any(text.decode() in str(caught.value) for text in texts.values() if text)


def test_sealing_refuses_a_key_of_another_length() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal(KEY, "fra1", ROW, os.urandom(31))
