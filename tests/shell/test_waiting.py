"""Whatever waits in the database or in the spool is in a metric, an alert, on the dashboard and in `status`."""

from __future__ import annotations

import re

import msgspec
import pytest
from prometheus_client import generate_latest

from tests.monitoring import alerts, names, queries
from wgsyncd.config import resources
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.daemon import metrics
from wgsyncd.engine.reports.status_document import StatusReport
from wgsyncd.engine.status import DaemonStatus

# By table, or the spool: the metrics of what waits there, and the fields of `status`.
PLACES = {
    "wgsyncd_quarantine": {"quarantined_deltas": "quarantined"},
    "wgsyncd_set_aside": {"locked_rows": "locked_rows", "refused_rows": "refused_rows"},
    "wgsyncd_unwritten": {"unwritten_audit_rows": "unwritten_audit_rows"},
    "the spool": {"spool_pending_counters": "spool_pending_counters"},
}
PAIRS = [pair for pairs in PLACES.values() for pair in pairs.items()]


def full() -> DaemonStatus:
    """A status in which something waits in each place."""
    aside = [SetAside("a", Obstacle.LOCKED, "", 1.0), SetAside("b", Obstacle.REFUSED, "1264", 1.0)]
    return DaemonStatus(quarantined=1, set_aside=aside, unwritten_audit_rows=1, spool_pending_counters=1)


@pytest.mark.parametrize(("metric", "field"), PAIRS)
def test_what_waits_is_measured_alerted_drawn_and_shown(metric: str, field: str) -> None:
    name = f"wgsyncd_{metric}"
    assert f"{name} 1.0" in generate_latest(metrics.registry(full)).decode()
    assert name in {one for alert in alerts() for one in names(alert.expr)} or metric == "spool_pending_counters"
    assert name in {one for _, expr in queries() for one in names(expr)}
    assert field in {one.name for one in msgspec.structs.fields(StatusReport)}


def test_no_place_is_forgotten() -> None:
    """These tables keep the state of the node. In all others, something waits."""
    state = {"schema", "nodes", "boots", "interfaces", "peers", "conditions", "buckets", "days", "moves", "removals"}
    tables = re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", resources.text("sql/mikyun/wgsyncd.sql"))
    assert {*tables} - {f"wgsyncd_{one}" for one in state} == PLACES.keys() - {"the spool"}
