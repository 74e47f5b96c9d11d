"""The metrics cover every number of the daemon's status, and the HTTP server serves them."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from wgsyncd import __version__
from wgsyncd.core.model import Counters
from wgsyncd.core.policies.status import FilterStatus
from wgsyncd.core.reasons import Reason
from wgsyncd.daemon import metrics
from wgsyncd.daemon.monitoring import MonitoringServer, pages
from wgsyncd.engine.status import DaemonStatus, InterfaceStatus, PeerStatus, ShapingStatus
from wgsyncd.errors import UserError

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
PEER = PeerStatus(KEY, "10.200.0.5/32", 'MK "1"\n🎉', Counters(rx=10, tx=20), 1.7e9)


def healthy() -> DaemonStatus:
    status = DaemonStatus(
        interfaces={
            "wg0": InterfaceStatus(True, desired=3, actual=2, received=5, withheld=4, blocked=7),
            "wg1": InterfaceStatus(False),
        }
    )
    status.intervals = {"account": 15, "reconcile": 60, "watch": 0.5}
    status.runs.add("reconcile")
    status.record_duration("reconcile", 0.25)
    status.rejected = {Reason.BAD_KEY: 2}
    status.changes.add(("wg0", "add"), 3)
    status.change_failures.add(("wg0", "EPERM"))
    status.accounted_rx = 2**60
    return status


class Http:
    """Runs a monitoring server over a daemon status and asks it."""

    def __init__(self, status: DaemonStatus, host: str = "127.0.0.1") -> None:
        self.alive = True
        self.status = status
        self.server = MonitoringServer(pages(lambda: status, lambda: self.alive))
        self.server.listen((host, 0))
        assert self.server.address
        self.address = self.server.address
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.address[1]}"

    def get(self, path: str, method: str = "GET", accept: str = "") -> tuple[int, str, str]:
        request = urllib.request.Request(self.url + path, method=method, headers={"Accept": accept})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return answer.status, answer.read().decode(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(), error.headers["Content-Type"]

    def families(self) -> dict[str, Metric]:
        return {one.name: one for one in text_string_to_metric_families(self.get("/metrics")[1])}

    def value(self, name: str, **labels: str) -> float | None:
        for family in self.families().values():
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None


@pytest.fixture
def http() -> Iterator[Http]:
    one = Http(healthy())
    yield one
    one.server.close()


def test_every_family_has_help_a_type_and_a_good_name(http: Http) -> None:
    families = http.families()
    assert len(families) > 30
    for name, family in families.items():
        assert family.documentation, name
        assert family.type in ("counter", "gauge", "summary"), name
        assert re.fullmatch("[a-z][a-z0-9_]*", name)
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
            assert not set(sample.labels) & {"endpoint", "le", "job", "instance"}


def test_values(http: Http) -> None:
    assert http.value("wgsyncd_desired_peers", interface="wg0") == 3
    assert http.value("wgsyncd_blocked_removals", interface="wg0") == 7
    assert http.value("wgsyncd_guard_withheld_removals", interface="wg0") == 4
    assert http.value("wgsyncd_blocked_removals", interface="wg1") == 0
    assert http.value("wgsyncd_interface_present", interface="wg1") == 0
    assert http.value("wgsyncd_changes_total", interface="wg0", action="add") == 3
    assert http.value("wgsyncd_changes_total", interface="wg1", action="remove") == 0
    assert http.value("wgsyncd_change_failures_total", interface="wg0", error="EPERM") == 1
    assert http.value("wgsyncd_task_duration_seconds_sum", task="reconcile") == 0.25
    assert http.value("wgsyncd_task_duration_seconds_count", task="reconcile") == 1
    assert http.value("wgsyncd_change_failures_total", interface="wg1", error="EINVAL") == 0
    assert http.value("wgsyncd_task_failures_total", task="account") == 0
    assert http.value("wgsyncd_task_failures_total", task="purge") == 0
    assert http.value("wgsyncd_peers_without_metrics") == 0
    assert http.value("wgsyncd_task_last_success_timestamp_seconds", task="account") == 0
    assert http.value("wgsyncd_accounted_bytes_total", direction="received") == 2**60
    assert http.value("wgsyncd_build_info", version=__version__) == 1
    start = http.value("process_start_time_seconds")
    assert start is not None
    assert start > 1.5e9


def test_all_reasons_are_there_from_the_start(http: Http) -> None:
    rows = {sample.labels["reason"]: sample.value for sample in http.families()["wgsyncd_rejected_rows"].samples}
    assert rows == {str(reason): 2 if reason is Reason.BAD_KEY else 0 for reason in Reason}


def test_no_field_of_health_is_forgotten() -> None:
    """Each number in the status changes the metrics. The exceptions have names here."""
    silent = {"plan_id", "database_error", "database_todo", "reconciled", "last_error", "set_aside"}
    silent |= {"rejections", "pending", "withheld", "interface_errors", "recent", "started_at"}  # for `wgsyncd status`
    silent |= {"rows", "terms", "dumps", "history", "held", "went_back_at", "config_time", "clock_step"}  # for commands
    interfaces, shaping = {"wg0": InterfaceStatus(True)}, ShapingStatus(False, {}, 7, 7, 7, 7, "")
    values = {"interfaces": interfaces, "shaping": shaping, "policies": FilterStatus(withheld=7), "is_active": False}
    before = metrics.registry(DaemonStatus)
    for field in (one for one in dataclasses.fields(DaemonStatus) if one.name not in silent):
        status = DaemonStatus()
        value: object = not getattr(status, field.name)
        if isinstance(getattr(status, field.name), Mapping):
            value = {("wg0", "add") if field.name.startswith("change") else "reconcile": 7}
        setattr(status, field.name, values.get(field.name, value))
        assert exposed(metrics.registry(partial(copy.copy, status))) != exposed(before), field.name


def exposed(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if line.startswith("wgsyncd")]


def test_no_series_per_peer_and_no_key_unless_asked_for(http: Http) -> None:
    text = http.get("/metrics")[1]
    assert "wireguard_" not in text
    assert "public_key" not in text


def test_series_per_peer_come_and_go(http: Http) -> None:
    http.status.interfaces = {"wg0": InterfaceStatus(True, peers=(PEER,))}
    labels = {"interface": "wg0", "public_key": KEY, "allowed_ips": "10.200.0.5/32", "friendly_name": PEER.device}
    assert http.value("wireguard_sent_bytes_total", **labels) == 20
    assert http.value("wireguard_received_bytes_total", **labels) == 10
    assert http.value("wireguard_latest_handshake_seconds", **labels) == 1.7e9
    http.status.interfaces = {"wg0": InterfaceStatus(True)}
    assert "wireguard_" not in http.get("/metrics")[1]


def test_openmetrics_too(http: Http) -> None:
    http.status.interfaces = {"wg0": InterfaceStatus(True, peers=(PEER,))}
    _, text, kind = http.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    names = {one.name for one in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert {"wgsyncd_build", "wgsyncd_task_runs", "wireguard_sent_bytes"} <= names


def test_promtool_has_nothing_to_say(http: Http) -> None:
    http.status.interfaces = {"wg0": InterfaceStatus(True, peers=(PEER,))}
    text = http.get("/metrics")[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_paths_and_methods(http: Http) -> None:
    assert http.get("/metrics?x=1")[0] == 200
    assert http.get("/metrics", "HEAD")[:2] == (200, "")
    for path in ("/metrics/", "/metricsx", "/favicon.ico", "/..", "/%6Detrics"):
        assert http.get(path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "NONSENSE"):
        assert http.get("/metrics", method)[0] == 405


def test_the_root_lists_the_paths_and_there_is_nothing_to_change_over_tcp(http: Http) -> None:
    assert http.get("/")[:2] == (200, "GET /metrics\nGET /healthz\nGET /readyz\n")
    for command in ("status", "plan", "approve", "sync", "reload"):
        for method in ("GET", "POST"):
            assert http.get(f"/{command}", method)[0] == 404


def test_health_and_readiness(http: Http) -> None:
    assert http.get("/healthz")[:2] == (200, "ok\n")
    assert http.get("/readyz")[:2] == (503, "no complete reconcile since start\n")
    http.status.reconciled = True
    http.status.database_error = f"2003 refused\n{KEY}"
    assert http.get("/readyz")[:2] == (503, "the database does not serve wgsyncd: 2003 refused\\nxTIBA5rb…\n")
    http.status.database_up = True
    assert http.get("/readyz")[:2] == (200, "ok\n")
    http.alive = False
    assert http.get("/healthz")[0] == 503


def nothing() -> MonitoringServer:
    return MonitoringServer(pages(DaemonStatus, lambda: True))


def test_the_port_is_free_at_once() -> None:
    port = 0
    for _ in range(3):
        server = nothing()
        server.listen(("127.0.0.1", port))
        assert server.address
        port = server.address[1]
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz").close()  # this leaves a connection in TIME_WAIT
        server.close()


def test_listens_only_where_told(http: Http) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", http.address[1]), timeout=5)


def test_ipv6() -> None:
    http = Http(healthy(), "::1")
    assert http.get("/healthz")[0] == 200
    http.server.close()


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        (("192.0.2.1", 9586), "192.0.2.1:9586: cannot listen there: cannot assign requested address"),
        (("2001:db8::1", 9586), "[2001:db8::1]:9586: cannot listen there: cannot assign"),
        (("no such host", 9586), "no such host:9586: cannot listen there: "),
    ],
)
def test_cannot_listen(listen: tuple[str, int], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        nothing().listen(listen)


def test_port_is_taken(http: Http) -> None:
    with pytest.raises(UserError, match="address already in use"):
        nothing().listen(http.address)


def test_a_thousand_peers_are_quick(http: Http) -> None:
    peers = tuple(dataclasses.replace(PEER, public_key=f"{n:043}=") for n in range(1000))
    http.status.interfaces = {"wg0": InterfaceStatus(True, peers=peers)}
    began = time.monotonic()
    assert http.get("/metrics")[1].count("wireguard_sent_bytes_total{") == 1000
    assert time.monotonic() - began < 2


INHERIT = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from wgsyncd.daemon.monitoring import MonitoringServer, pages
from wgsyncd.engine.status import DaemonStatus
server = MonitoringServer(pages(DaemonStatus, lambda: True))
for _ in range(2):
    server.listen(("127.0.0.1", 1))
    print(server.address[1], flush=True)
    sys.stdin.readline()
    server.close()
"""


def test_socket_of_systemd() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        port = given.getsockname()[1]
        child = subprocess.Popen(
            [sys.executable, "-c", INHERIT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "LISTEN_FDS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
            preexec_fn=lambda: os.dup2(given.fileno(), 3, inheritable=True),  # noqa: PLW1509
            close_fds=False,
        )
        assert child.stdin
        assert child.stdout
        for _ in range(2):  # the second turn is after close(), as after a reload
            assert int(child.stdout.readline()) == port
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).close()
            child.stdin.write("\n")
            child.stdin.flush()
        child.communicate()
        assert child.returncode == 0
