"""Each command of ours that is proposed has --config if the configuration file in use is not the default one."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from wgsyncd import log
from wgsyncd.cli import main, output
from wgsyncd.cli.commands.check_config import CheckConfigReport
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.inspect.finding import fault
from wgsyncd.daemon import html
from wgsyncd.daemon.admin_report import ErrorReport, as_json
from wgsyncd.daemon.systemd import Notifier
from wgsyncd.redact import DEFAULT_CONFIG, WITH_CONFIG, redact, using, with_config
from wgsyncd.stores.mikyun.messages import AuditMessages

OTHER = Path('/etc/the "other" one\'s.toml')
FILE = shlex.quote(str(OTHER))
SAID = "the tables are missing: wgsyncd init-db --socket /run/x"


def test_the_commands_are_those_that_have_the_option() -> None:
    known = main.parser().commands
    assert set(WITH_CONFIG) == {name for name, one in known.items() if "--config" in one.format_help()} - {"run"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("See wgsyncd plan. Meant? wgsyncd approve 7f", "See wgsyncd plan --config {}. Meant? wgsyncd approve --config {} 7f"),
        ("元に戻す方法は wgsyncd plan が示します", "元に戻す方法は wgsyncd plan --config {} が示します"),
        ("run `wgsyncd verify`", "run `wgsyncd verify --config {}`"),
        ("sudo wgsyncd doctor", "sudo wgsyncd doctor --config {}"),
        ("editor /etc/wgsyncd/wgsyncd.toml && wgsyncd reload", "editor {} && wgsyncd reload"),
        ("wgsyncd check-config --config /x && systemctl start wgsyncd", None),
        ("wgsyncd sync && wgsyncd psk", None),  # they ask the daemon, or need no file
        ("wgsyncd explains, wgsyncd plans: man wgsyncd-install, /etc/wgsyncd/wgsyncd.toml", None),
    ],
)  # fmt: skip
def test_a_command_gets_the_file(text: str, expected: str | None) -> None:
    with using(OTHER):
        assert with_config(text) == (text if expected is None else expected.replace("{}", FILE))
        assert with_config(with_config(text)) == with_config(text), "it is added once"


@pytest.mark.parametrize("file", [None, DEFAULT_CONFIG, Path("/etc/wgsyncd/../wgsyncd/wgsyncd.toml")])
def test_with_the_default_file_a_command_stays_as_it_is(file: Path | None) -> None:
    with using(OTHER), using(file):
        assert redact(SAID) == SAID


def test_a_relative_name_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with using(Path("other.toml")):
        assert with_config("wgsyncd plan") == f"wgsyncd plan --config {tmp_path}/other.toml"


def test_every_output_has_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = f"wgsyncd init-db --config {FILE} --socket"
    report = CheckConfigReport(config="x", faults=[], database=[fault("tables", "are missing", SAID)])
    said: list[str] = []
    monkeypatch.setattr(Notifier, "_send", lambda _, *lines: said.extend(lines))
    stream = io.StringIO()
    event = AuditEvent(AuditAction.GUARD_TRIPPED, "wg0", AuditFacts(count=3, plan="7f"))
    with using(OTHER):
        output.print_lines([(SAID, "fault")])
        assert wanted in capsys.readouterr().out
        output.print_json(report)
        assert wanted in json.loads(capsys.readouterr().out)["database"][0]["fix"]
        assert wanted in json.loads(as_json(ErrorReport(error=SAID, key=None)))["error"]
        assert wanted in (html.tag("code", SAID).text or "")
        Notifier().status(SAID)
        log.configure("info", "logfmt", stream)
        try:
            log.get("test").info("trouble", todo=SAID)
        finally:
            log.configure("warning", "sentence")
        (entry,) = AuditMessages("en", ZoneInfo("UTC")).entries([event])
    assert wanted in said[0]
    assert "wgsyncd init-db --config" in stream.getvalue()
    assert f"wgsyncd approve --config {FILE} 7f" in entry.message


def test_a_command_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way: an error of a command that runs with another file."""
    file = tmp_path / "other.toml"
    file.write_text('[interfaces.wg0]\nnetworks = ["10.200.0.0/24"]\n[mikyun.database]\nport = 1\nhost = "127.0.0.1"\n')
    assert main.main(["usage", "--config", str(file)]) == 1
    assert f"sudo wgsyncd doctor --config {file}" in capsys.readouterr().err
    assert redact("wgsyncd plan") == "wgsyncd plan", "the next command has the default file"
