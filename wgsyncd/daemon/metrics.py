"""The metrics in Prometheus' formats, made from the daemon's status at each scrape.

Each scrape reads :class:`DaemonStatus` afresh, so no series outlives its peer or interface. A counter starts at 0
if its labels are known beforehand: otherwise Prometheus' increase() would miss the first event. An event that has not
happened yet has the timestamp 0, so that an alert on ``time() - timestamp`` fires. No other module imports
prometheus_client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import choose_encoder

from wgsyncd import __version__
from wgsyncd.core.inspect.verify import FAULTS
from wgsyncd.core.model import ChangeKind
from wgsyncd.core.reasons import AnomalyKind, Reason, TransitionKind
from wgsyncd.engine.status import DaemonStatus, InterfaceStatus

TASKS = ("account", "notify", "purge", "reconcile", "verify", "watch")
# The errno values with which WireGuard is known to refuse changes. Any other one gets a series when it first occurs.
REFUSALS = ("EINVAL", "EIO", "ENOBUFS", "ENODEV", "ENOMEM", "EPERM", "ESTALE", "ETIMEDOUT")

Labels = TypeVar("Labels", bound=tuple[str, ...])

# For each metric with the label "interface": its name without "wgsyncd_", its HELP text, and how to get its value.
_INTERFACE: tuple[tuple[str, str, Callable[[InterfaceStatus], float]], ...] = (
    ("interface_present", "Whether the interface exists and can be read.", lambda one: one.present),
    ("desired_peers", "Peers that the rows ask for.", lambda one: one.desired),
    ("actual_peers", "Peers that the interface has.", lambda one: one.actual),
    ("online_peers", "Peers whose latest handshake is less than 180 s old.", lambda one: one.online),
    ("frozen_peers", "Live peers that stay as they are because their row is rejected.", lambda one: one.frozen),
    ("foreign_peers", "Live peers that no row names.", lambda one: one.foreign),
    ("drift_peers", "Peers that differed from the desired state after the last apply.", lambda one: one.drift),
    (
        "blocked_removals",
        "Removals that wait until somebody fixes the unreadable key of a row.",
        lambda one: one.blocked,
    ),
    ("guard_withheld_removals", "Removals that wait for an administrator's approval.", lambda one: one.withheld),
    # These two fall when a peer goes, and rate() would take that for a reset. accounted_bytes_total serves for rates.
    (
        "interface_received_bytes",
        "Bytes received from the live peers. Falls when a peer is removed.",
        lambda one: one.received,
    ),
    ("interface_sent_bytes", "Bytes sent to the live peers. Falls when a peer is removed.", lambda one: one.sent),
)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"wgsyncd_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"wgsyncd_{name}", text, value=value)


def _counters(name: str, text: str, labels: list[str], values: Mapping[Labels, float]) -> Metric:
    family = CounterMetricFamily(f"wgsyncd_{name}", text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"wgsyncd_{name}", text, labels=(label,))
    for key, value in sorted(values.items()):
        family.add_metric((key,), value)
    return family


def _from_zero(known: Iterable[str], counts: Mapping[str, float]) -> dict[tuple[str], float]:
    return {(key,): counts.get(key, 0) for key in {*known, *counts}}


class Collector:
    """Makes metric families from the daemon's status."""

    def __init__(self, status: DaemonStatus) -> None:
        self.status = status

    def collect(self) -> Iterator[Metric]:
        """All metric families with their present values."""
        status = self.status
        build = InfoMetricFamily("wgsyncd_build", "The running version of wgsyncd.")
        build.add_metric((), {"version": __version__})
        yield build
        yield from _work(status)
        yield from _interfaces(status)
        yield from _rows(status)
        yield from _safety(status)
        yield from _state(status)
        yield from _per_peer(status)


def _work(status: DaemonStatus) -> Iterator[Metric]:
    tasks = {*TASKS, *status.runs, *status.intervals}
    runs = _from_zero(tasks, status.runs)
    yield _counters("task_runs_total", "Runs of a task, including failed runs.", ["task"], runs)
    failures = _from_zero(tasks, status.failures)
    yield _counters("task_failures_total", "Runs of a task that failed.", ["task"], failures)
    durations = SummaryMetricFamily("wgsyncd_task_duration_seconds", "Duration of the runs of a task.", labels=["task"])
    for (task,), count in sorted(runs.items()):
        durations.add_metric((task,), count_value=int(count), sum_value=status.duration_sums.get(task, 0))
    yield durations
    last = {task: status.durations.get(task, 0) for task in tasks}
    yield _gauges("task_last_duration_seconds", "Duration of the last run of a task.", "task", last)
    yield _gauges("task_interval_seconds", "Configured time between two runs of a task.", "task", status.intervals)
    ended = {task: status.succeeded_at.get(task, 0) for task in tasks}
    yield _gauges(
        "task_last_success_timestamp_seconds", "Time of the last successful run (UNIX time). 0: never.", "task", ended
    )


def _interfaces(status: DaemonStatus) -> Iterator[Metric]:
    interfaces = status.interfaces
    for name, text, value in _INTERFACE:
        yield _gauges(name, text, "interface", {key: float(value(one)) for key, one in interfaces.items()})
    changes: dict[tuple[str, str], float] = {(one, str(kind)): 0 for one in interfaces for kind in ChangeKind}
    changes.update(status.changes)
    yield _counters("changes_total", "Changes of peers that the kernel applied.", ["interface", "action"], changes)
    refused: dict[tuple[str, str], float] = {(one, error): 0 for one in interfaces for error in REFUSALS}
    refused.update(status.change_failures)
    yield _counters(
        "change_failures_total", "Changes of peers that the kernel refused, by errno.", ["interface", "error"], refused
    )
    yield _counter("dump_retries_total", "Dumps that were interrupted, and read again.", status.dump_retries)


def _rows(status: DaemonStatus) -> Iterator[Metric]:
    rejected = {str(reason): status.rejected.get(reason, 0) for reason in Reason}
    yield _gauges("rejected_rows", "Rows that are rejected, by reason.", "reason", {**rejected, **status.rejected})
    transitions = _from_zero(TransitionKind, status.transitions)
    yield _counters(
        "transitions_total", "Transitions of devices that were written to the database.", ["kind"], transitions
    )
    yield _gauges("conditions", "Conditions that the database reports, by type.", "type", status.store_conditions)
    anomalies = _from_zero(AnomalyKind, status.anomalies)
    yield _counters("anomalies_total", "Counter values that no known event explains, by kind.", ["kind"], anomalies)
    yield _gauge(
        "quarantined_deltas", "Deltas above line_rate that wait for an administrator's decision.", status.quarantined
    )
    findings = {check.value: status.findings.get(check.value, 0) for check in FAULTS}
    shown = {**findings, **status.findings}
    yield _gauges("verify_findings", "Discrepancies that the last daily verification found, by check.", "check", shown)
    accounted = {("received",): status.accounted_rx, ("sent",): status.accounted_tx}
    yield _counters(
        "accounted_bytes_total", "Bytes that were accounted, by the server's direction.", ["direction"], accounted
    )


def _safety(status: DaemonStatus) -> Iterator[Metric]:
    """How safe the counted bytes are now, and how long removals take."""
    text = "Bytes counted until this time are in the database or in the spool (UNIX time)."
    yield _gauges("interface_sampled_timestamp_seconds", text, "interface", status.sampled_at)
    locked = status.locked_rows
    yield _gauge("locked_rows", "Devices that the last poll did not account because their row is locked.", locked)
    waiting, oldest = status.spool_pending_counters, status.spooled_since
    yield _gauge("spool_pending_counters", "Counters in the spool that are not accounted yet.", waiting)
    yield _gauge("spool_oldest_timestamp_seconds", "Oldest sample in the spool (UNIX time). 0: it is empty.", oldest)
    yield _gauge("spool_up", "Whether the last write to the spool worked.", status.spool_up)
    yield _counter("spool_corruptions_total", "Spool files that were damaged.", status.spool_corruptions)
    gap = SummaryMetricFamily(
        "wgsyncd_removal_gap_seconds",
        "Time between the last read of a peer's counters and its removal. The peer passes no data meanwhile.",
    )
    gap.add_metric((), count_value=status.removal_gaps, sum_value=status.removal_gap_sum)
    yield gap
    longest = status.removal_gap_longest
    yield _gauge("removal_gap_longest_seconds", "The longest removal gap since the start.", longest)


def _state(status: DaemonStatus) -> Iterator[Metric]:
    yield _gauge("database_up", "Whether the last query of the database worked.", status.database_up)
    yield _counter("notifications_total", "Valid notifications from the application.", status.notifications)
    yield _counter(
        "invalid_notifications_total", "Datagrams that are no valid notification.", status.invalid_notifications
    )
    yield _counter("database_errors_total", "Errors of the database.", status.database_errors)
    read, loaded = status.database_read_at, status.config_loaded_at
    yield _gauge("database_last_read_timestamp_seconds", "When all rows were last read (UNIX time). 0: never.", read)
    yield _gauge("guard_tripped", "Whether removals wait for an administrator's approval.", status.guard_tripped)
    yield _gauge("config_ok", "Whether the last load of the configuration found no fault.", status.config_ok)
    yield _gauge("config_loaded_timestamp_seconds", "When the present configuration was loaded (UNIX time).", loaded)


def _per_peer(status: DaemonStatus) -> Iterator[Metric]:
    """Series with the names that WireGuard exporters commonly use.

    There is no label for the endpoint: each change of address would make a new series.
    """
    left_out = status.peers_without_metrics
    yield _gauge("peers_without_metrics", "Live peers beyond metrics.per_peer_limit.", left_out)
    peers = [(name, peer) for name, one in sorted(status.interfaces.items()) for peer in one.peers]
    if not peers:
        return
    labels = ("interface", "public_key", "allowed_ips", "friendly_name")
    sent = CounterMetricFamily("wireguard_sent_bytes_total", "Bytes sent to the peer.", labels=labels)
    received = CounterMetricFamily("wireguard_received_bytes_total", "Bytes received from the peer.", labels=labels)
    handshake = GaugeMetricFamily(
        "wireguard_latest_handshake_seconds", "Time of the latest handshake (UNIX time). 0: never.", labels=labels
    )
    for name, peer in peers:
        values = (name, peer.public_key, peer.allowed_ips, peer.device)
        sent.add_metric(values, peer.counters.tx)
        received.add_metric(values, peer.counters.rx)
        handshake.add_metric(values, peer.latest_handshake)
    yield sent
    yield received
    yield handshake


def registry(status: DaemonStatus) -> CollectorRegistry:
    """The metrics of the status, of this process and of its Python."""
    whole = CollectorRegistry()
    whole.register(Collector(status))
    ProcessCollector(registry=whole)
    PlatformCollector(registry=whole)
    return whole


def exposition(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Content type and body of a scrape, in the format that the Accept header asks for."""
    encode, kind = choose_encoder(accept)
    return kind, encode(registry)
