"""`wgsyncd usage` prints the usage of devices for people and for machines, on a node in memory."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fakereports import FakeReports
from tests.node import CONFIG
from tests.samples import NOW, TOKYO
from tests.tables import FakeDatabase
from tests.terminal import on_a_terminal
from wgsyncd.cli import main, wiring
from wgsyncd.core.inspect.periods import Perspective
from wgsyncd.core.model import Counters
from wgsyncd.stores.mikyun.settings import mikyun

GiB = 2**30
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def db() -> FakeDatabase:
    """Returns a database with two contracts, three devices and one device that is gone."""
    made = FakeDatabase()
    for number, contract in ((5, "0001"), (6, "0001"), (7, "M010")):
        made.insert(number, device_id=f"{contract}-DEV-{number:03}", contract_id=contract)
    made.begun["r640"] = datetime(2026, 8, 10, 12, tzinfo=TOKYO).timestamp()
    five, six = "0001-DEV-005", "0001-DEV-006"
    made.days = {
        (five, "2026-09-21"): Counters(GiB, 2 * GiB), (six, "2026-09-20"): Counters(1, 2),
        ("M010-DEV-007", "2026-09-21"): Counters(5, 5), (five, "2026-08-01"): Counters(100, 200),
        ("M020-DEV-099", "2026-09-19"): Counters(3000, 0),
    }  # fmt: skip
    bucket = int(NOW // 900) * 900
    made.buckets = {(five, bucket): Counters(10, 20), (five, bucket - 3600): Counters(1, 2),
                    (six, bucket): Counters(7, 7)}  # fmt: skip
    return made


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "wgsyncd.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def run(db: FakeDatabase, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(wiring, "open_reports", lambda one: FakeReports(db, Perspective(mikyun(one).perspective)))
    monkeypatch.setattr(time, "time", lambda: NOW)

    def command(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main.main(["usage", "--config", str(config), *args])
        said = capsys.readouterr()
        return status, said.out + said.err

    return command


def data(run: Run, *args: str) -> dict[str, Any]:
    status, said = run(*args, "--json")
    assert status == 0, said
    found: dict[str, Any] = json.loads(said)
    return found


def test_all_by_day_as_a_table(run: Run) -> None:
    status, said = run("--since", "2026-09-19")
    assert status == 0
    assert said.splitlines() == [
        "all devices, by day, 2026-09-19 to 2026-09-21 Asia/Tokyo",
        "day               rx        tx     total",
        "2026-09-19  2.93 KiB       0 B  2.93 KiB",
        "2026-09-20       1 B       2 B       3 B",
        "2026-09-21  1.00 GiB  2.00 GiB  3.00 GiB",
        "total       1.00 GiB  2.00 GiB  3.00 GiB",
        "rx: received by the server; tx: sent by the server",
    ]
    assert not run()[1].splitlines()[2].endswith(" 0 B"), "it begins with the first byte, unless --since says more"


def test_one_device_for_machines(run: Run) -> None:
    found = data(run, "0001-dev-005", "--since", "2026-09-20")
    assert found == {
        "of": {"kind": "device", "device": "0001-DEV-005", "name": "", "owner": "0001"},
        "by": "day", "since": "2026-09-20", "until": "2026-09-21", "zone": "Asia/Tokyo", "perspective": "server",
        "notes": [], "bandwidth": None, "owner_word": "owner",
        "total": {"rx_bytes": GiB, "tx_bytes": 2 * GiB, "total_bytes": 3 * GiB},
        "periods": [
            {"period": "2026-09-20", "rx_bytes": 0, "tx_bytes": 0, "total_bytes": 0},
            {"period": "2026-09-21", "rx_bytes": GiB, "tx_bytes": 2 * GiB, "total_bytes": 3 * GiB},
        ],
    }  # fmt: skip
    assert data(run, "5", "--since", "2026-09-20") == found, "by its row"


def test_a_device_that_is_gone_still_has_its_history(run: Run) -> None:
    found = data(run, "m020-dev-099", "--since", "2026-09-19")
    assert found["of"] == {"kind": "device", "device": "M020-DEV-099", "name": "", "owner": "(gone)"}
    assert found["total"]["rx_bytes"] == 3000
    assert "alike: M020-DEV-099" in run("M020-DEV-99")[1]


def test_an_owner_is_the_owners_devices(run: Run) -> None:
    found = data(run, "0001", "--by", "month")
    assert found["of"] == {"kind": "owner", "device": None, "name": "", "owner": "0001"}
    assert len(found["periods"]) == 12
    assert found["periods"][-1] == {"period": "2026-09", "rx_bytes": GiB + 1, "tx_bytes": 2 * GiB + 2,
                                    "total_bytes": 3 * GiB + 3}  # fmt: skip
    assert found["periods"][-2]["rx_bytes"] == 100
    assert found["total"]["rx_bytes"] == GiB + 101


def test_hours_and_how_far_they_reach(run: Run) -> None:
    found = data(run, "0001", "--by", "hour", "--since", "2026-09-01")
    assert [(one["period"], one["rx_bytes"]) for one in found["periods"]] == [
        ("2026-09-21T22:00+09:00", 1), ("2026-09-21T23:00+09:00", 17),
    ]  # fmt: skip
    assert found["notes"] == ["hours are kept from 2026-09-21 22:00 on, and --by day reaches further back"]
    assert (found["since"], found["until"]) == ("2026-09-01T00:00+09:00", "2026-09-22T00:00+09:00")


def test_what_was_there_before_the_books_is_said(run: Run, db: FakeDatabase) -> None:
    said = run("--since", "2026-07-01")[1].splitlines()
    assert said[-2:] == ["the first day with any bytes is 2026-08-01",
                         "2026-08-01 holds the totals from before 2026-08-10 12:00, when r640 began to account"]  # fmt: skip
    db.begun["r640"] = datetime(2026, 7, 10, 12, tzinfo=TOKYO).timestamp()
    assert run("--since", "2026-07-01")[1].splitlines()[-1] == said[-2], "a day without bytes holds nothing"
    db.days = {}
    assert run("--since", "2026-07-01")[1].splitlines()[-1] == "no day has any bytes"


def test_columns_of_the_devices_own_view(run: Run, config: Path) -> None:
    config.write_text(CONFIG + 'perspective = "device"\n')
    found = data(run, "0001-DEV-005")
    assert (found["perspective"], found["total"]["rx_bytes"]) == ("device", 2 * GiB)
    assert data(run, "--top", "1")["ranking"][0]["rx_bytes"] == 2 * GiB
    assert run()[1].splitlines()[-1] == "rx: received by the devices; tx: sent by the devices"


def test_who_moved_most(run: Run) -> None:
    found = data(run, "--top", "3")
    assert found["of"] == {"kind": "devices", "count": 4}
    assert [(one["device"], one["owner"], one["total_bytes"]) for one in found["ranking"]] == [
        ("0001-DEV-005", "0001", 3 * GiB), ("M020-DEV-099", "(gone)", 3000), ("M010-DEV-007", "M010", 10),
    ]  # fmt: skip
    assert found["total"]["total_bytes"] == 3 * GiB + 3013, "of all, not of those shown"
    found = data(run, "--top", "9", "--by-owner", "--by", "hour")
    assert [(one["owner"], one["total_bytes"]) for one in found["ranking"]] == [("0001", 47)]
    assert run("--top", "1")[1].splitlines() == [
        "1 of 4 devices with traffic, by day, 2026-08-23 to 2026-09-21 Asia/Tokyo",
        "device        owner        rx        tx     total",
        "0001-DEV-005  0001   1.00 GiB  2.00 GiB  3.00 GiB",
        "all 4                1.00 GiB  2.00 GiB  3.00 GiB",
        "rx: received by the server; tx: sent by the server",
    ]


def test_csv(run: Run, db: FakeDatabase) -> None:
    rows = list(csv.DictReader(io.StringIO(run("--csv", "--since", "2026-09-21")[1])))
    assert rows == [{"period": "2026-09-21", "rx_bytes": str(GiB + 5), "tx_bytes": str(2 * GiB + 5),
                     "total_bytes": str(3 * GiB + 10)}]  # fmt: skip
    db.days["=2+3", "2026-09-21"] = Counters(9 * GiB, 0)  # a spreadsheet would take it for a formula
    assert re.findall("^[^,]+", run("--csv", "--top", "2")[1], re.M) == ["device", "'=2+3", "0001-DEV-005"]


# -- pictures

SVG = "{http://www.w3.org/2000/svg}"


def drawn(run: Run, file: Path) -> ET.Element:
    """Returns the root of the picture that the command has written."""
    assert run("--svg", str(file)) == (0, f"{file}: written\n")
    return ET.parse(file).getroot()  # noqa: S314 - our own


def test_svg(run: Run, tmp_path: Path) -> None:
    root = drawn(run, tmp_path / "usage.svg")
    words = [one.text for one in root.iter(f"{SVG}text")]
    assert "all devices, by day, 2026-08-23 to 2026-09-21 Asia/Tokyo" in words
    assert {"0 B", "1.00 GiB", "2026-08-23", "rx: received by the server", "tx: sent by the server"} <= set(words)
    bars = {hint.text: float(bar[1].attrib["height"])
            for bar in root.iter(f"{SVG}g") if bar.get("class") == "bar" and (hint := bar.find(f"{SVG}title")) is not None}  # fmt: skip
    assert len(bars) == 2 * 30
    received, sent = bars[f"2026-09-21: rx {GiB + 5} B"], bars[f"2026-09-21: tx {2 * GiB + 5} B"]
    assert received > 40
    assert sent == pytest.approx(2 * received, rel=1e-6)
    assert bars["2026-09-02: rx 0 B"] == 0


def test_svg_has_dark_colours_for_dark_viewers(run: Run, tmp_path: Path) -> None:
    style = drawn(run, tmp_path / "usage.svg").find(f"{SVG}defs/{SVG}style")
    assert style is not None
    light, _, dark = (style.text or "").partition("@media (prefers-color-scheme:dark){")
    for part in (".plot > .background", ".title", ".legends .legend text", ".axis text.major", ".axis .line"):
        assert f"#chart-usage {part}" in light
        assert f"#chart-usage {part}" in dark


def test_svg_runs_nothing_loads_nothing_and_is_the_same_again(run: Run, tmp_path: Path) -> None:
    """pygal itself would embed its configuration, a script from its own site, and today's date."""
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    assert not [one for one in drawn(run, first).iter() if one.tag.endswith("script")]
    assert re.findall(r"https?:[^\"']*", first.read_text()) == ["http://www.w3.org/2000/svg"]
    assert "<!--" not in first.read_text()
    drawn(run, second)
    assert first.read_bytes() == second.read_bytes()


def test_svg_leaves_no_finder_that_python_warns_about(run: Run, tmp_path: Path) -> None:
    drawn(run, tmp_path / "usage.svg")
    assert [finder for finder in sys.meta_path if not hasattr(finder, "find_spec")] == []
    with pytest.raises(ImportError):  # a module that nobody has: every finder is asked, and warnings are errors
        importlib.import_module("wgsyncd.no_such_module")


def test_svg_without_pygal_says_what_is_missing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygal", None)
    status, said = run("--svg", str(tmp_path / "usage.svg"))
    assert status == 1
    assert "--svg needs pygal: " in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.glob("*.svg"))


def test_nothing_to_draw_is_a_picture_too(run: Run, db: FakeDatabase, tmp_path: Path) -> None:
    db.days.clear()
    assert run("--svg", str(tmp_path / "x.svg"))[0] == 0
    assert run("--svg", str(tmp_path / "no" / "x.svg"))[1].endswith(f"no directory {tmp_path / 'no'}\n")


# -- mistakes of an admin


def test_a_name_that_is_not_there(run: Run) -> None:
    status, said = run("DEV-006")
    assert status == 1
    assert re.fullmatch("wgsyncd: no device or owner is called 'DEV-006'; alike: 0001-DEV-006, .*\n", said)


@pytest.mark.parametrize(
    "args",
    [("--since", "yesterday"), ("--since", "2026-09-21", "--until", "2026-09-01"), ("--by-owner",), ("--top", "0"),
     ("--top", "3", "0001"), ("--json", "--csv"), ("--by", "week"), ("--since", "2027-01-01")],
)  # fmt: skip
def test_bad_usage(run: Run, args: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*args)
    assert ended.value.code == 2


# -- on a terminal


def test_a_terminal_shows_bars(run: Run, config: Path, db: FakeDatabase) -> None:
    said = on_a_terminal(lambda: run("--since", "2026-09-19"))
    assert said.splitlines()[4].startswith("2026-09-21  1.00 GiB  2.00 GiB  3.00 GiB  \x1b[36m█")
    assert "\x1b[35m█" in said
    assert said.splitlines()[3].endswith(("\x1b[36m▏\x1b[0m", "\x1b[35m▏\x1b[0m")), "a few bytes are seen"
    plain = on_a_terminal(lambda: run("--since", "2026-09-19"), NO_COLOR="1")
    assert "\x1b[3" not in plain and "█" in plain
    assert "\x1b" not in on_a_terminal(lambda: run("--json"))


def test_what_a_row_holds_does_not_reach_the_terminal(run: Run, db: FakeDatabase) -> None:
    name = "\x1b[31m[bold]:smile:" + "A" * 43 + "="
    db.update(5, device_id=name)
    db.days = {(name if device == "0001-DEV-005" else device, day): sums for (device, day), sums in db.days.items()}
    said = on_a_terminal(lambda: run("--top", "1"))
    assert "\\x1b[31m[bold]:smile:AAAAAAAA…" in said and "A" * 43 not in said


def test_long_work_is_seen_at_a_terminal_and_only_there(
    run: Run, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["usage", "--config", str(config), "--svg", str(tmp_path / "a.svg"), "--since", "2026-01-01"]
    said = on_a_terminal(lambda: main.main(argv), stream="stderr")
    assert "reading months" in said and "drawing 264 bars" in said
    assert main.main(argv) == 0
    assert capsys.readouterr().err == ""
