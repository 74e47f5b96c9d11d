"""The daemon turns policies into the packet filter: real PostgreSQL, nftables, WireGuard in userspace and packets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nexavpn_sides import named
from tests.postgres import PrivatePostgres
from tests.real.nexavpn_bench import Bench, opened
from tests.real.running import Ear, wait
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import TUNNEL, Customer, Namespace

_ECHO = """
import socket, sys
served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
served.bind((sys.argv[1], 7777))
print("ready", flush=True)
while True:
    served.sendto(*served.recvfrom(99))
"""
# It asks again and again until it is refused, also if an answer was dropped. With the second argument it asks once.
_ASK = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(1)
asking.connect((sys.argv[1], 7777))
try:
    for _ in range(60) if sys.argv[2:] else iter(int, 1):
        asking.send(b"?")
        try:
            asking.recv(99)
        except TimeoutError:
            continue
        print("answer", flush=True)
        if sys.argv[2:]:
            break
    else:
        print("silence")
except OSError:
    print("refused")
"""


WITHHELD = "NOTHING WAS TAKEN AWAY: the guard keeps the access of devices"


class Office:
    """The bench with a network behind the gateway, and a client whose tunnel leads there."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench, self.folder = bench, folder
        self.tables, self.daemon, self.gateway = bench.tables, bench.daemon, bench.world.server
        self.network = Namespace()

    def open(self) -> None:
        self.gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.gateway.ip(
            f"link add office type veth peer name eth0 netns {self.network.holder.pid}",
            "address add 10.1.0.254/16 dev office", "link set office up", "route add 10.2.0.0/16 dev office",
        )  # fmt: skip
        self.network.ip(
            "address add 10.1.0.1/16 dev eth0", "address add 10.2.0.1/16 dev eth0", "link set eth0 up",
            "route add 10.200.0.0/24 via 10.1.0.254",
        )  # fmt: skip
        for address in ("10.1.0.1", "10.2.0.1"):
            log = self.folder / address
            self.network.start(sys.executable, "-c", _ECHO, address, log=log)
            wait(lambda log=log: "ready" in log.read_text(), "the host in the office")

    def client(self, number: int) -> Customer:
        """A device whose tunnel leads to all of 10.0.0.0/8."""
        client = self.bench.customer(number)
        server = self.bench.world.interfaces["wg0"]
        client.namespace.run("wg", "set", TUNNEL, "peer", server.keys.public, "allowed-ips", "10.0.0.0/8")
        client.namespace.ip(f"route add 10.0.0.0/8 dev {TUNNEL} src 10.200.0.{number}")
        return client

    def asks(self, client: Customer, address: str) -> str:
        """What a client gets from an address: answer, refused or silence."""
        return client.namespace.run(sys.executable, "-c", _ASK, address, "once").strip()

    def stream(self, client: Customer, address: str) -> subprocess.Popen[bytes]:
        """Questions and answers without end, in the file ``stream``."""
        return client.namespace.start(sys.executable, "-c", _ASK, address, log=self.folder / "stream")

    def answers(self) -> list[str]:
        return (self.folder / "stream").read_text().split()

    def ruleset(self) -> str | None:
        """The table as text. None: there is none."""
        try:
            return self.gateway.run("nft", "list", "table", "inet", "wgsyncd")
        except CommandFailed:
            return None

    def configure(self, old: str, new: str) -> None:
        text = self.daemon.config.read_text(encoding="utf-8")
        assert old in text
        self.daemon.config.write_text(text.replace(old, new), encoding="utf-8")

    def audited(self, *names: str) -> list[dict[str, Any]]:
        """The audit rows with these event types."""
        return [one for one in self.tables.logs() if one["event_type"] in names]

    def has_element(self, number: int) -> bool:
        return str(self.tables.id(number)) in (self.ruleset() or "")


@pytest.fixture
def office(postgres: PrivatePostgres, ear: Ear, tmp_path: Path) -> Iterator[Office]:
    with opened(postgres, ear, tmp_path) as bench:
        made = Office(bench, tmp_path)
        try:
            made.open()
            made.configure("enforce = false", 'enforce = true\nrefuse = "reject"')
            bench.tables.policy("east", "allow", "10.1.0.0/16", to=[("user", named("alice"))])
            bench.tables.policy("far", "allow", "10.9.0.0/16", to=[("user", named("alice"))])
            yield made
        finally:
            made.network.close()


def test_a_device_reaches_what_its_policies_allow(office: Office) -> None:
    client = office.client(5)
    office.daemon.start()
    wait(lambda: office.has_element(5), "the element of the device")
    assert office.asks(client, "10.1.0.1") == "answer"
    assert office.asks(client, "10.2.0.1") == "refused"
    assert office.asks(client, "10.200.0.1") == "refused", "the gateway itself is judged, too"

    office.tables.policy("west", "allow", "10.2.0.0/16", to=[("device", office.tables.id(5))])
    wait(lambda: "10.2." in (office.ruleset() or ""), "the new policy in the ruleset")
    assert office.asks(client, "10.2.0.1") == "answer"

    stream = office.stream(client, "10.1.0.1")
    wait(lambda: "answer" in office.answers(), "an answer")
    office.tables.update("policies", named("east"), deleted_at="2026-01-01")
    wait(lambda: stream.poll() is not None, "the end of the stream")
    assert office.answers()[-1] == "refused"
    assert office.asks(client, "10.2.0.1") == "answer"

    office.daemon.signal(signal.SIGTERM)
    assert office.daemon.wait() == 0
    assert office.asks(client, "10.1.0.1") == "refused", "the table stays"
    office.configure("enforce = true", "enforce = false")
    office.daemon.start()
    assert office.ruleset() is None
    assert office.asks(client, "10.1.0.1") == "answer"


def test_emptied_tables_cut_nobody_off_until_an_admin_approves(office: Office) -> None:
    clients = [office.client(number) for number in (5, 6)]
    office.daemon.start()
    wait(lambda: office.has_element(5) and office.has_element(6), "the elements of the devices")
    assert "no changes" in office.daemon.cli("plan").stdout
    assert "nothing is withheld" in office.daemon.cli("approve", "0" * 32, code=1).stderr
    office.tables.sql("DELETE FROM policy_destinations")
    wait(lambda: office.daemon.lines(event=WITHHELD), "the guard")
    assert [office.asks(one, "10.1.0.1") for one in clients] == ["answer", "answer"]
    (line,) = office.daemon.lines(event=WITHHELD)
    shown = office.daemon.cli("plan", code=2).stdout
    assert "2 devices would lose all access" in shown
    assert f"wgsyncd approve {line['plan']}" in shown
    assert json.loads(office.daemon.cli("plan", "--json", code=2).stdout)["access"]["lost"] == 0
    assert f"wgsyncd approve {line['plan']}" in office.daemon.cli("status", code=2).stdout
    assert "is not the plan of now" in office.daemon.cli("approve", "0" * 32, code=1).stderr
    assert "approved and carried out" in office.daemon.cli("approve", str(line["plan"])).stdout
    assert [office.asks(one, "10.1.0.1") for one in clients] == ["refused", "refused"]
    assert "nothing is withheld" in office.daemon.cli("approve", str(line["plan"]), code=1).stderr
    told = office.audited("gateway.access_withheld", "gateway.access_approved")
    assert [(one["status"], one["metadata"]["count"], one["metadata"]["plan"]) for one in told] == [
        ("warning", 2, line["plan"]), ("success", 2, line["plan"])
    ]  # fmt: skip
    assert "root" in str(told[1]["message"])
    office.daemon.stop()


def test_a_faulty_policy_is_told_and_gives_no_access(office: Office) -> None:
    client = office.client(5)
    office.tables.policy("west", "maybe", "10.2.0.0/16", to=[("device", office.tables.id(5))])
    office.daemon.start()
    wait(lambda: office.audited("gateway.policy_faulty"), "the audit row")
    (row,) = office.audited("gateway.policy_faulty")
    policy = named("west")
    assert (row["entity_type"], row["entity_id"], row["status"]) == ("policy", policy, "warning")
    assert row["metadata"]["detail"] == "effect"
    assert office.asks(client, "10.2.0.1") == "refused"
    report = json.loads(office.daemon.cli("status", "--json", code=1).stdout)
    assert report["conditions"]["policy_faulty"] == 1
    office.tables.update("policies", policy, effect="allow")
    wait(lambda: office.audited("gateway.policy_faulty_cleared"), "the end of the condition")
    assert office.asks(client, "10.2.0.1") == "answer"
    told = office.audited("gateway.access_changed")
    assert [one["metadata"]["gained"] + one["metadata"]["changed"] for one in told] == [1, 1]
    office.daemon.stop()


def test_a_gateway_whose_row_differs_from_its_interface_is_told_and_served(office: Office) -> None:
    client = office.client(5)
    office.daemon.start()
    wait(lambda: office.has_element(5), "the element of the device")
    assert not office.audited("gateway.gateway_drift")
    assert json.loads(office.daemon.cli("status", "--json").stdout)["policies"]["stale_profiles"] == 1
    office.tables.update("gateways", named("wg0"), listen_port=1)
    wait(lambda: office.audited("gateway.gateway_drift"), "the audit row")
    (row,) = office.audited("gateway.gateway_drift")
    assert (row["entity_type"], row["entity_id"], row["status"]) == ("gateway", named("wg0"), "warning")
    assert row["metadata"]["detail"] == "listen_port"
    assert office.asks(client, "10.1.0.1") == "answer"
    assert 'wgsyncd_conditions{type="gateway_drift"} 1.0' in office.daemon.get("/metrics")
    office.tables.update("gateways", named("wg0"), listen_port=office.bench.world.interfaces["wg0"].listen_port)
    wait(lambda: office.audited("gateway.gateway_drift_cleared"), "the end of the drift")
    office.daemon.stop()


def test_a_reload_ends_and_begins_enforcement(office: Office) -> None:
    office.client(5)
    office.daemon.start()
    wait(lambda: office.has_element(5), "the element of the device")
    office.configure("enforce = true", "enforce = false")
    office.daemon.signal(signal.SIGHUP)
    wait(lambda: office.ruleset() is None, "the end of the table")
    wait(lambda: "gateway.policies_off" in dict(office.bench.events()), "the audit row")
    office.configure("enforce = false", "enforce = true")
    office.daemon.signal(signal.SIGHUP)
    wait(lambda: office.has_element(5), "the element of the device")
    office.configure("[interfaces.wg1]", '[interfaces.wg2]\nstore_name = "wg1"')
    office.daemon.signal(signal.SIGHUP)
    wait(lambda: '"wg2"' in (office.ruleset() or ""), "the new interface in the ruleset")
    assert office.has_element(5)
    office.daemon.stop()


def test_what_another_program_does_to_the_table_is_put_right_while_the_daemon_idles(office: Office) -> None:
    client = office.client(5)
    office.configure(
        'poll_interval = "1s"\nwatch_interval = "100ms"',
        'poll_interval = "1h"\nresync_interval = "1h"\nwatch_interval = "0s"',
    )
    office.daemon.start()
    wait(lambda: office.has_element(5), "the element of the device")
    for number in (1, 2):
        office.gateway.run("nft", "flush", "ruleset")
        wait(lambda n=number: len(office.daemon.lines(event="the packet filter is as before again")) == n, "the repair")
        assert office.has_element(5)
        assert office.asks(client, "10.2.0.1") == "refused"
    told = office.daemon.lines(event="another program changed the packet filter")
    assert [str(one["process"]).partition(" ")[0] for one in told] == ["nft", "nft"]
    office.daemon.cli("sync")
    (row,) = office.audited("gateway.ruleset_restored")
    assert (row["status"], row["entity_type"], row["metadata"]["count"]) == ("warning", "gateway", 1)
    assert str(row["metadata"]["program"]).startswith("nft (")
    report = json.loads(office.daemon.cli("status", "--json").stdout)["policies"]
    assert (report["restorations"], report["last_program"].partition(" ")[0]) == (2, "nft")
    office.configure('refuse = "reject"', 'refuse = "drop"')
    office.daemon.signal(signal.SIGHUP)  # the new agent has the same filter
    wait(lambda: "reject" not in (office.ruleset() or "reject"), "the reload")
    office.gateway.run("nft", "delete", "table", "inet", "wgsyncd")
    wait(lambda: office.has_element(5), "the third repair")
    office.daemon.stop()


def test_without_a_packet_filter_the_daemon_does_not_start(office: Office) -> None:
    hide = 'mount --bind /dev/null "$(command -v nft)"; exec "$@"'
    office.daemon.prefix = ("unshare", "--mount", "sh", "-c", hide, "sh")
    office.daemon.start(ready=False)
    assert office.daemon.wait() == 1
    (line,) = office.daemon.lines(event="wgsyncd does not start")
    assert "nexavpn.policies.enforce = true: cannot be done: packet filter" in str(line["why"])
    assert "Install Debian's package nftables" in str(line["why"])


def test_without_the_capability_the_daemon_does_not_start_and_says_what_it_needs(office: Office) -> None:
    office.daemon.prefix = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    office.daemon.start(ready=False)
    assert office.daemon.wait() == 1
    (line,) = office.daemon.lines(event="wgsyncd does not start")
    assert "EPERM: the kernel does not let wgsyncd watch its rules" in str(line["why"])
    assert "the service needs the capability CAP_NET_ADMIN" in str(line["why"])
