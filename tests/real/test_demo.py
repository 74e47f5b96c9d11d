"""Every scenario of `wgsyncd demo` succeeds, and the demo leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pages import README, TOP, text
from tests.wait import until
from wgsyncd.demo import packages
from wgsyncd.demo.mariadb import PrivateServer
from wgsyncd.demo.nexavpn_fixtures import LAPTOP
from wgsyncd.demo.observation import DemoReport, ScenarioReport
from wgsyncd.demo.output import Screen
from wgsyncd.demo.run import DEMOS
from wgsyncd.errors import UserError


class Demo:
    """Runs the demo once. It finds the demo's processes by an environment variable that all of them inherit."""

    def __init__(self, directory: Path, *options: str, line: str = "", checkout: Path = TOP) -> None:
        """Starts the demo.

        ``line`` is a shell line that ends with the demo's command, and replaces the command itself.
        """
        self.directory, self.tag = directory, uuid.uuid4().hex
        environment = {
            **os.environ, "TMPDIR": str(directory), "DEMO_TEST": self.tag, "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        if line:
            argv = ["sh", "-c", f'{line} "$@"', "sh"]
            environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
        else:
            argv = [sys.executable, "-m", "wgsyncd", "demo"]
            environment["PYTHONPATH"] = str(TOP)
        self.process = subprocess.Popen(
            [*argv, "--json", *options], env=environment, text=True, cwd=checkout,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def processes(self) -> list[str]:
        """Returns the command lines of all present processes of the run."""
        return list(self.pids().values())

    def pids(self) -> dict[int, str]:
        """Returns the command lines of all present processes of the run by pid."""
        found = {}
        for one in Path("/proc").glob("[0-9]*"):
            try:
                if f"DEMO_TEST={self.tag}".encode() in (one / "environ").read_bytes():
                    found[int(one.name)] = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # the process has just ended
                continue
        return found

    def stay(self, device: str) -> None:
        """Wait until the demo is left running. Read its page, then press ^C."""
        assert self.process.stderr is not None
        said = []
        for line in self.process.stderr:
            said.append(line)
            if line.startswith("page: http"):
                break
        else:
            pytest.fail(f"the demo ended:\n{''.join(said)}{self.process.communicate()[0]}")
        page = said[-1].split()[1]

        def shown() -> bool:
            with urllib.request.urlopen(page, timeout=60) as answer:  # noqa: S310
                return device.encode() in answer.read()

        until(shown, 60, "the page shows the device")
        for pid, command in self.pids().items():
            if "wgsyncd demo" in command and "sh -c" not in command:
                os.kill(pid, signal.SIGINT)

    def finish(self, seconds: float) -> tuple[int, dict[str, Any], str]:
        """Returns the exit status, the JSON object and the text on stderr."""
        out, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, json.loads(out.splitlines()[-1]) if out else {}, errors

    def assert_nothing_left(self) -> None:
        """Asserts that no process and no file is left. Namespaces and interfaces end with their processes."""
        until(lambda: not self.processes(), 10, "the demo's processes are gone")
        assert list(self.directory.iterdir()) == []
        assert not list(Path("/run").glob("wgsyncd-demo-*"))


def assert_all_holds(demo: Demo, seconds: float, scenarios: int = 15) -> dict[str, Any]:
    """Asserts that every scenario ran and ended as expected. Returns the JSON object."""
    code, result, errors = demo.finish(seconds)
    assert [one for one in result["scenarios"] if not one["ok"]] == [], errors
    assert result["ok"] is True
    assert code == 0
    assert msgspec.to_builtins(msgspec.convert(result, DemoReport, strict=True)) == result
    assert len(result["scenarios"]) == scenarios
    for one in result["scenarios"]:
        assert all(one[name] for name in ("name", "expected", "kernel", "table")), one
    demo.assert_nothing_left()
    return result


def test_every_scenario_holds_of_the_line_in_the_readme(tmp_path: Path) -> None:
    """The line needs apt and PyPI, as tests/run does. It runs in a copy, where it finds no environment of the tests."""
    (line,) = re.findall(r"^    (.+wgsyncd demo --install)$", text(README), re.MULTILINE)
    checkout = tmp_path / "checkout"
    kept = shutil.ignore_patterns(".*", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(TOP, checkout, ignore=kept)
    (tmp_path / "demo").mkdir()
    demo = Demo(tmp_path / "demo", "--seconds", "180", "--keep", line=line, checkout=checkout)
    demo.stay("0001-DEV-001")
    result = assert_all_holds(demo, 500)
    assert result["kind"] in ("kernel", "userspace")


def test_every_scenario_holds_on_nexavpn(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--control-plane", "nexavpn", "--seconds", "180", "--keep")
    demo.stay(LAPTOP.id)
    assert_all_holds(demo, 500, scenarios=11)


def test_the_end_fits_80_columns_and_counts_no_scenario_that_was_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    screen, made = Screen(json=False), {"expected": "a", "kernel": "b", "table": "c"}
    reports = [ScenarioReport(name=str(at), ok=at != 1, note="not shown" * (at > 1), **made) for at in range(5)]
    for one in reports:
        screen.add(one)
    done = DemoReport(ok=False, kind="userspace", seconds=100, scenarios=reports)
    screen.close(done, "wgsyncd demo --control-plane nexavpn --keep")
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines if "not shown" in line] == ["-   "] * 3
    assert "1 of 2 scenarios hold, 3 cannot be shown, with userspace WireGuard, in 100 s" in lines
    assert [line.split()[:2] for line in lines[-3:]] == [["next:", "read"], ["next:", "run"], ["next:", "look"]]
    assert max(map(len, lines)) <= 80
    screen.close(done, "")
    assert "--keep" not in capsys.readouterr().out, "it runs already"


@pytest.mark.vm
def test_every_scenario_holds_with_the_kernels_wireguard(tmp_path: Path) -> None:
    result = assert_all_holds(Demo(tmp_path, "--seconds", "1500"), 1560)
    assert result["kind"] == "kernel"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    demo = Demo(tmp_path)
    until(lambda: any(" run --config" in one for one in demo.processes()), 60, "the demo's daemon runs")
    demo.process.send_signal(number)
    code, result, _ = demo.finish(30)
    assert code == 128 + number
    assert result["ok"] is False
    demo.assert_nothing_left()


@pytest.mark.parametrize("control_plane", DEMOS)
def test_a_kill_in_the_middle_leaves_nothing_behind(tmp_path: Path, control_plane: str) -> None:
    demo = Demo(tmp_path, "--control-plane", control_plane)
    until(lambda: any(" run --config" in one for one in demo.processes()), 60, "the demo's daemon runs")
    demo.process.kill()
    demo.process.communicate()
    demo.assert_nothing_left()


def test_too_little_time_is_said_and_kept(tmp_path: Path) -> None:
    began = time.monotonic()
    demo = Demo(tmp_path, "--seconds", "6")
    code, result, _ = demo.finish(60)
    assert code == 1
    assert time.monotonic() - began < 12
    (told, *_) = [one["kernel"] for one in result["scenarios"] if not one["ok"]]
    assert told.startswith("out of time: on a slow or busy machine, use --seconds ")
    demo.assert_nothing_left()


def test_an_installed_mariadb_is_not_touched() -> None:
    def stamps() -> dict[Path, int]:
        return {
            path: path.stat().st_ctime_ns for top in ("/usr/lib/mysql", "/etc/mysql") for path in Path(top).rglob("*")
        }

    before = stamps()
    with PrivateServer() as server:
        assert server.sql("SELECT 1 AS one", database="") == [{"one": "1"}]
    assert stamps() == before
    assert not server.directory.exists()


def run_without(commands: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the demo with only these commands in its PATH."""
    environment = {"PATH": str(commands), "PYTHONPATH": str(TOP)}
    return subprocess.run(
        [sys.executable, "-m", "wgsyncd", "demo", *options], env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Returns a folder with every command that the demo needs, except wg(8). Its apt-get only records its arguments."""
    for name in (
        "ip",
        "unshare",
        "nsenter",
        "setpriv",
        "mariadbd",
        "mariadb-install-db",
        "mariadb",
        "wireguard-go",
        "sh",
    ):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "apt-get").chmod(0o755)
    return tmp_path


def test_missing_packages_are_named_and_not_installed_unasked(commands: Path) -> None:
    done = run_without(commands)
    assert done.returncode == 2
    assert "apt-get install --yes --no-install-recommends wireguard-tools" in done.stderr
    assert not (commands / "asked").exists()


def test_missing_packages_are_installed_when_asked(commands: Path) -> None:
    done = run_without(commands, "--install")
    assert (commands / "asked").read_text() == "install --yes --no-install-recommends wireguard-tools\n"
    assert done.returncode == 2  # the apt-get of this test installed nothing
    assert "still not here after the installation: wireguard-tools" in done.stderr


def test_postgresql_is_installed_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package postgresql makes a cluster and starts it, unless a file forbids it."""
    file = tmp_path / "etc" / "createcluster.d" / "demo.conf"
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncp {file} {tmp_path}/seen\n')
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(packages, "_NO_CLUSTER", file)
    monkeypatch.setattr(packages, "program", lambda name: None if name == "initdb" else name)
    with pytest.raises(UserError, match="still not here after the installation: postgresql"):
        packages.ensure(packages.POSTGRESQL, install=True)
    assert (tmp_path / "asked").read_text() == "install --yes --no-install-recommends postgresql\n"
    assert (tmp_path / "seen").read_text() == "create_main_cluster = false\n"
    assert not (tmp_path / "etc").exists()


def test_a_missing_extra_is_named() -> None:
    needed = packages.POSTGRESQL._replace(modules=("a_module_that_nobody_has",))
    with pytest.raises(UserError, match=r"a_module_that_nobody_has: not installed: .* -m pip install 'psycopg"):
        packages.ensure(needed, install=False)


def test_another_user_than_root_is_told() -> None:
    program = """
import os, sys
from wgsyncd.cli.commands import demo
from wgsyncd.cli.main import main
from wgsyncd import errors, log  # first, since another user may not be able to read this interpreter's files
from wgsyncd.demo import packages, run
os.setuid(65534)
sys.argv = ["wgsyncd", "demo"]
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "run it as root" in done.stderr
