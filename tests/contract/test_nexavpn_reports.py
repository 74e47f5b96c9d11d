"""What the admin's commands read of NexaVPN's tables and of wgsyncd's own."""

from __future__ import annotations

from contextlib import closing

from tests.committing import BUCKET, DAY, commit, posted
from tests.nexavpn_sides import NexavpnTables
from tests.samples import NOW, calendar
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.inspect import verify
from wgsyncd.core.inspect.answers import AuditRow
from wgsyncd.core.inspect.names import DeviceName
from wgsyncd.core.model import Counters
from wgsyncd.core.state import WriteBatch
from wgsyncd.stores.nexavpn.reports import NexaReports


def test_bytes_are_reported_by_time_and_by_device(nexa: NexavpnTables) -> None:
    store, other = nexa.store(), nexa.store(node="r650")
    names = {number: str(nexa.id(number)) for number in (5, 6, 7)}
    for number in (5, 6):
        nexa.insert(number)
    day = calendar(NOW - 86400).today
    commit(store, WriteBatch(postings=(
        posted(nexa.id(5), 50, 5), posted(nexa.id(6), 60, 6, day=day), posted(nexa.id(7), 7, 7),
    )))  # fmt: skip
    commit(other, WriteBatch(postings=(posted(nexa.id(5), 1000, 1),)))
    assert nexa.posted(5) == Counters(1050, 6), "the view has the sum over all nodes"
    with closing(NexaReports(nexa.settings())) as reports:
        assert reports.names() == [DeviceName(nexa.id(n), names[n], "alice", f"laptop {n}") for n in (5, 6)]
        assert reports.names(gone=True) == [DeviceName("", names[7], "")]
        assert (reports.coverage().first_day, reports.coverage().first_bucket) == (day, BUCKET)
        assert reports.days(day, DAY) == {day: Counters(60, 6), DAY: Counters(57, 12)}
        assert reports.days(day, DAY, [names[5]]) == {DAY: Counters(50, 5)}
        assert reports.days(day, DAY, []) == {}
        assert reports.buckets(BUCKET, BUCKET + 1) == {BUCKET: Counters(117, 18)}
        assert reports.buckets(BUCKET + 1, BUCKET + 900) == {}
        assert reports.devices_of_days(DAY, DAY) == {names[5]: Counters(50, 5), names[7]: Counters(7, 7)}
        assert reports.devices_of_buckets(BUCKET, BUCKET + 1)[names[6]] == Counters(60, 6)


def test_a_device_has_details_and_an_audit_trail(nexa: NexavpnTables) -> None:
    store = nexa.store()
    nexa.insert(5)
    device = str(nexa.id(5))
    facts = AuditFacts(interface="wg0", address="10.200.0.5/32")
    audit = (AuditEvent(AuditAction.PEER_ADDED, device, facts), AuditEvent(AuditAction.CONFIG_RELOADED, "r640"))
    commit(store, WriteBatch(postings=(posted(nexa.id(5), 50, 5, NOW),), audit=audit))
    with closing(NexaReports(nexa.settings())) as reports:
        found = reports.details(nexa.id(5))
        assert found is not None
        assert (found.texts["name"], found.bytes["total"]) == ("laptop 5", Counters(50, 5))
        assert (found.times["last seen"], found.times["approved"]) == (NOW, None)
        assert reports.details(nexa.id(6)) is None
        at = calendar().format_local(NOW)
        assert reports.audit(device, 9) == [AuditRow(at, "peer_added", "Peer added on wg0 with 10.200.0.5/32")]
        (row,) = store.snapshot().rows
        assert all(rule.holds for rule in reports.rules(row, NOW))


def test_figures_and_sums_agree(nexa: NexavpnTables) -> None:
    store = nexa.store()
    nexa.insert(5)
    commit(store, WriteBatch(postings=(posted(nexa.id(5), 50, 5, NOW),)))
    usage = store.device_usage([str(nexa.id(5))], calendar())
    assert usage.figures == {nexa.id(5): {"24h": Counters(50, 5), "month": Counters(50, 5)}}
    assert sum(usage.hours[str(nexa.id(5))]) == 55
    assert list(verify.check_totals(store.device_totals(verify.make_ranges(calendar())))) == []
    nexa.sql("UPDATE wgsyncd.totals SET rx = 49")
    told = verify.check_totals(store.device_totals(verify.make_ranges(calendar())))
    assert [(one.name, one.value, one.expected) for one in told] == [("rx in total", 49, 50)]
