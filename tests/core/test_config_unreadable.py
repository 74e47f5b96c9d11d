"""Every file that cannot be read as a configuration is refused with its line, and nothing ends a process."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from wgsyncd.config import load
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
