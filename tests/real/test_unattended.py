"""The daemon survives signals, clock steps, a second daemon and a bug.

behaviour.md §7 describes it. test_outages.py has the outages.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

from tests.real.bench import PATIENCE, Bench, Device, both_kinds, real_device, wait

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # Debian's package libfaketime has it
STOP = 10.0  # seconds that the daemon promises


def _add_stranger(bench: Bench, interface: str = "wg0") -> str:
    """Adds a peer by hand and returns its key."""
    key = Device("", "").keys.public
    bench.ear.keep(key)
    bench.world.server.run("wg", "set", interface, "peer", key, "allowed-ips", "10.200.0.250/32")
    return key


def test_sighup_swaps_the_configuration_and_reconciles_at_once(bench: Bench) -> None:
    crowd = bench.make(2)
    daemon = bench.daemon.start()
    _add_stranger(bench)
    bench.configure({"interfaces.wg0.persistent_keepalive": "25s", "log.level": "debug"})
    since = len(daemon.notices.all)
    daemon.signal(signal.SIGHUP)
    wait(lambda: daemon.notices.has("READY=1", since), "READY=1 after the reload")
    reloading = next(one for one in daemon.notices.all[since:] if "RELOADING=1" in one)
    assert re.search(r"^MONOTONIC_USEC=\d+$", reloading, re.MULTILINE)  # both lines are in the same datagram
    bench.await_peers(*crowd)  # the next full reconcile is a minute away, and no row has changed
    dump = bench.world.server.run("wg", "show", "wg0", "persistent-keepalive")
    assert sorted(line.split("\t")[1] for line in dump.splitlines()) == ["25", "25"]
    assert len(bench.logs("config_reloaded")) == 1
    assert daemon.metrics()["wgsyncd_config_ok"] == 1


def test_sighup_with_faults_changes_nothing(bench: Bench) -> None:
    crowd = bench.make(2)
    daemon = bench.daemon.start()
    before = bench.world.dump()
    bench.configure(
        {"interfaces.wg0.networks": ["10.9.0.0/16"], "guard.max_share": 7, "schedule.poll_interval": "never"}
    )
    since = len(daemon.notices.all)
    daemon.signal(signal.SIGHUP)
    wait(lambda: daemon.notices.has("READY=1", since), "READY=1 after the reload")
    assert {line["key"] for line in daemon.lines(level="error")} == {"guard.max_share", "schedule.poll_interval"}
    assert daemon.metrics()["wgsyncd_config_ok"] == 0
    assert daemon.notices.has("STATUS=wg0: 2 peers, 0 online; wg1: 0 peers, 0 online; new configuration refused", since)
    [(_, target, message)] = bench.logs("config_rejected")
    assert target == "bench"
    assert "2 faults" in message
    assert bench.world.dump() == before  # the new networks are not in force either
    more = Device("0001-more", "10.200.0.99")
    bench.insert(more)
    bench.await_peers(*crowd, more)
    daemon.config.write_text("this is not TOML")
    daemon.signal(signal.SIGHUP)
    wait(lambda: len(bench.logs("config_rejected")) == 2, "refused again")
    daemon.config.unlink()
    daemon.signal(signal.SIGHUP)
    wait(lambda: len(bench.logs("config_rejected")) == 3, "refused a third time")
    bench.await_peers(*crowd, more)
    bench.configure()
    daemon.signal(signal.SIGHUP)
    wait(lambda: bench.logs("config_reloaded"), "reloaded")
    assert daemon.metrics()["wgsyncd_config_ok"] == 1


@both_kinds
def test_sigterm_books_once_more_and_leaves_the_peers(bench: Bench) -> None:
    held = real_device("0001-held", "10.200.0.11")
    bench.insert(held)
    bench.configure({"schedule.poll_interval": "1h", "schedule.resync_interval": "1h"})
    daemon = bench.daemon.start()
    assert bench.customer(held).transfer(up=200_000, down=100_000).wait(PATIENCE) == 0
    assert bench.sql("SELECT rx_bytes_total rx FROM customer_devices") == [{"rx": "0"}]  # no poll has run yet
    began, since = time.monotonic(), len(daemon.notices.all)
    counted = bench.peers()[held.keys.public]
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert time.monotonic() - began < STOP
    assert daemon.notices.has("STOPPING=1", since)
    after = bench.peers()[held.keys.public]
    row = bench.sql("SELECT rx_bytes_total rx, tx_bytes_total tx, last_handshake_at at FROM customer_devices")[0]
    assert counted.rx <= int(row["rx"] or 0) <= after.rx  # the client's last acknowledgements may come in between
    assert counted.tx <= int(row["tx"] or 0) <= after.tx
    assert row["at"] is not None
    assert bench.logs()[-1][0] == "daemon_stopped"
    assert daemon.lines(event="stopped, and peers stay in place")


def test_sigterm_while_the_database_hangs(bench: Bench) -> None:
    crowd = bench.make(2)
    daemon = bench.daemon.start()
    bench.await_peers(*crowd)
    _freeze(bench)
    wait(lambda: daemon.lines(level="error"), "trouble is noticed")
    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert time.monotonic() - began < STOP
    assert daemon.notices.has("STOPPING=1")
    bench.await_peers(*crowd)


def test_sigterm_while_the_database_hangs_at_boot(bench: Bench) -> None:
    _freeze(bench)
    daemon = bench.daemon.start(ready=False)
    wait(lambda: daemon.lines(event="started"), "started")
    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() == 0
    assert time.monotonic() - began < STOP


def test_sigterm_before_anything_is_loaded(bench: Bench) -> None:
    """The daemon prints no trace and never hangs, however early the signal comes."""
    daemon = bench.daemon
    daemon.may_crash = True
    daemon.start(ready=False)
    daemon.signal(signal.SIGTERM)
    assert daemon.wait() in (0, -signal.SIGTERM)
    assert "Traceback" not in daemon.log.read_text()


def test_sigusr1_reconciles_now(bench: Bench) -> None:
    crowd = bench.make(1)
    bench.configure({"schedule.resync_interval": "1h", "schedule.watch_interval": "0s"})
    daemon = bench.daemon.start()
    bench.await_peers(*crowd)
    _add_stranger(bench)
    daemon.signal(signal.SIGUSR1)
    bench.await_peers(*crowd)
    assert len(bench.logs("foreign_peer_removed")) == 1
    _add_stranger(bench)
    assert daemon.cli("sync").stdout == "compared everything\n"
    assert list(bench.peers()) == [crowd[0].keys.public], "when it says so it has been done"
    daemon.stop()
    assert "no wgsyncd runs here" in daemon.cli("sync", code=1).stderr


def test_a_second_one_is_refused_and_told_who_is_first(bench: Bench) -> None:
    crowd = bench.make(1)
    daemon = bench.daemon.start()
    pid = daemon.pid
    done = daemon.cli("run", code=1)
    [line] = done.stderr.splitlines()
    assert json.loads(line)["why"] == f"another wgsyncd runs for this node: pid {pid} holds {daemon.directory / 'lock'}"
    bench.insert(Device("0001-more", "10.200.0.99"))
    wait(lambda: len(bench.peers()) == 2, "the first one goes on")
    daemon.kill()  # the kernel releases the lock
    daemon.start()
    assert crowd[0].keys.public in bench.peers()


def test_a_second_one_with_directories_of_its_own_is_refused_too(bench: Bench) -> None:
    """Two daemons would put samples into separate spools and post them twice."""
    daemon = bench.daemon.start()
    again = bench.add_daemon("again", {"node.name": "bench"})
    done = again.cli("run", code=1)
    why = json.loads(done.stderr.splitlines()[-1])["why"]
    todo = "stop it first, or give this one another node.name"
    assert why == f"another wgsyncd runs for node bench in this network namespace: pid {daemon.pid}: {todo}"
    daemon.stop()
    again.start()


def test_a_second_one_on_the_same_interface_is_refused_whatever_its_node(bench: Bench) -> None:
    """Two daemons with two node names would post the bytes of one interface twice."""
    daemon = bench.daemon.start()
    no_wg0 = {"interfaces.wg0.networks": None, "interfaces.wg0.addresses": None}
    other = bench.add_daemon("other", {**no_wg0, "metrics.listen": "127.0.0.1:9587"})
    done = other.cli("run", code=1)
    why = json.loads(done.stderr.splitlines()[-1])["why"]
    todo = "stop it first, or take interfaces.wg1 out of one of the two configurations"
    assert why == f"another wgsyncd runs on interface wg1 in this network namespace: pid {daemon.pid}: {todo}"
    bench.configure({"interfaces.wg1.networks": None, "interfaces.wg1.addresses": None})
    daemon.cli("reload")
    other.start()
    bench.configure()
    refused = daemon.cli("reload", code=2).stderr
    assert f"another wgsyncd runs on interface wg1 in this network namespace: pid {other.pid}" in refused
    other.stop()
    daemon.cli("reload")


BUG = """
import pathlib, sys
from wgsyncd.cli import main
from wgsyncd.engine import planner
right = planner.make_plan
def wrong(*args):
    if pathlib.Path({trigger!r}).exists():
        raise KeyError({key!r})
    return right(*args)
planner.make_plan = wrong
sys.exit(main.main())
"""


def test_a_bug_ends_it_loudly_and_without_a_key(bench: Bench, tmp_path: Path) -> None:
    crowd = bench.make(2)
    trigger = tmp_path / "trigger"
    daemon = bench.daemon
    code = BUG.format(trigger=str(trigger), key=crowd[0].keys.public)
    daemon.may_crash = True
    daemon.start(argv=("-c", code))
    bench.await_peers(*crowd)
    trigger.touch()
    daemon.signal(signal.SIGUSR1)
    assert daemon.wait() not in (0, 2)
    [line] = [line for line in daemon.lines() if "trace" in line]
    assert line["level"] in ("error", "critical")
    assert "KeyError" in line["error"]
    assert line["trace"][-1].endswith(" wrong")
    assert crowd[0].keys.public not in daemon.log.read_text()
    bench.await_peers(*crowd)
    daemon.start()  # systemd does the same
    bench.insert(Device("0001-more", "10.200.0.99"))
    wait(lambda: len(bench.peers()) == 3, "at work again")


def _stepped(bench: Bench, offset: str) -> dict[str, str]:
    """Returns the environment of a daemon whose wall clock has this offset.

    ``_step`` changes the offset while it runs.
    """
    assert FAKETIME.exists(), "Debian's package libfaketime is needed"
    _step(bench, offset)
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(bench.directory / "clock"),
            "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}  # fmt: skip


def _step(bench: Bench, offset: str) -> None:
    new = bench.directory / "clock.new"
    new.write_text(offset + "\n")
    new.rename(bench.directory / "clock")


def test_the_clock_steps_both_ways(bench: Bench) -> None:
    """Schedules continue, a QR expires once, and no byte is posted twice. The month's sums come back with the month."""
    held = real_device("0001-held", "10.200.0.11")
    scan = Device("0001-scan", "10.200.0.12", status="issued")
    bench.insert(held, scan)
    daemon = bench.daemon.start(_stepped(bench, "+0"))
    assert bench.customer(held).transfer(up=100_000, down=0).wait(PATIENCE) == 0
    figures = "SELECT rx_bytes_total total, rx_bytes_month month, rx_bytes_24h day FROM customer_devices LIMIT 1"
    wait(lambda: bench.sql(figures)[0]["month"] not in ("0", None), "posted")

    def step(offset: str) -> None:
        steps, reconciles, accounts = len(daemon.lines(event="the clock was set")), *map(daemon.cycles, TASKS)
        _step(bench, offset)
        wait(lambda: len(daemon.lines(event="the clock was set")) == steps + 1, f"step to {offset} seen")
        wait(lambda: daemon.cycles("reconcile") > reconciles and daemon.cycles("account") > accounts + 3, "it goes on")

    step("-3600")
    assert "clock: it was set back by 3" in daemon.cli("status", code=None).stdout
    assert not bench.logs("qr_expired")
    step("+40d")  # month ends may lie in between, and the QR deadline does
    row = bench.sql(figures)[0]
    assert (row["month"], row["day"]) == ("0", "0")
    assert len(bench.logs("qr_expired")) == 1
    bench.await_peers(held)
    step("+0")
    again = bench.sql(figures)[0]
    assert again["total"] == again["month"] == again["day"]
    assert again["total"] is not None and row["total"] is not None
    assert int(again["total"]) - int(row["total"]) < 1000, "a keepalive, at most"
    assert len(bench.logs("qr_expired")) == 1
    assert not bench.logs("usage_anomaly")
    bench.await_peers(held)
    daemon.stop()
    assert daemon.lines(level="error") == []


TASKS = ("reconcile", "account")


def _freeze(bench: Bench) -> None:
    """Stops mariadbd, so that it answers nothing. The kernel still accepts connections."""
    subprocess.run(["kill", "-STOP", str(bench.database.pid)], check=True)


def test_a_bad_configuration_at_start_is_told_at_once(bench: Bench) -> None:
    """Each fault has one line. No line reports a fault that only follows from another one."""
    bench.daemon.config.write_text("[interfaces.wg0]\nnetworks = 7\n[guard]\nmax_share = 9\n[log]\nlevel = 'loud'\n")
    done = bench.daemon.cli("run", code=2)
    keys = [line.partition("key=")[2].split()[0] for line in done.stderr.splitlines()]
    assert sorted(keys) == ["guard.max_share", "interfaces.wg0.networks", "log.level"]
