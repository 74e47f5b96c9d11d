"""`wgsyncd verify` and `wgsyncd quarantine` print the right lines and return the right exit status."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import Node
from tests.samples import key
from tests.shell.conftest import Run
from tests.terminal import on_a_terminal
from wgsyncd.cli import main, wiring
from wgsyncd.cli.commands import quarantine
from wgsyncd.core.model import encode_key
from wgsyncd.daemon import lock


@pytest.fixture
def at_work(node: Node) -> Node:
    """Returns a node whose bytes were posted days after accounting started."""
    node.tick(3 * 86400)
    node.account()
    for number in (5, 6):
        node.traffic(number, 3000, 30)
    node.account()
    node.account()
    return node


@pytest.fixture
def daemon(config: Path) -> Iterator[None]:
    """Holds the lock, as a running daemon does."""
    held = lock.acquire(lock.path())
    yield
    os.close(held)


def test_verify_says_that_everything_adds_up(at_work: Node, run: Run) -> None:
    assert run("verify") == (0, ["everything adds up"])
    assert run("verify", "--json") == (0, ['{"findings": [], "notes": []}'])


def test_verify_says_what_does_not_with_both_numbers(at_work: Node, run: Run) -> None:
    at_work.db.update(5, rx_bytes_24h=7)
    at_work.db.update(6, rx_bytes_total=0)
    at_work.wg.traffic("wg0", key(7), tx=12)
    status, lines = run("verify")
    assert status == 1
    assert [line.split()[:2] for line in lines[:2]] == [["unposted", "0001-DEV-007"], ["figure", "0001-DEV-005"]]
    assert lines[0].endswith(": 12, baseline: 0: 12 bytes are not posted")
    assert lines[1].endswith("rx of 24 h: 7, its buckets: 3000 (-2993)")
    assert lines[2:] == ["2 findings", "note: rx in total is below rx of the month: 1 (0001-DEV-006)"]
    status, (text,) = run("verify", "--json")
    assert status == 1
    data = json.loads(text)
    assert data["findings"][1] == {"check": "figure", "device": "0001-DEV-005", "name": "",
                                   "what": "rx of 24 h: 7, its buckets: 3000 (-2993)",
                                   "numbers": {"rx of 24 h": 7, "its buckets": 3000}}  # fmt: skip
    assert [one["check"] for one in data["notes"]] == ["low"]
    assert encode_key(key(7)) not in text + "".join(lines)


def test_verify_waits_for_the_daemon_where_one_runs(
    at_work: Node, daemon: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that the daemon is about to post are no discrepancy.

    A difference that the daemon leaves for too long is one.
    """
    at_work.traffic(5, 12)
    waits: list[float] = []

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            at_work.account()

    monkeypatch.setattr(time, "sleep", pause)
    assert run("verify") == (0, ["everything adds up"])
    assert len(waits) == 3
    at_work.db.update(5, rx_bytes_24h=7)
    assert run("verify")[0] == 1
    assert len(waits) == 3 + 85, "a reconcile and an account, and ten seconds"


def test_verify_of_books_that_were_never_begun(config: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "open_agent", lambda _: Node().agent)
    assert run("verify")[0] == 1


# -- quarantine


@pytest.fixture
def held(at_work: Node) -> Node:
    for rx in (2**50, 2**51):
        at_work.traffic(5, rx, 15)
        at_work.account()
    at_work.cycle()
    return at_work


def test_an_empty_quarantine(at_work: Node, run: Run) -> None:
    assert run("quarantine") == (0, ["nothing in quarantine"])
    assert json.loads(run("quarantine", "--json")[1][0]) == {"quarantine": []}
    assert not any("quarantine" in line for line in run("status")[1])


def test_the_quarantine_is_listed(held: Node, run: Run) -> None:
    status, lines = run("quarantine")
    first = held.store.quarantine()[0].delta
    since, until = held.calendar.format_local(first.since), held.calendar.format_local(first.until)
    assert status == 0
    assert lines[0].split() == ["id", "device", "interface", "received", "sent", "from", "until", "rate"]
    assert lines[1].split() == [
        "1", "0001-DEV-005", "wg0", str(2**50), "15", *since.split(), *until.split(), "600", "Tbit/s"
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    data = json.loads(run("quarantine", "--json")[1][0])["quarantine"]
    assert [(one["id"], one["row"], one["rx"], one["rate"]) for one in data] == [
        (1, 5, 2**50, first.rate), (2, 5, 2**51, pytest.approx(2 * (first.rate or 0)))
    ]  # fmt: skip
    assert "quarantine: 2 deltas are not accounted" in run("status")[1]
    assert json.loads(run("status", "--json")[1][0])["quarantined"] == 2
    assert run("verify") == (0, ["everything adds up", "note: 2 deltas in quarantine, not posted"])


def test_release_and_drop(held: Node, run: Run) -> None:
    status, lines = run("quarantine", "release", "1")
    assert (status, lines[-1]) == (0, "1 released: posted")
    assert held.posted[5].rx == 2**50 + 3000
    status, lines = run("quarantine", "drop", "2")
    assert (status, lines[-1]) == (0, "1 dropped: not posted")
    assert held.posted[5].rx == 2**50 + 3000
    assert [one.action for one in held.db.logs[-2:]] == ["quarantine_released", "quarantine_dropped"]
    assert run("quarantine") == (0, ["nothing in quarantine"])
    assert run("verify")[0] == 0


@pytest.mark.parametrize("wrong", ["0001-DEV-005", "0", "-1"])
def test_an_id_that_is_none_is_told_in_plain_words(capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    with pytest.raises(SystemExit):
        main.main(["quarantine", "release", "--", wrong])
    assert f"argument ID: '{wrong}' is not a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("args", [("release", "9"), ("drop", "1", "9")])
def test_what_cannot_be_done_is_one_clear_line(
    held: Node, config: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
) -> None:
    assert main.main(["quarantine", "--config", str(config), *args]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("wgsyncd: ")
    assert "no delta 9 in quarantine" in line
    assert len(held.store.quarantine()) == 2


@pytest.mark.parametrize(
    ("args", "why"),
    [(("release",), "release needs an ID"), (("drop",), "drop needs an ID"), (("list", "1"), "list takes no ID")],
)
def test_an_id_too_few_or_too_many_is_bad_usage(
    held: Node, config: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], why: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["quarantine", "--config", str(config), *args])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("usage: wgsyncd quarantine ")
    assert said[-1] == f"wgsyncd quarantine: error: {why}"
    assert len(held.store.quarantine()) == 2


def test_a_rate_is_told_in_its_unit(node: Node, run: Run) -> None:
    assert [quarantine._rate(bits) for bits in (None, 0.5, 999, 25e9, 6.0048e14, 2.5e21)] == [
        "in no time", "0.5 bit/s", "999 bit/s", "25 Gbit/s", "600 Tbit/s", "2.5e+03 Ebit/s"
    ]  # fmt: skip


def test_verify_shows_at_a_terminal_that_it_is_at_work(at_work: Node, config: Path) -> None:
    said = on_a_terminal(lambda: main.main(["verify", "--config", str(config)]), stream="stderr")
    assert "comparing kernel, baselines, buckets, days and columns" in said
