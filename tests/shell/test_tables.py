"""Nothing that a command prints is wider than its terminal, and a pipe gets every word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.asked_daemon import Work
from tests.fakereports import FakeReports
from tests.node import Node
from tests.shell.conftest import Run
from tests.terminal import on_a_terminal
from wgsyncd.cli import main, output, wiring
from wgsyncd.cli.output import Line
from wgsyncd.cli.table import Column, fit, short_bytes, spark, with_bars
from wgsyncd.core.words import short_age

LONG = "0001-DEV-" + "x" * 50
COMMANDS = {
    "status": ["status"],
    "plan": ["plan"],
    "devices": ["devices", "--all"],
    "explain": ["explain", "0001-DEV-005"],
    "usage --by hour": ["usage", "--by", "hour"],
    "usage --top": ["usage", "--top", "9"],
    "quarantine": ["quarantine"],
    "verify": ["verify"],
    "adopt": ["adopt"],
}


@pytest.fixture
def crowd(node: Node, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Yields a node with every kind of trouble, long names and wide characters."""
    node.device(8, device_id=LONG)
    node.device(9, device_id="端末-太郎のスマートフォン-とても長い名前の端末")
    node.device(10, device_id="evil\x1b[31m[bold]\r\nname")
    node.cycle()
    for number in (5, 8, 9, 10):
        node.traffic(number, 3 << 30, 5 << 20)
    node.cycle()
    node.db.update(5, preshared_key="junk")
    node.db.update(6, status="paused")
    node.db.update(8, status="paused")
    node.db.update(9, wg_ip="10.200.0.99")
    node.cycle()
    monkeypatch.setattr(wiring, "open_reports", lambda _: FakeReports(node.db))
    node.db.update(9, wg_ip="10.200.0.98")
    node.db.update(10, status="paused")
    return node


@pytest.mark.parametrize("columns", [80, 60, 160])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_is_wider_than_the_terminal(crowd: Node, work: Work, config: Path, name: str, columns: int) -> None:
    argv = COMMANDS[name]
    said = on_a_terminal(lambda: main.main([argv[0], "--config", str(config), *argv[1:]]), columns=columns)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert plain
    wide = [line for line in plain.splitlines() if cell_len(line) > columns and not line.startswith("  ")]
    assert wide == [], "only a command that is to be copied may be"
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", plain)


def test_a_pipe_gets_every_word(crowd: Node, work: Work, run: Run) -> None:
    lines = "\n".join(run("devices", "--all")[1])
    assert LONG in lines
    assert "…" not in lines
    assert r"evil\x1b[31m[bold]\r\nname" in lines


def plain(table: Sequence[Sequence[Line]]) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in table]


COLUMNS = (Column("a"), Column("b", rank=1, right=True), Column("c", rank=2), Column("d", most=4))
ROW = [("x", ""), ("12", ""), ("y", ""), ("abcdefgh", "")]


@pytest.mark.parametrize(
    ("width", "head", "line"),
    [
        (99, "a   b  c  d", "x  12  y  abcdefgh"),
        (15, "a   b  c  d", "x  12  y  abc…"),
        (12, "a   b  d", "x  12  abc…"),
        (7, "a  d", "x  abc…"),
        (5, "a  d", "x  a…"),
        (1, "a  d", "x  …"),
    ],
)
def test_columns_go_by_rank(width: int, head: str, line: str) -> None:
    assert plain(fit(COLUMNS, [ROW], width)) == [head, line]


def test_a_column_without_news_is_left_out() -> None:
    assert plain(fit(COLUMNS, [[("x", ""), ("", ""), ("", ""), ("y", "")]], 80)) == ["a  d", "x  y"]
    assert plain(fit(COLUMNS, [], 80)) == ["a  b  c  d"]


def test_wide_characters_have_two_cells() -> None:
    table = plain(fit((Column("a", most=5), Column("b")), [[("端末端末", ""), ("x", "")], [("abc", ""), ("y", "")]], 8))
    assert [cell_len(line) for line in table] == [8, 8, 8]
    assert table[1] == "端末…  x"


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "0.98 KiB"), (1536, "1.50 KiB"), (310 << 10, "310 KiB"),
     (1023 << 10, "1.00 MiB"), (99.9 * 2**20, "99.9 MiB"), (2**63, "8.00 EiB"), (2**75, "32768 EiB")],
)  # fmt: skip
def test_bytes_have_three_digits(number: float | None, text: str) -> None:
    assert short_bytes(number) == text


def test_ages_and_bars() -> None:
    ages = (None, 0, 59, 60, 3599, 3600, 86400 * 400)
    assert [short_age(one) for one in ages] == ["never", "0 s", "59 s", "1 min", "59 min", "1 h", "400 d"]
    assert spark([0, 1, 50, 100]) == " ▁▄█"
    assert (spark([]), spark([0, 0])) == ("", "")


def test_a_cut_name_stays_in_its_column_where_only_ascii_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wgsyncd.cli.table.can_draw", str.isascii)
    lines = fit([Column("device", most=5), Column("a")], [[("0001-DEV-001", ""), ("b", "")]], 9)
    assert ["".join(text for text, _ in line) for line in lines] == ["devi~  a", "0001~  b"]


def test_a_bar_ends_in_an_eighth_of_a_cell() -> None:
    head, foot = [("day", "head")], [("total", "head")]
    lines = with_bars([head, *[[("1", "")]] * 4, foot], [(80, 80), (5, 85), (11, 0), (0, 0)], 17)
    bars = [(str(line[-2][0]), str(line[-1][0])) for line in lines[1:-1]]
    assert bars == [("█████", "█████"), ("█", "████▋"), ("▊", ""), ("", "")]


def test_a_long_line_goes_on_below_its_last_column() -> None:
    long = [("row        " + "many words " * 9, ""), ("  " + "command " * 20, "head"), ("short", "fault")]
    lines = [one.plain for one in output.drawn(long, 60)]
    assert max(map(len, lines[:2])) <= 60
    assert lines[1].startswith(" " * 11 + "words") or lines[1].startswith(" " * 11 + "many")
    assert lines[-2] == ("  " + "command " * 20).rstrip(), "a command can be copied"
    assert "".join(lines[:-2]).split() == long[0][0].split()


@pytest.mark.parametrize(
    "command", [f"wgsyncd approve {'5' * 32}", "tcpdump -ni wg0 host 10.200.0.5", "tcpdump -ni any udp port 51820",
                "`ip -s -s link show wg0`", "10.77 MiB", "512 B",
                "systemctl enable --now wgsyncd"],
)  # fmt: skip
def test_a_command_in_a_sentence_stays_in_one_line(command: str) -> None:
    for more in range(1, 90):
        text = f"guard: {'many words ' * (more // 9)}{'x' * (more % 9 + 1)}, to allow them: {command}"
        lines = [one.plain for one in output.drawn([(text, "fault")], 70)]
        assert [line for line in lines if line.endswith(command)], lines
        assert all(len(line) <= 70 for line in lines)
