"""The metrics, as Prometheus reads them. The only importer of prometheus_client.

Every scrape reads :class:`Health` afresh, so that no series outlives what it describes. A counter starts at 0 wherever
its labels are known beforehand: without that, Prometheus' increase() would miss the first event. What has not happened
yet has the timestamp 0, so that ``time() - timestamp`` alerts on it too.
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
from wgsyncd.core.reasons import Reason
from wgsyncd.engine.status import DaemonStatus, InterfaceStatus

TASKS = ("account", "hint", "purge", "reconcile", "verify", "watch")
TRANSITIONS = ("activate", "expire", "first_handshake")
ANOMALIES = ("reset", "quarantined")
# What WireGuard is known to refuse changes with; another errno has a series from its first time on.
REFUSALS = ("EINVAL", "EIO", "ENOBUFS", "ENODEV", "ENOMEM", "EPERM", "ESTALE", "ETIMEDOUT")

Labels = TypeVar("Labels", bound=tuple[str, ...])

# name without "wgsyncd_", HELP, its value, of each interface
_INTERFACE: tuple[tuple[str, str, Callable[[InterfaceStatus], float]], ...] = (
    ("interface_present", "Whether the interface exists and can be read.", lambda one: one.present),
    ("desired_peers", "Peers that the database wants.", lambda one: one.desired),
    ("actual_peers", "Peers that the interface has.", lambda one: one.actual),
    ("online_peers", "Peers whose latest handshake is less than 180 s old.", lambda one: one.online),
    ("frozen_peers", "Live peers left as they are because their row is rejected.", lambda one: one.frozen),
    ("foreign_peers", "Live peers that no row names.", lambda one: one.foreign),
    ("drift_peers", "Peers that differed from what is wanted after the last apply.", lambda one: one.drift),
    ("unclear_removals", "Removals that wait until a row's unreadable key is mended.", lambda one: one.blocked),
    ("guard_withheld_removals", "Removals that wait for an admin's approval.", lambda one: one.withheld),
    # Gauges, because they fall when a peer goes: rate() would take that for a reset. Rates: booked_bytes_total.
    ("interface_received_bytes", "Bytes received, over the live peers; falls when one goes.", lambda one: one.received),
    ("interface_sent_bytes", "Bytes sent, over the live peers; falls when one goes.", lambda one: one.sent),
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
    """:class:`Health` as metric families."""

    def __init__(self, status: DaemonStatus) -> None:
        self.status = status

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        status = self.status
        build = InfoMetricFamily("wgsyncd_build", "The version that runs.")
        build.add_metric((), {"version": __version__})
        yield build
        yield from _work(status)
        yield from _interfaces(status)
        yield from _rows(status)
        yield from _calendar(status)
        yield from _state(status)
        yield from _per_peer(status)


def _work(status: DaemonStatus) -> Iterator[Metric]:
    tasks = {*TASKS, *status.runs, *status.intervals}
    runs = _from_zero(tasks, status.runs)
    yield _counters("task_runs_total", "Runs of a task, failed ones too.", ["task"], runs)
    failures = _from_zero(tasks, status.failures)
    yield _counters("task_failures_total", "Runs of a task that failed.", ["task"], failures)
    durations = SummaryMetricFamily("wgsyncd_task_duration_seconds", "Time that runs of a task took.", labels=["task"])
    for (task,), count in sorted(runs.items()):
        durations.add_metric((task,), count_value=int(count), sum_value=status.duration_sums.get(task, 0))
    yield durations
    last = {task: status.durations.get(task, 0) for task in tasks}
    yield _gauges("task_last_duration_seconds", "Time that the last run of a task took.", "task", last)
    yield _gauges("task_interval_seconds", "Configured time between runs of a task.", "task", status.intervals)
    ended = {task: status.succeeded_at.get(task, 0) for task in tasks}
    yield _gauges("task_last_success_timestamp_seconds", "When it last succeeded (UNIX time), 0: never.", "task", ended)


def _interfaces(status: DaemonStatus) -> Iterator[Metric]:
    interfaces = status.interfaces
    for name, text, value in _INTERFACE:
        yield _gauges(name, text, "interface", {key: float(value(one)) for key, one in interfaces.items()})
    changes: dict[tuple[str, str], float] = {(one, str(kind)): 0 for one in interfaces for kind in ChangeKind}
    changes.update(status.changes)
    yield _counters("changes_total", "Changes applied to peers.", ["interface", "action"], changes)
    refused: dict[tuple[str, str], float] = {(one, error): 0 for one in interfaces for error in REFUSALS}
    refused.update(status.change_failures)
    yield _counters("change_failures_total", "Changes that were refused, by errno.", ["interface", "error"], refused)
    yield _counter("dump_retries_total", "Dumps read again because they were torn.", status.dump_retries)


def _rows(status: DaemonStatus) -> Iterator[Metric]:
    rejected = {str(reason): status.rejected.get(reason, 0) for reason in Reason}
    yield _gauges("rejected_rows", "Rows that cannot be followed.", "reason", {**rejected, **status.rejected})
    transitions = _from_zero(TRANSITIONS, status.transitions)
    yield _counters("transitions_total", "Steps in devices' lives written to the database.", ["kind"], transitions)
    yield _gauges("conditions", "Conditions that the database reports.", "type", status.store_conditions)
    anomalies = _from_zero(ANOMALIES, status.anomalies)
    yield _counters("anomalies_total", "Counter values that no known event explains.", ["kind"], anomalies)
    yield _gauge("quarantined_deltas", "Traffic held back for an admin because no link carries it.", status.quarantined)
    findings = {check.value: status.findings.get(check.value, 0) for check in FAULTS}
    yield _gauges(
        "verify_findings",
        "What did not add up in the last daily verification.",
        "check",
        {**findings, **status.findings},
    )
    booked = {("received",): status.accounted_rx, ("sent",): status.accounted_tx}
    yield _counters("booked_bytes_total", "Bytes committed, as the server saw them.", ["direction"], booked)


def _calendar(status: DaemonStatus) -> Iterator[Metric]:
    """How much could be lost, at most, if something happened now."""
    yield _gauges(
        "interface_sampled_timestamp_seconds",
        "What was counted until then is kept, in the database or in the spool (UNIX time).", "interface",
        status.sampled_at,
    )  # fmt: skip
    locked = status.locked_rows
    yield _gauge("locked_rows", "Devices not booked last time because somebody else has their row locked.", locked)
    yield _gauge(
        "spooled_counters", "Counters in the spool: sampled, but not booked yet.", status.spool_pending_counters
    )
    oldest = status.spooled_since
    yield _gauge("spool_oldest_timestamp_seconds", "Its oldest sample (UNIX time), 0: it is empty.", oldest)
    yield _gauge("spool_ok", "Whether the last write to the spool worked.", status.spool_up)
    yield _counter("spools_set_aside_total", "Spools set aside because they were damaged.", status.spool_corruptions)
    window = SummaryMetricFamily(
        "wgsyncd_removal_window_seconds",
        "Time between the last look at the counters of peers and their removal; they pass no data meanwhile.",
    )
    window.add_metric((), count_value=status.removal_gaps, sum_value=status.removal_gap_sum)
    yield window
    longest = status.removal_gap_longest
    yield _gauge("removal_window_longest_seconds", "The longest of these since start.", longest)


def _state(status: DaemonStatus) -> Iterator[Metric]:
    yield _gauge("database_up", "Whether the database answered the last time it was asked.", status.database_up)
    yield _counter("hints_total", "Hints of the application that were taken.", status.notifications)
    yield _counter("hints_ignored_total", "Datagrams that were no hints.", status.invalid_notifications)
    yield _counter("database_errors_total", "Times that the database failed.", status.database_errors)
    read, loaded = status.database_read_at, status.config_loaded_at
    yield _gauge("database_last_read_timestamp_seconds", "When all rows were last read (UNIX time), 0 for never.", read)
    yield _gauge("guard_tripped", "Whether removals wait for an admin's approval.", status.guard_tripped)
    yield _gauge("config_ok", "Whether the configuration file was good when it was last loaded.", status.config_ok)
    yield _gauge("config_loaded_timestamp_seconds", "When the configuration in force was loaded (UNIX time).", loaded)


def _per_peer(status: DaemonStatus) -> Iterator[Metric]:
    """The names of the common WireGuard exporters. No endpoint: it would make a series of every roaming."""
    left_out = status.peers_without_metrics
    yield _gauge("peers_without_series", "Live peers beyond the limit of those with series of their own.", left_out)
    peers = [(name, peer) for name, one in sorted(status.interfaces.items()) for peer in one.peers]
    if not peers:
        return
    labels = ("interface", "public_key", "allowed_ips", "friendly_name")
    sent = CounterMetricFamily("wireguard_sent_bytes_total", "Bytes sent to the peer.", labels=labels)
    received = CounterMetricFamily("wireguard_received_bytes_total", "Bytes received from the peer.", labels=labels)
    handshake = GaugeMetricFamily(
        "wireguard_latest_handshake_seconds", "When the latest handshake was (UNIX time), 0 for never.", labels=labels
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
    """The metrics of ``health``, of this process and of its Python."""
    whole = CollectorRegistry()
    whole.register(Collector(status))
    ProcessCollector(registry=whole)
    PlatformCollector(registry=whole)
    return whole


def exposition(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Content type and body of a scrape, in the format that its Accept header asks for."""
    encode, kind = choose_encoder(accept)
    return kind, encode(registry)
