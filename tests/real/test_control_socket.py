"""The commands work on the real daemon as an admin types them, and only permitted users get an answer.

The tests cover plan, approve, reload and status --watch.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.bench import Bench, Device, real_device, wait
from tests.real.running import CHECKOUT

NOBODY = 65534

# The process loads everything before it gives up its rights. Other users may not be able to read the interpreter's
# files.
AS_ANOTHER = """
import os, sys
import wgsyncd.cli.main, wgsyncd.cli.client, wgsyncd.cli.wiring, wgsyncd.config.load, wgsyncd.engine.reports.status
import wgsyncd.dataplane.wireguard.interfaces
wgsyncd.cli.main.parser()
os.setgroups([int(gid) for gid in sys.argv[1].split(",") if gid])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(wgsyncd.cli.main.main(sys.argv[2:]))
"""


def plan_of(bench: Bench) -> tuple[str, str]:
    """Returns text and id of the present plan."""
    text = bench.daemon.cli("plan", code=2).stdout
    return text, text.splitlines()[-1].split()[1].rstrip(":")


def test_what_is_planned_is_approved_and_nothing_else(bench: Bench) -> None:
    crowd = bench.make(20)
    bench.daemon.start()
    bench.await_peers(*crowd)
    bench.sql("UPDATE customer_devices SET status = 'paused'")
    wait(lambda: bench.daemon.status()["guard"]["tripped"], "the guard holds")
    text, plan = plan_of(bench)
    assert text.splitlines()[0] == "wg0: 20 actual peers, 0 desired"
    assert f"{crowd[0].device}  0001  {crowd[0].address}/32  {crowd[0].keys.public[:8]}…  device paused" in text
    told = f"do nothing else. Meant? {bench.daemon.proposed('approve')} {plan}"
    assert text.splitlines()[-2].endswith(told)
    bench.sql(f"UPDATE customer_devices SET status = 'active' WHERE device_id = '{crowd[0].device}'")
    wait(lambda: bench.daemon.status()["guard"]["plan"] not in ("", plan), "another plan")
    assert "is not the plan of now" in bench.daemon.cli("approve", plan, code=1).stderr
    assert len(bench.peers()) == 20
    _, plan = plan_of(bench)
    said = bench.daemon.cli("approve", plan).stdout
    assert said == f"{plan} approved and carried out: 19 removed\n"
    bench.await_peers(crowd[0])
    assert [one[2] for one in bench.logs("guard_approved")] == [
        f"19 withheld removals (plan {plan}) approved by root (uid 0, pid {_pid(bench)})"
    ]
    assert "nothing is withheld" in bench.daemon.cli("approve", plan, code=1).stderr
    assert bench.daemon.cli("plan").stdout == "no changes\n"
    assert bench.daemon.lines(event="approve", plan=plan)


def _pid(bench: Bench) -> str:
    """Returns the process id of the last approval from the log."""
    return str(bench.daemon.lines(event="approve")[-1]["who"]).rpartition("pid ")[2].rstrip(")")


def test_reasons_are_those_that_an_admin_asks_for(bench: Bench) -> None:
    ended, paused, first = (Device(f"0001-{n}", f"10.200.0.{n}") for n in (10, 11, 12))
    ended.status = "issued"
    paused.contract = "0002"
    bench.sql("UPDATE contracts SET contract_status = 'active'")
    bench.insert(ended, paused, first)
    bench.daemon.start()
    bench.await_peers(ended, paused, first)
    bench.daemon.stop()
    heir = Device("0001-heir", first.address)
    bench.sql("UPDATE contracts SET contract_status = 'paused' WHERE contract_id = '0002'")
    bench.sql("UPDATE customer_devices SET qr_expires_at = '2026-01-02 03:12:00' WHERE status = 'issued'")
    bench.sql(
        f"UPDATE customer_devices SET status = 'revoked', wg_ip = '10.200.0.99' WHERE device_id = '{first.device}'"
    )
    bench.insert(heir)
    done = bench.daemon.cli("plan", code=2)
    assert "does not run: this is what the command sees by itself" in done.stderr
    lines = {line.split()[2]: line for line in done.stdout.splitlines() if line[0] in "-~+"}
    assert lines[paused.device].endswith("contract 0002 paused")
    assert lines[ended.device].endswith("  activation deadline 2026-01-02 03:12 passed")
    assert lines[heir.device].endswith(f"address moved from {first.device}")


def test_a_reload_says_how_it_went_and_a_bad_file_changes_nothing(bench: Bench) -> None:
    held = bench.make(1)[0]
    bench.daemon.start()
    bench.await_peers(held)
    good = bench.daemon.config.read_text()
    bench.daemon.config.write_text(good + "[guard]\nmax_share = 7.0\n[nonsense]\n")
    done = bench.daemon.cli("reload", code=2)
    assert done.stdout == ""
    first, *faults = done.stderr.splitlines()
    assert first == f"wgsyncd: {bench.daemon.config}: 2 faults, so the daemon keeps the old configuration"
    assert sorted(one.split()[0] for one in faults) == ["guard.max_share", "nonsense"]
    assert bench.daemon.status()["configuration"]["refused"] is True
    assert "has faults, so the daemon keeps the old one" in bench.daemon.cli("status", code=1).stdout
    assert set(bench.peers()) == {held.keys.public}
    bench.daemon.config.write_text(good + "[guard]\nmax_share = 0.7\n")
    since = len(bench.daemon.notices.all)
    assert bench.daemon.cli("reload").stdout == f"{bench.daemon.config}: taken\n"
    assert bench.daemon.notices.has("READY=1", since), "it was done before it was said"
    assert bench.daemon.status()["configuration"]["refused"] is False
    bench.daemon.stop()
    assert "no wgsyncd runs here" in bench.daemon.cli("reload", code=1).stderr


@pytest.fixture
def public() -> Iterator[Path]:
    """Yields a runtime directory that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="wgsyncd-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_only_the_group_is_answered(bench: Bench, public: Path) -> None:
    """The socket's mode refuses other users.

    If somebody opens that mode, the kernel's credentials of the caller decide.
    """
    environment = {"RUNTIME_DIRECTORY": str(public)}
    bench.daemon.start(env=environment)
    socket = public / "control.sock"
    assert socket.stat().st_mode & 0o777 == 0o660

    def another(*groups: int) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", AS_ANOTHER, ",".join(map(str, groups)), "status", "--json"]
        return subprocess.run(argv, env={**os.environ, **bench.daemon.environment, **environment},
                              capture_output=True, text=True, check=False)  # fmt: skip

    text = f"wgsyncd: {socket}: not permitted: run this as root or in the group wgsyncd\n"
    refused = another()
    assert (refused.returncode, refused.stdout, refused.stderr) == (3, "", text)
    member = another(socket.stat().st_gid)
    assert member.returncode in (0, 1), member.stderr
    assert json.loads(member.stdout)["node"] == "bench"
    socket.chmod(0o666)
    refused = another()
    assert (refused.returncode, refused.stdout, refused.stderr) == (3, "", text.replace(f"{socket}: ", ""))
    assert [one["who"] for one in bench.daemon.lines(event="command refused: not in the group")] != []


def test_curl_drives_the_daemon_and_tcp_takes_no_commands(bench: Bench) -> None:
    crowd = bench.make(20)
    bench.daemon.start()
    bench.await_peers(*crowd)
    socket = Path(bench.daemon.environment["RUNTIME_DIRECTORY"]) / "control.sock"

    def curl(*args: str) -> tuple[str, str]:
        """Returns status and body. curl runs where the daemon's loopback interface is."""
        argv = ["curl", "-sS", "--max-time", "60", "-w", "\n%{http_code}", *args]
        said = subprocess.run(bench.world.server.inside(argv), capture_output=True, text=True, check=True).stdout
        bench.ear.hear("curl", said)
        body, _, status = said.rpartition("\n")
        return status, body

    def asked(*args: str) -> dict[str, Any]:
        status, body = curl("--unix-socket", str(socket), *args)
        assert status == "200", body
        answer: dict[str, Any] = json.loads(body)
        return answer

    assert asked("http://a/status")["node"] == "bench"
    bench.sql("UPDATE customer_devices SET status = 'paused'")
    wait(lambda: asked("http://a/status")["guard"]["tripped"], "the guard holds")
    plan = asked("-X", "POST", "http://a/plan")["plan"]
    for method, path, body in (("GET", "status", None), ("POST", "plan", "{}"), ("POST", "sync", "{}"),
                               ("POST", "reload", "{}"), ("POST", "approve", f'{{"plan": "{plan}"}}')):  # fmt: skip
        data = () if body is None else ("-d", body)
        assert curl("-X", method, *data, f"http://127.0.0.1:9586/{path}")[0] == "404"
    for path in ("metrics", "healthz", "readyz"):
        assert curl("-d", "{}", f"http://127.0.0.1:9586/{path}")[0] == "405"
        assert curl(f"http://127.0.0.1:9586/{path}")[0] == "200"
    assert len(bench.peers()) == 20
    asked("-d", f'{{"plan": "{plan}"}}', "http://a/approve")
    assert bench.peers() == {}
    assert bench.daemon.lines(event="approve", plan=plan)[0]["who"].startswith("root (uid 0, pid ")
    assert asked("-X", "POST", "http://a/reload")["taken"] is True
    assert asked("-d", f'{{"devices": ["{crowd[0].device}"]}}', "http://a/sync")["compared"] == [crowd[0].device]


def test_watch_shows_a_row_that_changes(bench: Bench) -> None:
    held = bench.make(1)[0]
    bench.daemon.start()
    bench.await_peers(held)
    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "wgsyncd", "status", "--config", str(bench.daemon.config), "--watch", "0.2"]
    environment = {**os.environ, **bench.daemon.environment, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
    os.close(slave)
    said = bytearray()

    def shows(text: str) -> None:
        while text not in said.decode(errors="replace"):
            said.extend(os.read(master, 65536))  # if the text never comes, the end of the terminal raises OSError

    try:
        shows("last good reconcile")
        assert "0001-late" not in said.decode(errors="replace")
        bench.insert(Device("0001-late", "10.200.0.77"))
        shows("0001-late")
        bench.daemon.stop()
        shows("does not run")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        while True:
            try:
                rest = os.read(master, 65536)
            except OSError:
                break
            if not rest:
                break
            said.extend(rest)
        os.close(master)
    text = said.decode(errors="replace")
    assert "Traceback" not in text
    assert text.rstrip().endswith("\x1b[?25h\x1b[?1049l"), "the screen is as it was before"
    bench.ear.hear("watch", text.replace("\r", ""))


def has_a_socket(pid: int) -> bool:
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor was closed meanwhile
            if str(one.readlink()).startswith("socket:"):
                return True
    return False


def test_whoever_waits_for_a_daemon_that_hangs_may_leave(bench: Bench) -> None:
    bench.daemon.start()
    bench.daemon.signal(signal.SIGSTOP)
    try:
        done = bench.daemon.cli("sync", "--timeout", "0.3", code=1)
        assert done.stderr.startswith("wgsyncd: the daemon does not answer within 0.3 s")
        argv = [sys.executable, "-m", "wgsyncd", "reload"]
        environment = {**os.environ, **bench.daemon.environment}
        process = subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)
        wait(lambda: has_a_socket(process.pid), "it asks")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (130, "")
    finally:
        bench.daemon.signal(signal.SIGCONT)


def test_a_deleted_interface_is_known_before_the_next_poll(bench: Bench) -> None:
    """By `wgsyncd status`, /metrics and /readyz."""
    device = real_device("0001-held", "10.200.0.11")
    bench.insert(device)
    bench.configure({"schedule.poll_interval": "1h", "schedule.resync_interval": "1h"})
    bench.daemon.start()
    bench.await_peers(device)
    assert bench.daemon.status()["verdict"] == "ok"
    bench.world.server.ip("link delete wg0")
    report = bench.daemon.status()
    (trouble,) = report["troubles"]
    assert report["verdict"] == "failing"
    assert (trouble["check"], trouble["fix"]) == ("wg0", "systemctl restart wg-quick@wg0")
    assert "does not exist" in trouble["message"]
    present = {
        name: bench.daemon.metrics()[f'wgsyncd_interface_present{{interface="{name}"}}'] for name in ("wg0", "wg1")
    }
    assert (present, bench.daemon.get("/readyz")) == ({"wg0": 0, "wg1": 1}, "ok\n")
    bench.world.server.ip("link delete wg1")
    said = "no interface can be compared: wg0: ENODEV: it was deleted; wg1: ENODEV: it was deleted\n"
    assert bench.daemon.get("/readyz") == said
