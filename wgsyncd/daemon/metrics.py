"""The metrics in Prometheus' formats, made from the daemon's status at each scrape.

Each scrape reads :class:`DaemonStatus` afresh, so no series outlives its peer or interface. A counter starts at 0
if its labels are known beforehand: otherwise Prometheus' increase() would miss the first event. An event that has not
happened yet has the timestamp 0, so that an alert on ``time() - timestamp`` fires. No other module imports
prometheus_client.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from wgsyncd import __version__, hollow
from wgsyncd.core.inspect.verify import FAULTS
from wgsyncd.core.model import ChangeKind
from wgsyncd.core.policies.status import NO_TRAFFIC, FilterStatus
from wgsyncd.core.reasons import AnomalyKind, Reason, TransitionKind
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.usage.aside import Obstacle
from wgsyncd.engine.status import DaemonStatus, InterfaceStatus, LinkState, ShapingStatus

# Servers and clients of prometheus_client's own would load these, and with them some 3 MiB.
with hollow("http.server", "ssl", "urllib.request", "wsgiref.simple_server"):
    from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        Metric,
        SummaryMetricFamily,
    )
    from prometheus_client.exposition import choose_encoder

TASKS = ("account", "flush", "heartbeat", "notify", "purge", "reconcile", "verify", "watch")
# The errno values with which WireGuard is known to refuse changes. Any other one gets a series when it first occurs.
REFUSALS = ("EINVAL", "EIO", "ENOBUFS", "ENODEV", "ENOMEM", "EPERM", "ESTALE", "ETIMEDOUT")

SHAPING_CHANGES = ("add filter", "add htbclass", "change htbclass", "delete htbclass")  # the most frequent ones
SHAPING_REFUSALS = ("EBUSY", "EEXIST", "EINVAL", "ENOBUFS", "ENODEV", "ENOENT", "ENOMEM", "EOPNOTSUPP", "EPERM")

# For each metric with the label "interface": its name without "wgsyncd_", its HELP text, and how to get its value.
_INTERFACE: tuple[tuple[str, str, Callable[[InterfaceStatus], float | None]], ...] = (
    ("interface_present", "Whether the interface exists and can be read.", lambda one: one.present),
    ("interface_up", "Whether the interface's link is up.", lambda one: one.link is LinkState.UP),
    ("interface_changed", "Whether clients know another key or port.", lambda one: one.change is not None),
    ("desired_peers", "Peers that the rows ask for.", lambda one: one.desired),
    ("actual_peers", "Peers that the interface has.", lambda one: one.actual),
    ("online_peers", "Peers whose latest handshake is less than 180 s old.", lambda one: one.online),
    ("frozen_peers", "Live peers that stay as they are because their row is rejected.", lambda one: one.frozen),
    ("foreign_peers", "Live peers that no row names.", lambda one: one.foreign),
    ("drift_peers", "Peers that differed from the desired state after the last apply.", lambda one: one.drift),
    ("blocked_removals", "Removals that wait until a row's unreadable key is fixed.", lambda one: one.blocked),
    ("guard_withheld_removals", "Removals that wait for an administrator's approval.", lambda one: one.withheld),
    # These two fall when a peer goes, and rate() would take that for a reset. accounted_bytes_total serves for rates.
    ("interface_received_bytes", "Bytes received from the live peers. Falls with a removal.", lambda one: one.received),
    ("interface_sent_bytes", "Bytes sent to the live peers. Falls with a removal.", lambda one: one.sent),
)

Labels = TypeVar("Labels", bound=tuple[str, ...])  # the values of a metric's labels


def _series(
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, text: str, labels: tuple[str, ...],
    values: Mapping[Labels, float],
) -> Metric:  # fmt: skip
    family = kind(f"wgsyncd_{name}", text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return _series(GaugeMetricFamily, name, text, (), {(): value})


def _gauges(name: str, text: str, label: str, values: Mapping[Labels, float]) -> Metric:
    return _series(GaugeMetricFamily, name, text, (label,), values)


def _counter(name: str, text: str, value: float) -> Metric:
    return _series(CounterMetricFamily, name, text, (), {(): value})


def _counters(name: str, text: str, labels: tuple[str, ...], values: Mapping[Labels, float]) -> Metric:
    return _series(CounterMetricFamily, name, text, labels, values)


def _from_zero(known: Iterable[str], values: Mapping[str, float]) -> dict[tuple[str], float]:
    """The values by label. A known label without a value has 0."""
    return {(str(key),): values.get(key, 0) for key in {*known, *values}}


class Collector:
    def __init__(self, status: Callable[[], DaemonStatus]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("wgsyncd_build", "The running version of wgsyncd.", {"version": __version__})
        status = self._status()
        for families in (_work, _interfaces, _rows, _safety, _policies, _shaping, _state, _per_peer):
            yield from families(status)


def _work(status: DaemonStatus) -> Iterator[Metric]:
    tasks = {*TASKS, *status.runs, *status.intervals}
    runs, failures = _from_zero(tasks, status.runs), _from_zero(tasks, status.failures)
    yield _counters("task_runs_total", "Runs of a task, including failed runs.", ("task",), runs)
    yield _counters("task_failures_total", "Runs of a task that failed.", ("task",), failures)
    durations = SummaryMetricFamily("wgsyncd_task_duration_seconds", "Duration of the runs of a task.", labels=["task"])
    for (task,), count in sorted(runs.items()):
        durations.add_metric((task,), count_value=int(count), sum_value=status.duration_sums.get(task, 0))
    yield durations
    last, intervals = _from_zero(tasks, status.durations), _from_zero((), status.intervals)
    yield _gauges("task_last_duration_seconds", "Duration of the last run of a task.", "task", last)
    yield _gauges("task_interval_seconds", "Configured time between two runs of a task.", "task", intervals)
    text = "Time of the last successful run (UNIX time). 0: never."
    yield _gauges("task_last_success_timestamp_seconds", text, "task", _from_zero(tasks, status.succeeded_at))


def _interfaces(status: DaemonStatus) -> Iterator[Metric]:
    names = status.interfaces
    for name, text, value in _INTERFACE:
        known = {key: value(one) for key, one in names.items()}
        values = _from_zero((), {key: float(one) for key, one in known.items() if one is not None})
        yield _gauges(name, text, "interface", values)
    changes = {(one, str(kind)): 0 for one in names for kind in ChangeKind} | dict(status.changes)
    yield _counters("changes_total", "Changes of peers that the kernel applied.", ("interface", "action"), changes)
    refused = {(one, error): 0 for one in names for error in REFUSALS} | dict(status.change_failures)
    text = "Changes of peers that the kernel refused, by errno."
    yield _counters("change_failures_total", text, ("interface", "error"), refused)
    taken = {(one,): 0 for one in names} | dict(status.peers_taken_out)
    text = "Peers that another program removed, and that were added again."
    yield _counters("peers_taken_out_total", text, ("interface",), taken)
    yield _counter("dump_retries_total", "Dumps that were interrupted, and read again.", status.dump_retries)


def _rows(status: DaemonStatus) -> Iterator[Metric]:
    rejected, conditions = _from_zero(Reason, status.rejected), _from_zero((), status.store_conditions)
    yield _gauges("rejected_rows", "Rows that are rejected, by reason.", "reason", rejected)
    yield _gauges(
        "sealed_rows",
        "Rows with a sealed preshared key, by the id of its key.",
        "key_id",
        _from_zero((), status.sealed),
    )
    yield _gauges("conditions", "Conditions that the database reports, by type.", "type", conditions)
    text = "Transitions of devices that were written to the database."
    yield _counters("transitions_total", text, ("kind",), _from_zero(TransitionKind, status.transitions))
    text = "Counter values that no known event explains, by kind."
    yield _counters("anomalies_total", text, ("kind",), _from_zero(AnomalyKind, status.anomalies))
    text = "Deltas above line_rate that wait for an administrator's decision."
    yield _gauge("quarantined_deltas", text, status.quarantined)
    text = "Discrepancies that the last daily verification found, by check."
    yield _gauges("verify_findings", text, "check", _from_zero((one.value for one in FAULTS), status.findings))
    accounted = {("received",): status.accounted_rx, ("sent",): status.accounted_tx}
    text = "Bytes that were accounted, by the server's direction."
    yield _counters("accounted_bytes_total", text, ("direction",), accounted)


def _safety(status: DaemonStatus) -> Iterator[Metric]:
    """How safe the counted bytes are now, and how long removals take."""
    text = "Bytes counted until this time are in the database or in the spool (UNIX time)."
    yield _gauges("interface_sampled_timestamp_seconds", text, "interface", _from_zero((), status.sampled_at))
    text = "Devices that the last poll did not account because their row is locked or slow to change."
    yield _gauge("locked_rows", text, len(status.rows_set_aside(Obstacle.LOCKED, Obstacle.LATE)))
    text = "Devices with bytes or a transition that waits, because the database refuses to change their row."
    yield _gauge("refused_rows", text, len(status.rows_set_aside(Obstacle.REFUSED)))
    text = "Audit rows that wait, because the database did not take them."
    yield _gauge("unwritten_audit_rows", text, status.unwritten_audit_rows)
    text = "Counters in the spool that are not accounted yet."
    yield _gauge("spool_pending_counters", text, status.spool_pending_counters)
    text = "Oldest sample in the spool (UNIX time). 0: it is empty."
    yield _gauge("spool_oldest_timestamp_seconds", text, status.spooled_since)
    yield _gauge("spool_up", "Whether the last write to the spool worked.", status.spool_up)
    yield _counter("spool_corruptions_total", "Spool files that were damaged.", status.spool_corruptions)
    text = "Time between the last read of a peer's counters and its removal. The peer passes no data meanwhile."
    gap = SummaryMetricFamily("wgsyncd_removal_gap_seconds", text)
    gap.add_metric((), count_value=status.removal_gaps, sum_value=status.removal_gap_sum)
    yield gap
    text = "The longest removal gap since the start."
    yield _gauge("removal_gap_longest_seconds", text, status.removal_gap_longest)


def _policies(status: DaemonStatus) -> Iterator[Metric]:
    one = status.policies or FilterStatus()
    for name, text, value in (
        ("failing_planes", "Parts beside the peers that cannot be read or changed.", len(status.plane_errors)),
        ("filter_elements", "Addresses of devices in the packet filter.", one.devices),
        ("filter_profiles", "Access lists: addresses that devices share in the packet filter.", one.profiles),
        ("stale_profiles", "Client profiles with other addresses than policies allow.", one.stale_profiles),
        ("shared_addresses", "Addresses of several devices, which reach nothing.", one.shared_addresses),
        ("access_withheld_devices", "Devices whose loss of access waits for an approval.", one.withheld),
    ):
        yield _gauge(name, text, value)
    for name, text, value in (
        ("filter_changes_total", "Changes of the packet filter.", one.changes),
        ("filter_drifts_total", "How often the packet filter was not as wanted.", one.drifts),
        ("filter_restorations_total", "How often the packet filter was put right.", one.restorations),
        ("filter_forgotten_flows_total", "Flows that ended, because their address changed hands.", one.forgotten_flows),
        ("accepted_packets_total", "Packets from and to devices that the rules let through.", one.accepted.packets),
        ("accepted_bytes_total", "Bytes from and to devices that the rules let through.", one.accepted.bytes),
    ):
        yield _counter(name, text, value)
    refused = dict.fromkeys(status.interfaces, NO_TRAFFIC) | dict(one.refused)
    text = "Packets from and to an interface that the rules refused."
    packets = {(name,): found.packets for name, found in refused.items()}
    yield _counters("refused_packets_total", text, ("interface",), packets)
    text = "Bytes from and to an interface that the rules refused."
    yield _counters(
        "refused_bytes_total", text, ("interface",), {(name,): each.bytes for name, each in refused.items()}
    )


def _shaping(status: DaemonStatus) -> Iterator[Metric]:
    one = status.shaping or ShapingStatus(True, {}, 0, 0, 0, 0, "")
    over = status.store_conditions.get("devices_over_limit", 0)
    for name, text, value in (
        ("shaping_ok", "Whether tc is as the rows ask for.", one.ok),
        ("shaping_drift", "Objects of tc that were not as wanted after the last apply.", one.drift),
        ("shaped_owners", "Owners of devices whose traffic is limited.", one.owners),
        ("slowed_owners", "Owners beyond their monthly cap.", one.slowed),
        ("unknown_profile_owners", "Owners whose bandwidth profile is not configured.", one.unknown),
        ("owners_over_device_limit", "Owners with more devices than they may have.", over),
    ):
        yield _gauge(name, text, value)
    text = "Devices whose traffic is limited, by bandwidth profile."
    yield _gauges("shaped_devices", text, "profile", _from_zero((), one.devices))
    text = "Bytes that limits let through, as the last cycle read them. Down is to the devices."
    sent, dropped = (_from_zero(Direction, one) for one in (status.shaper_sent, status.shaper_dropped))
    yield _counters("shaper_sent_bytes_total", text, ("direction",), sent)
    text = "Packets that limits dropped, as the last cycle read them."
    yield _counters("shaper_dropped_packets_total", text, ("direction",), dropped)
    text = "Changes of tc that the kernel applied, by kind."
    yield _counters("shaping_changes_total", text, ("kind",), _from_zero(SHAPING_CHANGES, status.shaping_changes))
    text = "Changes of tc that the kernel refused, by errno."
    yield _counters("shaping_failures_total", text, ("error",), _from_zero(SHAPING_REFUSALS, status.shaping_failures))


def _state(status: DaemonStatus) -> Iterator[Metric]:
    yield _gauge("database_up", "Whether the last query of the database worked.", status.database_up)
    yield _counter("notifications_total", "Valid notifications from the application.", status.notifications)
    text = "Datagrams that are no valid notification."
    yield _counter("invalid_notifications_total", text, status.invalid_notifications)
    yield _counter("database_errors_total", "Errors of the database.", status.database_errors)
    text = "When all rows were last read (UNIX time). 0: never."
    yield _gauge("database_last_read_timestamp_seconds", text, status.database_read_at)
    text = "Time of the last heartbeat in the database (UNIX time). 0: none yet."
    yield _gauge("heartbeat_timestamp_seconds", text, status.heartbeat_at)
    text = "When this daemon took its node over from another machine (UNIX time). 0: it did not."
    yield _gauge("node_taken_over_timestamp_seconds", text, status.taken_over_at)
    yield _gauge("node_active", "0: this node is the standby of a pair.", status.is_active is not False)
    yield _gauge(
        "peers_waiting_for_adoption",
        "Foreign peers that stay until an administrator adopts the node.",
        status.waiting_for_adoption,
    )
    yield _gauge("guard_tripped", "Whether removals wait for an administrator's approval.", status.guard_tripped)
    yield _gauge("config_ok", "Whether the last load of the configuration found no fault.", status.config_ok)
    text = "When the present configuration was loaded (UNIX time)."
    yield _gauge("config_loaded_timestamp_seconds", text, status.config_loaded_at)


def _per_peer(status: DaemonStatus) -> Iterator[Metric]:
    """Series with the names that WireGuard exporters commonly use.

    There is no label for the endpoint: each change of address would make a new series.
    """
    text = "Live peers beyond metrics.per_peer_limit."
    yield _gauge("peers_without_metrics", text, status.peers_without_metrics)
    peers = [(name, peer) for name, one in sorted(status.interfaces.items()) for peer in one.peers]
    if not peers:
        return
    labels = ("interface", "public_key", "allowed_ips", "friendly_name")
    sent = CounterMetricFamily("wireguard_sent_bytes_total", "Bytes sent to the peer.", labels=labels)
    received = CounterMetricFamily("wireguard_received_bytes_total", "Bytes received from the peer.", labels=labels)
    text = "Time of the latest handshake (UNIX time). 0: never."
    handshake = GaugeMetricFamily("wireguard_latest_handshake_seconds", text, labels=labels)
    for name, peer in peers:
        values = (name, peer.public_key, peer.allowed_ips, peer.device)
        sent.add_metric(values, peer.counters.tx)
        received.add_metric(values, peer.counters.rx)
        handshake.add_metric(values, peer.latest_handshake)
    yield from (sent, received, handshake)


def registry(status: Callable[[], DaemonStatus]) -> CollectorRegistry:
    """The metrics of the status, of this process and of its Python. ``status``: gives the status of now."""
    whole = CollectorRegistry()
    whole.register(Collector(status))
    ProcessCollector(registry=whole)
    PlatformCollector(registry=whole)
    return whole


def exposition(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Content type and body of a scrape, in the format that the Accept header asks for."""
    encode, kind = choose_encoder(accept)
    return kind, encode(registry)
