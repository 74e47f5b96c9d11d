"""An argument that is wrong by itself is refused before a command asks anybody. No command prints a line of the log."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wgsyncd import redact
from wgsyncd.cli import main

PLAN = "0" * 32
# Each line has arguments that are wrong, and a part of the answer.
WRONG = [
    ("approve abc", "'abc' is no id, which `wgsyncd plan` or `wgsyncd status` prints"),
    (f"approve {PLAN}0", "is no id"),
    ("approve 0123456789ABCDEF0123456789ABCDEF", "is no id"),
    ("sync ''", "'' is no device id"),
    ("sync 'two words'", "'two words' is no device id"),
    (f"sync {'D' * 65}", "is no device id"),
    ("explain ''", "an empty text names nothing"),
    ("explain D-1 --to 10.0.0.0/8", "is not one IPv4 or IPv6 address"),
    ("explain D-1 --to 10.1.2.3", "--to: the control plane mikyun has no policies"),
    ("usage ' '", "an empty text names nothing"),
    ("usage --by-owner", "--by-owner goes with --top"),
    ("usage --top 3 D-1", "--top ranks all devices or owners"),
    ("usage --since 2026-09-02 --until 2026-09-01", "2026-09-02 is after 2026-09-01"),
    ("usage --svg /proc/nowhere/a.svg", "cannot be written: there is no directory /proc/nowhere"),
    ("quarantine release", "release needs an ID"),
    ("quarantine list 7", "list takes no ID"),
    ("quarantine drop 0", "'0' is not a number above 0"),
    ("quarantine drop ٣", "is not a number above 0"),
    ("init-db --grants root", "root is not an account"),
    ("init-db --gateway tokyo", "--gateway is an option of nexavpn, and control_plane is mikyun"),
    ("init-db --drop-views", "--drop-views is an option of nexavpn, and control_plane is mikyun"),
    ("status --watch", "--watch draws on a terminal"),
    ("devices --watch", "--watch draws on a terminal"),
]
# Commands that ask the daemon, the kernel and the database, and what they need for it. The others ask nobody.
ASKING = [
    "adopt", f"approve {PLAN}", "check-config --database", "devices", "doctor", "explain D-1", "init-db", "plan",
    "quarantine", "reload", "status", "sync", "takeover", "usage", "verify",
]  # fmt: skip
ALONE = {"demo", "psk", "run"}


DATABASE = {
    "mikyun": '[mikyun.database]\nsocket = "{0}/nobody"\npassword_file = "{0}/password"\n',
    "nexavpn": '[nexavpn.database]\nhosts = ["{0}/nobody"]\n[nexavpn.policies]\nenforce = false\n',
}


def alone(folder: Path, control_plane: str) -> Path:
    """A configuration whose interfaces do not exist, and whose database does not answer."""
    (folder / "password").write_text("secret\n")
    (folder / "password").chmod(0o600)
    file, node = folder / "wgsyncd.toml", f'[node]\nname = "{secrets.token_hex(4)}"\n[metrics]\nlisten = ""\n'
    interface = '[interfaces.lonely0]\nnetworks = ["10.0.0.0/8"]\n'
    file.write_text(f'control_plane = "{control_plane}"\n{DATABASE[control_plane].format(folder)}{node}{interface}')
    return file


def with_config(command: str, config: Path) -> list[str]:
    name, *more = shlex.split(command)
    return [name, *([] if name in ("sync", "reload") else ["--config", str(config)]), *more]


@pytest.mark.parametrize(("command", "told"), WRONG)
def test_what_is_wrong_by_itself_is_refused_before_anybody_is_asked(
    tmp_path: Path, command: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    def connect(_: socket.socket, where: object) -> None:
        asked.append(where)
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(socket.socket, "connect", connect)
    try:
        status = main.main(with_config(command, alone(tmp_path, "mikyun")))
    except SystemExit as wrong:  # so argparse ends
        status = int(str(wrong.code))
    said = capsys.readouterr()
    assert status in (1, 2)
    assert told in said.err
    assert (said.out, asked) == ("", [])


def test_every_command_that_asks_is_tried() -> None:
    assert {one.split()[0] for one in ASKING} | ALONE == set(main.COMMANDS)


@pytest.mark.parametrize("control_plane", DATABASE)
@pytest.mark.parametrize("command", ASKING)
def test_a_command_without_a_daemon_and_a_database_speaks_in_sentences(
    tmp_path: Path, command: str, control_plane: str
) -> None:
    """No line of the log is above its own message, and it names a next step."""
    config = alone(tmp_path, control_plane)
    argv = [sys.executable, "-m", "wgsyncd", *with_config(command, config)]
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (1, 2), done.stdout
    with redact.using(config):
        next_step = redact.with_config(main.WITHOUT_DATABASE)
    for line in done.stderr.splitlines():
        assert line.startswith("wgsyncd: ") or line == next_step, done.stderr
    assert "Is the server running" not in done.stdout + done.stderr
    assert "event=" not in done.stdout + done.stderr
    assert re.search(r"wgsyncd doctor|systemctl start|man wgsyncd", done.stdout + done.stderr), done.stderr


def test_a_warning_of_a_command_is_a_sentence() -> None:
    """What nobody configured is a command."""
    program = """if True:
        from wgsyncd import log
        log.get("store").info("nobody wants to know")
        log.get("store").warning("audit rows are lost", rows=3, why="a full disk", todo="wgsyncd doctor")
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr == "wgsyncd: audit rows are lost: rows 3: a full disk: todo wgsyncd doctor\n"


def test_a_wrong_option_is_answered_with_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["doctor", "--jsn"])
    said = capsys.readouterr().err
    assert said.startswith("usage: wgsyncd doctor ")
    assert said.endswith("wgsyncd doctor: error: unrecognized arguments: --jsn: did you mean --json?\n")
