"""A log line is one line in every format, shows no secret, and goes to the right place."""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsyncd import log
from wgsyncd.errors import WgsyncdError
from wgsyncd.redact import redact

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
FORMATS = ["console", "logfmt", "json"]


@pytest.fixture(autouse=True)
def _afterwards() -> Iterator[None]:
    yield
    log.configure()


def written(format: str, level: str = "debug") -> io.StringIO:  # noqa: A002
    stream = io.StringIO()
    log.configure(level, format, stream)  # type: ignore[arg-type]
    return stream


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        f"key={KEY}",
        f"peer/{KEY}/",
        f"x{KEY}",
        KEY.replace("=", "%3D"),
        base64.urlsafe_b64encode(bytes(range(200, 232))).decode(),
        base64.b64decode(KEY).hex(),
        base64.b64decode(KEY).hex().upper(),
        "preshared_key=" + bytes(32).hex(),
        repr({"psk": KEY}),
        repr(base64.b64decode(KEY)),
    ],
)
def test_what_looks_like_a_key_is_cut(text: str) -> None:
    short = redact(text)
    assert "…" in short
    assert text not in short
    assert len(short) <= len(text) - 30


@given(st.binary(min_size=32, max_size=32), st.text(max_size=20), st.text(max_size=20))
def test_no_key_survives_whatever_stands_around_it(key: bytes, before: str, after: str) -> None:
    for form in (base64.b64encode(key).decode(), key.hex()):
        assert form[9:] not in redact(before + form + after)


@pytest.mark.parametrize(
    "text",
    [
        "10.200.0.5/32 on wg0, device MK-0001",
        "/var/lib/wgsyncd/some/rather/long/path/that/is/no/key/at/all.toml",
        "xTIBA5rb…",
        "0f343b0931126a20f133d67c2b018a3b:6",  # an epoch: boot id and interface index
        "端末「山田」🎉",
    ],
)
def test_other_texts_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("format", FORMATS)
def test_no_key_in_any_value(format: str) -> None:  # noqa: A002
    stream = written(format)
    raw = base64.b64decode(KEY)
    try:
        raise KeyError(KEY)
    except KeyError:
        log.get("t").exception(f"event {KEY}", a=KEY, b=[KEY], c={KEY: (KEY,)}, d=raw, e={raw}, f=WgsyncdError(KEY))
    text = stream.getvalue()
    assert "xTIBA5rb" in text
    assert KEY[10:] not in text
    assert repr(raw)[10:30] not in text


@pytest.mark.parametrize("format", FORMATS)
def test_one_event_is_one_line(format: str) -> None:  # noqa: A002
    stream = written(format)
    nasty = 'a\nb\r\x00\x1b[31m\u2028\x85\ud800 c="d" 🎉'
    log.get("t").info(nasty, value=nasty, many=[nasty], error=ValueError(nasty))
    lines = stream.getvalue().splitlines()  # `splitlines` also splits at U+2028 and U+0085
    assert len(lines) == 1
    assert "🎉" in lines[0] or "\\ud83c\\udf89" in lines[0]
    lines[0].encode()  # the line has no lone surrogate
    assert "\x1b[31m" not in lines[0]
    if format == "json":
        assert json.loads(lines[0])["value"] == nasty


def test_logfmt_line_reads_well() -> None:
    stream = written("logfmt")
    log.get("agent").info("peers changed", interface="wg0", added=3, guard=False)
    stamp, rest = stream.getvalue().rstrip("\n").split(" ", 1)
    assert stamp.startswith("timestamp=20")
    assert stamp.endswith("Z")
    assert rest == 'level=info event="peers changed" interface=wg0 added=3 guard=false logger=agent'


def test_level_changes_loggers_that_exist() -> None:
    stream = written("logfmt", "warning")
    logger = log.get("t")
    logger.info("unheard")
    log.configure("info", "logfmt", stream)
    logger.info("heard")
    assert "unheard" not in stream.getvalue()
    assert "heard" in stream.getvalue()


def test_a_bug_has_a_trace_and_known_trouble_has_none() -> None:
    stream = written("json")
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise WgsyncdError("cannot write") from error
    except WgsyncdError as error:
        log.get("t").error("known", exc_info=error)
    try:
        {}["absent"]  # type: ignore[index]
    except KeyError:
        log.get("t").warning("tolerated", exc_info=True)
        log.get("t").error("bug", exc_info=True)
    known, tolerated, bug = map(json.loads, stream.getvalue().splitlines())
    assert known["error"] == "WgsyncdError: cannot write <- OSError: [Errno 28] No space left on device"
    assert "trace" not in known
    assert "trace" not in tolerated
    assert bug["trace"][0].startswith("test_log.py:")


def test_libraries_are_heard_from_warning_up_once() -> None:
    stream = written("logfmt")
    log.configure("debug", "logfmt", stream)  # the second call is a reload
    logging.getLogger("apscheduler.scheduler").info("chatter")
    logging.getLogger("apscheduler.scheduler").warning("missed by %s", "1 s")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith('level=warning event="missed by 1 s" logger=apscheduler.scheduler')


def test_a_library_that_formats_wrongly_is_heard_all_the_same() -> None:
    stream = written("logfmt")
    record = logging.LogRecord("pyroute2", logging.ERROR, "file.py", 1, "%d", ("not a number",), None)
    for handler in logging.getLogger().handlers:
        if type(handler).__module__ == log.__name__:
            handler.emit(record)
    assert "level=error event=%d logger=pyroute2" in stream.getvalue()


class Full(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    log.configure("info", "logfmt", Full())
    log.get("t").info("lost")


def run(code: str, **environ: str) -> tuple[list[str], os.stat_result]:
    """Runs a program whose standard error is a file, and returns the file's lines and status.

    With `journal` the file pretends to be the journal.
    """
    path = Path(environ.pop("to"))
    with path.open("w") as stream:
        stat = os.fstat(stream.fileno())
        journal = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"} if environ.pop("journal", "") else {}
        subprocess.run(
            [sys.executable, "-c", code], stderr=stream, check=True, env={**os.environ, **journal, **environ}
        )
    return path.read_text().splitlines(), stat


CODE = """
import logging
from wgsyncd import log
log.configure("debug")
one = log.get("t")
one.debug("d"); one.info("i"); one.warning("w"); one.error("e"); one.critical("c"); logging.getLogger("lib").error("l")
"""


def test_priorities_and_no_time_under_the_journal(tmp_path: Path) -> None:
    lines, _ = run(CODE, to=str(tmp_path / "log"), journal="1")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<2>", "<3>"]
    assert lines[1] == "<6>event=i logger=t"


def test_no_priorities_elsewhere(tmp_path: Path) -> None:
    lines, _ = run(CODE, to=str(tmp_path / "log"), JOURNAL_STREAM="8:12345")
    assert all(line.startswith("timestamp=") for line in lines)


def test_edge_says_each_change_once() -> None:
    changed = log.OnChange()
    assert [changed("db", state) for state in (None, "down", "down", None, "down")] == [False, True, False, True, True]
    assert changed("other", "down")


def test_trouble_that_lasts_is_told_of_every_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("wgsyncd.log.time.monotonic", lambda: now)
    changed = log.OnChange()
    changed("db", None)
    told: list[tuple[float, str]] = []
    for second in range(0, 10_000, 15):
        now = 1000.0 + second
        state = None if second < 60 or second > 9_000 else "down" if second < 5_000 else "denied"
        if changed("db", state):
            told.append((second, changed.lasting("db")))
    assert told == [(60, "0 s"), (3660, "1 h 0 min"), (5010, "1 h 22 min"), (8610, "2 h 22 min"), (9015, "2 h 29 min")]
    assert [changed("well", ""), changed("well", "")] == [True, False]


def test_random_keys_never_show() -> None:
    stream = written("logfmt")
    keys = [base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(200)]
    log.get("t").info("many", text=" ".join(keys), joined="".join(keys))
    assert not [key for key in keys if key[9:] in stream.getvalue()]
