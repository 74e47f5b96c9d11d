"""Whatever fails in a command, it prints one document or one clear line, and `doctor` loses no other finding."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from tests.node import Node
from wgsyncd.cli import client, main, wiring
from wgsyncd.cli.doctor import files, interfaces, policies, shaping, system
from wgsyncd.config import load
from wgsyncd.core.inspect.finding import warning
from wgsyncd.errors import FilterError, InDoubt, NotHolder, StoreError, StoreErrorCode, UserError, WireGuardError

ERRORS = [
    UserError("why"), StoreError("why", StoreErrorCode.UNREACHABLE), InDoubt("why"), NotHolder("why", lost=True),
    WireGuardError("wg0", "EBUSY", "why"), FilterError("EPERM", "why"), OSError(5, "Input/output error", "/a/file"),
    OSError("no number"), FileNotFoundError(2, "No such file"), ValueError("why"), KeyError("Uid"), TypeError("why"),
    RecursionError("why"), MemoryError(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"), AssertionError(),
]  # fmt: skip
NAMES = [f"{type(one).__name__} {number}" for number, one in enumerate(ERRORS)]
CHECKS: dict[str, tuple[Any, str]] = {
    "unit": (system, "show"), "daemon's pid": (client, "running_daemon"), "daemon": (client, "ask_daemon"),
    "the file": (load, "load"), "mode": (files, "configuration"), "files": (files, "check"), "user": (system, "who"),
    "copies": (system, "copied_secrets"), "database": (wiring, "check_store"), "interfaces": (interfaces, "check"),
    "WireGuard": (wiring, "open_wireguard"), "nft": (wiring, "open_nft"), "policies": (policies, "check"),
    "tc": (wiring, "open_tc"), "bandwidth": (shaping, "check"), "pair": (system, "pair"), "system": (system, "check"),
}  # fmt: skip


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


def document(config: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    capsys.readouterr()
    assert main.main(["doctor", "--json", "--config", str(config)]) in (0, 1)
    checks: list[dict[str, str]] = json.loads(capsys.readouterr().out)["checks"]
    return checks


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
@pytest.mark.parametrize("place", CHECKS)
def test_a_check_that_fails_is_a_finding_and_loses_no_other(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    monkeypatch.setattr(wiring, "check_store", lambda _: iter(()))  # There is no database here.
    before = {one["check"] for one in document(config, capsys)}
    monkeypatch.setattr(*CHECKS[place], raising(error))
    after = document(config, capsys)
    lost = before - {one["check"] for one in after}
    assert {"configuration", "disk", "wg0", "clock"} <= before
    assert len(lost & {"configuration", "disk", "wg0", "clock"}) <= (3 if place == "the file" else 1), lost
    assert "clock" not in lost or place == "system", "the last check is made all the same"
    told = [one for one in after if one["severity"] != "ok" and one["fix"] and ("why" in one["message"] or
            type(error).__name__ in one["message"] or (isinstance(error, OSError) and str(error.args[-1]) in one["message"])
            or "No such file" in one["message"] or "Input/output" in one["message"])]  # fmt: skip
    assert told, after


def test_findings_before_a_failure_stay(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(*_: object) -> Iterator[object]:
        yield warning("first", "stays", "do this")
        raise TypeError("PRIVATE")

    monkeypatch.setattr(wiring, "check_store", check)
    found = {one["check"]: one for one in document(config, capsys)}
    assert found["first"]["message"] == "stays"
    assert "TypeError in test_failing_checks.py:" in found["database"]["message"]
    assert "PRIVATE" not in found["database"]["message"], "the text of a bug may be a key"


def test_a_check_without_end_is_a_finding(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It swallows each error that a library may swallow."""

    def check(*_: object) -> Iterator[object]:
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)  # the 90 s of this check alone are over
        while True:
            try:
                signal.pause()
            except Exception:  # noqa: S112
                continue
        yield

    monkeypatch.setattr(wiring, "check_store", check)
    found = {one["check"]: one for one in document(config, capsys)}
    assert found["database"]["message"].endswith("it took longer than 90 s")
    assert "clock" in found


def test_an_odd_name_of_the_file_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / r"a \g<9> 'b'.toml"
    file.write_text("[interfaces.wg0]\nmtu = 5\n")
    assert any(r"a \g<9>" in one["fix"] for one in document(file, capsys))


JSON = ["status", "verify", "usage", "devices", "plan", "explain 5", "doctor", "adopt", "quarantine"]


@pytest.mark.parametrize("error", ERRORS, ids=NAMES)
@pytest.mark.parametrize("command", JSON)
def test_a_command_says_one_thing_whatever_happens(
    node: Node, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str,
    error: Exception,
) -> None:  # fmt: skip
    for module, name in ((wiring, "open_agent"), (wiring, "open_reports")):
        monkeypatch.setattr(module, name, raising(error))
    code = main.main([*command.split(), "--json", "--config", str(config)])
    out, err = capsys.readouterr()
    if out:
        json.loads(out)
    else:
        assert code
        assert err.startswith("wgsyncd: ")
        assert "None" not in err
    assert "Traceback" not in err


# -- the alarm


@pytest.fixture
def alarm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _work() -> str:
    values: list[int] = []
    try:
        for number in range(3):
            values.append(number)
    except Exception:
        return "swallowed"
    return "done"


def alarmed_at(step: int) -> tuple[str, bool]:
    """The result of :func:`client.within` with an alarm at a step of its code, and whether there was this step."""
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal seen
        if frame.f_code.co_name in ("within", "_work", "disarm"):
            frame.f_trace_opcodes = True
            seen += event == "opcode"
            if seen == step and event == "opcode" and any(signal.getitimer(signal.ITIMER_REAL)):
                seen += 1
                signal.raise_signal(signal.SIGALRM)
        return trace

    sys.settrace(trace)
    try:
        return client.within(60, UserError("late"), _work), seen >= step
    except UserError as error:
        return str(error), seen >= step
    finally:
        sys.settrace(None)


@pytest.mark.usefixtures("alarm")
def test_an_alarm_at_any_step_ends_in_the_error_or_the_result() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    step, results = 0, set()
    goes_on = True
    while goes_on:
        step += 1
        result, goes_on = alarmed_at(step)
        results.add(result)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0), step
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL, step
    assert step > 50
    assert results == {"late", "done"}


@pytest.mark.usefixtures("alarm")
def test_the_limit_of_the_whole_goes_on_after_the_limit_of_a_part() -> None:
    def whole() -> None:
        client.within(60, UserError("the part"), lambda: None)
        while True:
            signal.pause()

    with pytest.raises(UserError, match="the whole"):
        client.within(0.05, UserError("the whole"), whole)


def test_an_installation_that_is_not_whole_is_no_bug(tmp_path: Path) -> None:
    """An interrupted upgrade, or a full disk, left modules out."""
    shutil.copytree(Path(main.__file__).parents[1], tmp_path / "wgsyncd", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(tmp_path / "wgsyncd/engine")
    for command in ("status", "doctor"):
        argv = [sys.executable, "-P", "-m", "wgsyncd", command]
        done = subprocess.run(argv, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "not whole: the module wgsyncd.engine is missing" in done.stderr
        assert "dpkg --install" in done.stderr
