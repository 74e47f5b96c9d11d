"""The daemon turns policies into the packet filter: real PostgreSQL, nftables, WireGuard in userspace and packets."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nexavpn_sides import named
from tests.postgres import PrivatePostgres
from tests.real.office import Office, opened_office
from tests.real.running import Ear, wait

WITHHELD = "NOTHING WAS TAKEN AWAY: the guard keeps the access of devices"
FAILED = "the database failed. Devices stay connected, traffic is kept, the work is tried again"
_FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON wgsyncd.node_states EXECUTE FUNCTION full_disk();
"""


@pytest.fixture
def office(postgres: PrivatePostgres, ear: Ear, tmp_path: Path) -> Iterator[Office]:
    with opened_office(postgres, ear, tmp_path) as made:
        yield made


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

    office.tables.policy("not west", "deny", "10.2.0.1/32", to=[("user", named("alice"))], priority=10)
    wait(lambda: office.asks(client, "10.2.0.1") == "refused", "the policy that comes first")
    office.tables.update("policies", named("not west"), priority=900)
    wait(lambda: office.asks(client, "10.2.0.1") == "answer", "the policy that comes first now")

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


def test_access_ends_although_wgsyncd_cannot_write_its_tables(office: Office) -> None:
    """The disk of the database is full: rows and policies can be read, and no commit of wgsyncd works."""
    client, other = office.client(5), office.client(6)
    office.daemon.start()
    wait(lambda: office.has_element(5) and office.has_element(6), "the elements of the devices")
    stream = office.stream(client, "10.1.0.1")
    wait(lambda: "answer" in office.answers(), "an answer")
    assert office.asks(other, "10.1.0.1") == "answer"
    office.tables.sql(_FULL)
    wait(lambda: office.daemon.lines(event=FAILED), "the failing commit")
    office.tables.policy("stop", "deny", "10.1.0.0/16", to=[("device", office.tables.id(5))], priority=1)
    wait(lambda: stream.poll() is not None, "the end of the stream")
    assert office.answers()[-1] == "refused"
    assert office.asks(other, "10.1.0.1") == "answer"
    office.tables.update("devices", office.tables.id(6), status="disabled")
    wait(lambda: not office.has_element(6), "the end of the element")
    wait(lambda: office.bench.peer(6) is None, "the end of the peer, which follows its access")
    assert not office.audited("gateway.access_changed")[1:]
    office.tables.sql("DROP FUNCTION full_disk CASCADE")
    wait(lambda: "gateway.peer_removed" in dict(office.bench.events()), "the audit row of the removal")
    assert [one["metadata"]["changed"] for one in office.audited("gateway.access_changed")] == [0, 1]
    assert office.asks(client, "10.1.0.1") == "refused"
    office.daemon.stop()


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
    assert f"{office.daemon.proposed('approve')} {line['plan']}" in shown
    assert json.loads(office.daemon.cli("plan", "--json", code=2).stdout)["access"]["lost"] == 0
    assert f"{office.daemon.proposed('approve')} {line['plan']}" in office.daemon.cli("status", code=2).stdout
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


def test_a_node_that_starts_without_a_table_and_without_the_database_lets_nothing_through(
    office: Office, postgres: PrivatePostgres
) -> None:
    client = office.client(5)
    office.daemon.start()
    wait(lambda: office.has_element(5), "the element of the device")
    office.daemon.kill()
    office.gateway.run("nft", "delete", "table", "inet", "wgsyncd")
    assert office.asks(client, "10.2.0.1") == "answer", "the peer is live, and nothing refuses"
    postgres.stop()
    try:
        office.daemon.start(ready=False)
        wait(lambda: office.daemon.lines(level="error"), "the trouble with the database")
        assert office.bench.peer(5) is not None
        assert [office.asks(client, one) for one in ("10.1.0.1", "10.2.0.1")] == ["refused", "refused"]
    finally:
        postgres.start()
        office.tables.connect()
    wait(lambda: office.has_element(5), "the element of the device again")
    assert [office.asks(client, one) for one in ("10.1.0.1", "10.2.0.1")] == ["answer", "refused"]
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
