"""What happened to the packet filter reaches the metrics, `wgsyncd status` and systemd's status line."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

from prometheus_client import generate_latest

from tests.asked_daemon import Work
from tests.node import Node
from tests.shell.conftest import Run
from wgsyncd.core.policies.status import PLANE, FilterStatus, Traffic
from wgsyncd.daemon import metrics
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.engine.status_update import summary_line

PLAN = "90f0bf914384d5a1c07e62fb8d3390ac"


def exposed(found: FilterStatus) -> list[str]:
    return generate_latest(metrics.registry(lambda: DaemonStatus(policies=found))).decode().splitlines()


def test_no_field_of_the_packet_filter_is_forgotten() -> None:
    silent = {"plan_id", "culprit", "ruleset"}  # texts for `wgsyncd status`
    values = {"accepted": Traffic(7, 8), "refused": {"wg0": Traffic(7, 8)}}
    before = [line for line in exposed(FilterStatus()) if line.startswith("wgsyncd")]
    for field in (one for one in fields(FilterStatus) if one.name not in silent):
        found = FilterStatus()
        setattr(found, field.name, values.get(field.name, 7))
        assert [line for line in exposed(found) if line.startswith("wgsyncd")] != before, field.name


def test_status_says_what_the_filter_refused_and_who_changed_it(node: Node, work: Work, run: Run) -> None:
    assert json.loads(run("status", "--json")[1][0])["policies"] is None
    found = FilterStatus(devices=3, profiles=2, restorations=1, drifts=1, culprit="nft (17)")
    found.refused = {"wg0": Traffic(9, 800), "wg1": Traffic()}
    node.status.policies = found
    text = "\n".join(run("status")[1])
    assert (
        "policies: 3 addresses in 2 access lists, packets refused: wg0 9, the packet filter was put right 1 time"
        in text
    )
    assert "last because of nft (17)" in text
    report = json.loads(run("status", "--json")[1][0])["policies"]
    assert report["refused"] == {name: asdict(one) for name, one in found.refused.items()}
    assert (report["error"], report["plan"], report["drifts"]) == ("", "", 1)


def test_rows_by_the_key_of_their_preshared_key_are_told(node: Node, work: Work, run: Run) -> None:
    node.status.sealed = {"fra1": 0, "fra2": 12}
    assert "preshared keys, rows by key id: fra1 0, fra2 12" in run("status")[1]
    assert json.loads(run("status", "--json")[1][0])["preshared_keys"] == node.status.sealed
    lines = generate_latest(metrics.registry(lambda: node.status)).decode().splitlines()
    assert {'wgsyncd_sealed_rows{key_id="fra1"} 0.0', 'wgsyncd_sealed_rows{key_id="fra2"} 12.0'} <= set(lines)


def test_a_loss_of_access_that_waits_is_told_with_how_to_approve_it(node: Node, work: Work, run: Run) -> None:
    node.status.policies = FilterStatus(withheld=40, plan_id=PLAN)
    code, lines = run("status")
    assert (code, lines[0].partition(":")[0]) == (2, "FAILING")
    text = "\n".join(lines)
    assert "access: NOTHING WAS TAKEN AWAY: 40 devices would lose all access" in text
    assert f"wgsyncd approve {PLAN}" in text
    assert summary_line(node.status).startswith("NO ACCESS TAKEN AWAY: kept for 40 devices")


def test_a_filter_that_fails_is_told_with_its_error(node: Node, work: Work, run: Run) -> None:
    node.status.policies, node.status.plane_errors = FilterStatus(), {PLANE: "packet filter: nft: it refuses"}
    code, lines = run("status")
    assert code == 2
    text = "\n".join(lines)
    assert "policies: they cannot be enforced: packet filter: nft: it refuses. The old rules stay" in text
    assert "policies not enforced" in summary_line(node.status)
