"""Every file that cannot be read as a configuration is refused with its line, and nothing ends a process."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import pytest

from wgsyncd.config import load, secret_file
from wgsyncd.config.system_zone import system_zone
from wgsyncd.errors import ConfigError

GOOD = '[interfaces.wg0]\nnetworks = ["10.200.0.0/24"]\n'
CORPUS = {
    "an integer of 5,000 digits": (f"{GOOD}mtu = {'9' * 5000}\n", "line 3"),
    "brackets": (f"{GOOD}[peers]\nalways_keep = {'[' * 5000}\n", "line 4"),
    "tables in tables": (f"{GOOD}a = {'{b=' * 3000}1{'}' * 3000}\n", "line 3"),
    "a dotted key": (f"{GOOD}{'.'.join(['a'] * 5000)} = 1\n", "line 3"),
    "a table's dotted name": (f"{GOOD}[{'.'.join(['a'] * 5000)}]\nb = 1\n", "line 3"),
    "no TOML": (f"{GOOD}mtu\n", "line 3"),
    "an escape beyond Unicode": (f'{GOOD}[node]\nname = "\\UFFFFFFFF"\n', "line 4"),
    "a date that is none": (f"{GOOD}mtu = 2026-02-31\n", "line 3"),
    "a label of 64 characters": (f'{GOOD}[metrics]\nlisten = "{"a" * 64}.example:1"\n', "metrics.listen"),
    "an empty label": (f'{GOOD}[metrics]\nlisten = "..:9586"\n', "metrics.listen"),
    "a port of 5,000 digits": (f'{GOOD}[metrics]\nlisten = "localhost:{"1" * 5000}"\n', "metrics.listen"),
    "a prefix of 5,000 digits": (f'{GOOD}addresses = ["10.0.0.1/{"1" * 5000}"]\n', "interfaces.wg0.addresses"),
    "a network of 5,000 digits": (f'[interfaces.wg0]\nnetworks = ["10.0.0.0/{"1" * 5000}"]\n', "interfaces.wg0"),
    "more than a float holds": (f"{GOOD}[guard]\nalways_allowed = {'9' * 400}\n", "guard.always_allowed"),
    "no number": (f"{GOOD}[guard]\nmax_share = nan\n", "guard.max_share"),
    "an endless rate": (f'{GOOD}line_rate = "{"9" * 400}Gbit"\n', "interfaces.wg0.line_rate"),
    "an address of the web": (f'{GOOD}[metrics]\nlisten = "http://127.0.0.1:9586"\n', "metrics.listen"),
    "an array of tables": ('[[interfaces]]\nname = "wg0"\n', "is not a table: write [interfaces.wg0]"),
    "a name that the kernel counts up": ('[interfaces."wg%d"]\nnetworks = ["10.200.0.0/24"]\n', "without %"),
    "a name that turns the reading direction": ('[interfaces."w\u202eg"]\nnetworks = ["10.200.0.0/24"]\n', "printable"),
    "a name with a character without width": ('[interfaces."wg\u200b0"]\nnetworks = ["10.200.0.0/24"]\n', "printable"),
    "a network with a zone": ('[interfaces.wg0]\nnetworks = ["fe80::%1/64"]\n', "has a zone"),
    "a byte order mark within": (f"{GOOD}\ufeff[node]\n", "line 3"),
    "two of a key": (f"{GOOD}mtu = 1\nmtu = 2\n", "line 4"),
    "an inline table that goes on": (f"interfaces = {{ wg1 = {{ networks = [] }} }}\n{GOOD}", "line 2"),
    "a date for a number": (f"{GOOD}mtu = 2026-11-30\n", "interfaces.wg0.mtu"),
    "a time for a text": (f"{GOOD}[node]\nname = 00:00:15\n", "node.name"),
    "a list for a word": (f'control_plane = ["mikyun"]\n{GOOD}', "control_plane"),
    "a folder for a zone": (f'{GOOD}[node]\nzone = "Asia"\n', "node.zone"),
    "a long name in another script": ('[interfaces."東京東京東京"]\nnetworks = ["10.200.0.0/24"]\n', "15 bytes"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_what_cannot_be_read_is_refused_with_its_place(name: str) -> None:
    text, place = CORPUS[name]
    with pytest.raises(ConfigError) as refused:
        load.parse(text)
    assert any(place in str(one) for one in refused.value.faults), str(refused.value)[:300]


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert list(load.load(tmp_path / "a.toml").interfaces) == ["wg0"]


def test_lines_of_windows_are_lines() -> None:
    assert list(load.parse(GOOD.replace("\n", "\r\n")).interfaces) == ["wg0"]


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "loop", "without end", "very large"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """Nobody writes into the pipe, so a reader that opens it as a file waits for ever: a reload would end the daemon."""
    file = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(file))
    elif kind == "folder":
        file.mkdir()
    elif kind == "very large":
        with file.open("wb") as large:
            large.truncate(1 << 40)
    else:
        file.symlink_to("/dev/zero" if kind == "without end" else file)
    with pytest.raises(ConfigError, match=r"\(file\): cannot be read: "):
        load.load(file)
    with pytest.raises(ConfigError, match="cannot be read: "):
        secret_file.password("mikyun.database.password_file", file)
    (tmp_path / "etc").mkdir()
    file.rename(tmp_path / "etc/timezone")
    assert str(system_zone(tmp_path / "etc")) == "UTC"


def test_damaged_files_are_settings_or_faults() -> None:
    """Parts of the corpus and of the shipped file are exchanged, doubled and spoiled."""
    shipped = (Path(__file__).resolve().parents[2] / "etc" / "wgsyncd.toml").read_text(encoding="utf-8")
    texts = [shipped, *(text for text, _ in CORPUS.values() if len(text) < 2000)]
    chance = random.Random(16)
    for _ in range(300):
        text = chance.choice(texts)
        for _ in range(chance.randrange(1, 4)):
            at, other = chance.randrange(len(text)), chance.choice(texts)
            start = chance.randrange(len(other))
            middle = other[start : start + chance.randrange(40)] * chance.choice((1, 1, 2, 50))
            text = text[:at] + middle + text[at + chance.randrange(20) :]
            text = text or shipped
        try:
            load.parse(text)
        except ConfigError as error:
            assert error.faults
