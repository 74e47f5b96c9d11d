"""The command line prints the right lines and returns the right exit status, on a node in memory."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.node import CONFIG, Node
from tests.samples import address, key
from tests.shell.conftest import Run
from wgsyncd.cli import main
from wgsyncd.core.model import fingerprint
from wgsyncd.daemon import lock
from wgsyncd.errors import UserError


def test_plan_says_nothing_to_do(node: Node, run: Run) -> None:
    assert run("plan") == (0, ["no changes"])


def test_plan_shows_changes_and_says_2(node: Node, run: Run) -> None:
    node.db.update(5, status="paused")
    status, lines = run("plan")
    assert status == 2
    assert lines[0] == "wg0: 3 actual peers, 2 desired"
    assert lines[1].split() == ["-", "wg0", "0001-DEV-005", "0001", f"{address(5)}/32", fingerprint(key(5)),
                                "device", "paused"]  # fmt: skip
    assert lines[2] == "guard: allows the removals, it asks for more than 1"
    assert lines[3].startswith("plan ")
    assert lines[3].endswith(": 1 to remove")
    assert len(lines) == 4


def test_plan_shows_the_transitions_that_are_due(node: Node, run: Run) -> None:
    """`plan` shows a transition even if no peer changes with it."""
    node.issued(8, node.now + 20, public_key=None)
    node.issued(9, node.now + 900)
    node.cycle()
    node.shake(9)
    node.tick(100)
    status, lines = run("plan")
    assert status == 2
    ended, shaken = (node.calendar.format_local(node.now + shift)[:16] for shift in (-95, -100))
    assert lines == [
        f"> row 8 (0001-DEV-008): expired (activation deadline passed), as of {ended}",
        f"> row 9 (0001-DEV-009): active (first handshake), as of {shaken}",
    ]
    data = json.loads(run("plan", "--json")[1][0])
    assert [(one["row"], one["device"], one["transition"]) for one in data["transitions"]] == [
        (8, "0001-DEV-008", "expire"), (9, "0001-DEV-009", "activate")
    ]  # fmt: skip
    assert data["changes"] == []


def test_plan_shows_rejected_rows_with_their_reason(node: Node, run: Run) -> None:
    node.db.update(5, preshared_key="junk")
    status, lines = run("plan")
    assert status == 0
    assert lines[:2] == ["no changes", "rows that are ignored because of errors: 1. Their peers stay as they are."]
    assert lines[2].startswith("? row 5 (0001-DEV-005), bad_preshared_key: preshared_key ")
    assert json.loads(run("plan", "--json")[1][0])["rejected"][0]["reason"] == "bad_preshared_key"


def test_what_waits_for_an_unreadable_key_is_shown(node: Node, run: Run) -> None:
    node.db.update(5, public_key="junk")
    del node.db.devices[6]
    status, lines = run("plan")
    assert status == 2
    assert [line[0] for line in lines] == ["w", "!", "r", "?"]
    assert lines[1].endswith("(remove, waits until the unreadable key of row 5 (0001-DEV-005) is mended)")
    data = json.loads(run("plan", "--json")[1][0])
    assert (len(data["blocked"]), data["withheld"], data["guard"]["tripped"]) == (1, [], False)
    status, lines = run("status")
    assert status == 2, "no daemon runs"
    assert "blocked: 1 removal waits until the unreadable key of row 5 (0001-DEV-005) is mended" in lines
    assert json.loads(run("status", "--json")[1][0])["blocked"] == 1


def test_an_interface_that_cannot_be_compared_is_an_error(node: Node, run: Run) -> None:
    node.wg.broken["wg1"] = errno.EPERM
    node.db.update(5, status="paused")
    status, lines = run("plan")
    assert status == 1
    assert lines[0].startswith("wg1 cannot be compared: wg1: EPERM: ")
    assert lines[2].startswith("- wg0")
    assert list(json.loads(run("plan", "--json")[1][0])["interface_errors"]) == ["wg1"]
    status, lines = run("status")
    assert status == 2
    assert any(line.startswith("wg1: cannot be compared: ") for line in lines)
    assert list(json.loads(run("status", "--json")[1][0])["interface_errors"]) == ["wg1"]


def test_the_guard_is_told_with_what_lets_it_go(node: Node, run: Run) -> None:
    node.db.devices.clear()
    status, lines = run("plan")
    assert status == 2
    plan = json.loads(run("plan", "--json")[1][0])["guard"]["plan"]
    assert (
        lines[-2]
        == "guard: NOTHING WAS REMOVED: 3 of 3 live peers would go, 1 may go unasked. A mistake? Restore the rows, and do"
        f" nothing else. Meant? wgsyncd approve {plan}"
    )
    assert lines[-1] == f"plan {plan}: 3 withheld"
    assert run("approve", "0" * 32)[0] == 1
    assert run("approve", plan)[0] == 0
    node.cycle()
    assert node.wg.peers("wg0") == {}
    assert run("approve", plan)[0] == 1, "nothing is withheld"


@pytest.mark.parametrize(("command", "status"), [("plan", 1), ("status", 2), ("check-config", 2)])
def test_a_bad_configuration(config: Path, capsys: pytest.CaptureFixture[str], command: str, status: int) -> None:
    """For `plan`, the exit status 2 means that there are changes."""
    config.write_text("[interfaces.wg0]\nmtu = 5\n")
    assert main.main([command, "--config", str(config)]) == status
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith(": 2 faults")
    assert len(said) == 3


def test_check_config_looks_at_the_files_and_status_does_not(node: Node, config: Path, run: Run) -> None:
    assert run("check-config")[0] == 0
    config.write_text(CONFIG + '[mikyun.database]\npassword_file = "/nowhere"\n')
    assert run("check-config")[0] == 2
    assert run("status", "--no-daemon")[0] == 0


# -- which process runs


def test_status_and_sync_without_a_daemon(node: Node, run: Run) -> None:
    assert run("status")[1][0] == "FAILING: node r640: wgsyncd does not run"
    data = json.loads(run("status", "--json")[1][0])
    assert data["daemon"] == "wgsyncd does not run"
    assert "daemon_pid" not in data
    assert run("sync")[0] == 1


def test_who_may_not_look_is_told_so(node: Node, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message does not claim that no daemon runs."""
    real = os.open

    def denied(path: object, *args: int, **rest: int) -> int:
        if str(path) == str(lock.path()):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *args, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(UserError, match="cannot tell whether wgsyncd runs: Permission denied"):
        lock.holder(lock.path())
    status, lines = run("status")
    assert status == 1
    assert "cannot tell whether wgsyncd runs" in lines[0]
    assert run("sync")[0] == 1


# -- where the answer goes


def said(config: Path, redirection: str) -> tuple[int, str]:
    """Returns exit status and standard error of `check-config`, with its output buffered as a shell starts it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = f'"{sys.executable}" -m wgsyncd check-config --config "{config}" {redirection}'
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stderr


def test_output_to_a_full_disk_is_told_in_one_line(config: Path) -> None:
    assert said(config, "> /dev/full") == (1, "wgsyncd: No space left on device\n")


def test_output_to_a_closed_pipe_is_told_in_one_line(config: Path) -> None:
    program = "import os, sys; r, w = os.pipe(); os.close(r); os.dup2(w, 1); from wgsyncd.cli.main import main; sys.exit(main())"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", program, "check-config", "--config", str(config)],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "wgsyncd: Broken pipe\n")


def test_without_any_output_the_status_is_the_answer(config: Path) -> None:
    assert said(config, ">&-") == (0, "")


def test_the_command_line_loads_nothing_slow() -> None:
    """`run` installs its signal handlers after the parser is ready. A signal before that would end the process."""
    slow = ["structlog", "msgspec", "rich", "pyroute2", "pymysql", "apscheduler", "prometheus_client"]
    program = f"import sys, wgsyncd.cli.main as m; m.parser(['run']); print([n for n in {slow} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_a_new_command_is_one_file(tmp_path: Path) -> None:
    """The command line finds the file. It imports only the files of the commands that it was asked for."""
    (tmp_path / "say_hello.py").write_text(
        '"""Say hello.\n\nIt is polite.\n\nexit status: 0 done\n"""\n'
        "def register(parser): parser.add_argument('name')\ndef run(args): print('hello', args.name); return 7\n"
    )
    program = (
        f"import sys, wgsyncd.cli.commands as c; c.__path__.append({str(tmp_path)!r}); import wgsyncd.cli.main as m;"
        " status = m.main(); print(status, [n for n in sys.modules if n.startswith('wgsyncd.cli.commands.')])"
    )

    def said(*argv: str) -> str:
        argv = (sys.executable, "-c", program, *argv)
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout

    assert said("say-hello", "you") == "hello you\n7 ['wgsyncd.cli.commands.say_hello']\n"
    assert re.search(r"^    say-hello  +Say hello\.$", said("--help"), re.MULTILINE)
    assert {"Say hello.", "It is polite.", "exit status: 0 done"} <= set(said("say-hello", "--help").splitlines())


def test_check_config_and_its_errors_need_no_netlink_and_no_tables(config: Path) -> None:
    program = "import sys; from wgsyncd.cli.main import main; main(); print([n for n in ('rich', 'pyroute2', 'pymysql') if n in sys.modules])"
    argv = [sys.executable, "-c", program, "check-config", "--config", str(config)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("statsu", "status"), ("chek-config", "check-config"), ("aprove", "approve"), ("dcotor", "doctor")],
)
def test_a_mistyped_command_is_answered_with_the_one_that_is_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main([typed])
    assert capsys.readouterr().err.endswith(f"wgsyncd: error: argument COMMAND: {typed!r}: did you mean {meant}?\n")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["status", "--jsno"], "--json"),
        (["devices", "--onlne", "--all"], "--online"),
        (["--versoin", "plan"], "--version"),
        (["init-db", "--drop"], "--drop-views"),
        (["devices", "--onlin"], "--online"),
    ],
)
def test_a_mistyped_option_is_answered_with_the_one_that_is_meant(
    typed: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(typed)
    assert capsys.readouterr().err.endswith(f": did you mean {meant}?\n")


def test_no_command_and_no_file_are_answered_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main([])
    assert capsys.readouterr().err.endswith("wgsyncd: error: no command is given: wgsyncd --help names all\n")
    assert main.main(["check-config", "--config", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.endswith("cannot be read: No such file or directory. --config names another one\n")


def test_nonsense_is_answered_with_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main.main(["xyzzy"])
    assert "choose from" in capsys.readouterr().err


def test_an_interrupt_while_it_is_imported_leaves_no_trace() -> None:
    program = """if True:
        import os, runpy, signal, sys
        wanted = sys.argv.pop()
        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == wanted:
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Finder())
        runpy.run_module("wgsyncd", run_name="__main__")
    """
    ends = {"wgsyncd.cli.main": -signal.SIGINT, "argparse": -signal.SIGINT, "wgsyncd.cli.commands.status": 130}
    for module, status in ends.items():
        command = [sys.executable, "-c", program, "status", module]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (status, "", ""), module
