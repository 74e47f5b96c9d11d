"""Makes the document of `wgsyncd explain --json`, with the verdict in one sentence."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from msgspec import Struct

from wgsyncd.cli.explain_access import PolicyReport
from wgsyncd.cli.output import ago
from wgsyncd.core.inspect.answers import AuditRow, DeviceDetails, Rule
from wgsyncd.core.inspect.connection import Connection
from wgsyncd.core.inspect.explain import ActualPeer, Explanation
from wgsyncd.core.inspect.names import Labels
from wgsyncd.core.inspect.periods import Perspective
from wgsyncd.core.model import NO_PRESHARED_KEY, ChangeKind, Counters, encode_key, fingerprint, plain_id
from wgsyncd.core.reasons import Inactive, Reason
from wgsyncd.core.records import PeerRecord
from wgsyncd.engine import wording
from wgsyncd.engine.reports.bandwidth import BandwidthReport
from wgsyncd.engine.reports.plan import PlannedTransition, RejectedRow, iso, planned_transition, rejected_rows


class CountersReport(Struct, frozen=True, kw_only=True):
    """Bytes of one peer, or of one device's columns."""

    rx: int
    tx: int


class RuleReport(Struct, frozen=True, kw_only=True, rename={"text": "rule"}):
    """One condition that a row has to meet."""

    text: str
    holds: bool
    value: str


class BaselineReport(Struct, frozen=True, kw_only=True):
    """The counters of a peer up to which its bytes are posted."""

    interface: str
    peer: str  # the key's fingerprint
    counters: CountersReport
    epoch: str
    state: str
    sampled: str | None


class PeerReport(Struct, frozen=True, kw_only=True):
    """One live peer of the device."""

    interface: str
    of_this_key: bool
    peer: str  # the key's fingerprint
    endpoint: str | None
    latest_handshake: str | None
    allowed_ips: list[str]
    preshared_key: bool
    persistent_keepalive: int
    counters: CountersReport
    baseline: BaselineReport | None
    unposted: CountersReport  # bytes since the baseline
    counter_reset: bool  # the counters went back, so they count from zero


class PendingReport(Struct, frozen=True, kw_only=True):
    """One change that is planned for the device."""

    action: ChangeKind
    interface: str
    reason: str
    when: str  # next, withheld or blocked


class AuditReport(Struct, frozen=True, kw_only=True):
    """One audit row."""

    at: str
    action: str
    message: str


class ExplainReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd explain --json`."""

    at: str
    device: str
    name: str  # what its owner calls it, or ""
    row: int | str
    owner: str
    owner_word: str  # what the control plane calls an owner, such as "user"
    verdict: str
    connection: Connection | None  # what the kernel shows of the peer that the row wants
    advice: str  # the next step. "" if there is none
    interface: str
    addresses: list[str]
    public_key: str | None
    key_fault: str | None  # why the row's key cannot be read
    preshared_key: bool
    status: str
    activation_deadline: str | None
    activation_seconds_left: int | None
    rules: list[RuleReport]
    other_node: bool  # the row's interface is another node's
    rejected: RejectedRow | None
    frozen: bool
    kernel_error: str | None
    addresses_held_by: dict[str, str]  # the device or foreign peer, by the address
    peers: list[PeerReport]
    baselines_without_peer: list[BaselineReport]
    plan: list[PendingReport]
    transitions: list[PlannedTransition]
    perspective: str
    bytes: dict[str, CountersReport] | None  # by the control plane's label
    details: dict[str, str] | None  # by the control plane's label, like times
    times: dict[str, str | None] | None
    policies: PolicyReport | None  # null: the control plane has none
    bandwidth: BandwidthReport | None  # null: it is not limited on this node
    audit: list[AuditReport] | None
    audit_error: str | None


def explain_report(
    found: Explanation, rules: Sequence[Rule], details: DeviceDetails | None, audit: Sequence[AuditRow] | str,
    policies: PolicyReport | None, bandwidth: BandwidthReport | None, perspective: Perspective, now: float,
    zone: ZoneInfo, labels: Labels, owner_word: str = "owner",
) -> ExplainReport:  # fmt: skip
    """The report about one device. ``audit``: the audit rows, or why they cannot be read. ``now``: UNIX seconds."""

    def counters(bytes_: Counters) -> CountersReport:
        return CountersReport(**bytes_._asdict())

    def time(at: float | None) -> str | None:
        return iso(at, zone)

    def baseline(record: PeerRecord) -> BaselineReport:
        return BaselineReport(
            interface=record.interface,
            peer=fingerprint(record.public_key),
            counters=counters(record.counters),
            epoch=record.epoch,
            state=record.state.value,
            sampled=time(record.sampled_at),
        )

    def peer(one: ActualPeer) -> PeerReport:
        config = one.found.config
        return PeerReport(
            interface=one.interface,
            of_this_key=one.row_key,
            peer=fingerprint(config.public_key),
            endpoint=one.found.endpoint,
            latest_handshake=time(one.found.latest_handshake // 10**9),
            allowed_ips=sorted(map(str, config.allowed_ips)),
            preshared_key=config.preshared_key != NO_PRESHARED_KEY,
            persistent_keepalive=config.persistent_keepalive,
            counters=counters(one.found.counters),
            baseline=baseline(one.record) if one.record is not None else None,
            unposted=counters(one.unposted),
            counter_reset=one.reset,
        )

    row, rejection, bad_key = found.row, found.rejection, found.bad_key
    deadline = row.activation_deadline
    return ExplainReport(
        at=time(now) or "",
        device=row.device,
        name=row.name,
        row=plain_id(row.id),
        owner=row.owner,
        owner_word=owner_word,
        verdict=labels.put_into(_verdict(found)),
        connection=found.connection if _is_served(found) else None,
        advice=_advice(found, now),
        interface=row.interface,
        addresses=list(row.addresses),
        public_key=encode_key(found.key) if found.key is not None else None,
        key_fault=None if bad_key is None else str(bad_key),
        preshared_key=bool(row.preshared_key),
        status=row.status_text,
        activation_deadline=time(deadline),
        activation_seconds_left=None if deadline is None else int(deadline - now),
        rules=[RuleReport(**one._asdict()) for one in rules],
        other_node=found.is_ignored,
        rejected=rejected_rows([rejection], labels)[0] if rejection is not None else None,
        frozen=found.frozen,
        kernel_error=found.interface_error or None,
        addresses_held_by={net: one or wording.FOREIGN for net, one in found.address_holders.items()},
        peers=list(map(peer, found.peers)),
        baselines_without_peer=list(map(baseline, found.stale_records)),
        plan=[
            PendingReport(
                action=due.change.kind,
                interface=due.change.interface,
                reason=labels.put_into(wording.change(due.change)),
                when=due.when,
            )
            for due in found.due
        ],
        transitions=[planned_transition(one, zone, now) for one in found.transitions],
        perspective=perspective.value,
        bytes=None if details is None else {label: counters(one) for label, one in details.bytes.items()},
        details=None if details is None else dict(details.texts),
        times=None if details is None else {label: time(at) for label, at in details.times.items()},
        policies=policies,
        bandwidth=bandwidth,
        audit=None if isinstance(audit, str) else [AuditReport(**one._asdict()) for one in audit],
        audit_error=audit if isinstance(audit, str) else None,
    )


WAITS = {
    "next": "",
    "withheld": ", but the guard withholds that (wgsyncd plan)",
    "blocked": f", but that waits {wording.until_mended()}",
}
"""Whether the next cycle applies a change."""
_DOING = {ChangeKind.ADD: "adds it on", ChangeKind.UPDATE: "updates it on", ChangeKind.REMOVE: "removes it from"}


def _verdict(found: Explanation) -> str:
    """What the device has, what its row wants, and what comes next."""
    where = " and ".join(dict.fromkeys(one.interface for one in found.peers))
    doing = ", and ".join(
        f"the next cycle {_DOING[one.change.kind]} {one.change.interface}{WAITS[one.when]}" for one in found.due
    )
    if found.is_ignored:
        return f"is another node's: {found.row.interface} stands in node.ignored_interfaces"
    if found.rejection is not None:
        kept = f"its live peer on {where} is left as it is" if found.frozen else doing or "it has no peer"
        why = f"{found.rejection.reason.value}: {wording.rejection(found.rejection)}"
        return f"asks for a peer but is rejected, {why}. {kept[0].upper()}{kept[1:]}"
    if found.interface_error:
        wanted = "a" if found.inactive is None else "no"
        return f"wants {wanted} peer, but the kernel cannot be asked: {found.interface_error}"
    if found.inactive is not None:
        why = wording.inactive(found.inactive)
        return f"wants no peer ({why})" + (f": {doing}" if doing else f", yet {where} has it" if where else "")
    if doing:
        return f"wants a peer: {doing}"
    return f"has its peer on {where}, as the row wants it" if where else "wants a peer and has none"


def _is_served(found: Explanation) -> bool:
    """Whether the device has the peer that its row wants, so that only its connection can be the trouble."""
    return not (found.is_ignored or found.rejection or found.interface_error or found.inactive or found.due)


def _advice(found: Explanation, now: float) -> str:
    """What to do next if this device cannot connect."""
    if found.is_ignored:
        return "Ask the server that serves this interface: run `wgsyncd explain` there"
    if found.rejection is not None:
        return _ROWS.get(found.rejection.reason, "Mend the row. wgsyncd sees that at once")
    if found.inactive is not None and not found.interface_error:
        return _CURES[found.inactive.kind].format(owner=found.inactive.owner_kind or "owner")
    broken = "`wgsyncd status` shows what is wrong with this server" if found.interface_error or found.is_other else ""
    if broken or not _is_served(found) or found.connection is None:
        return broken
    peer = next(one for one in found.peers if one.row_key and one.interface == found.interface)
    addresses = ", ".join(sorted(str(net).rpartition("/")[0] for net in peer.found.config.allowed_ips))
    seconds = int(now - peer.found.latest_handshake / 1e9)
    return _CONNECTIONS[found.connection].format(
        endpoint=peer.found.endpoint or "an unknown address", port=found.port, interface=peer.interface,
        addresses=addresses or "none", address=addresses.partition(",")[0], ago=ago(seconds),
    )  # fmt: skip


_CURES = {
    Inactive.OWNER_MISSING: "Correct the {owner} in the row, or create that {owner} in the application",
    Inactive.OWNER_INACTIVE: "Nothing is broken: the device connects again when its {owner} is active",
    Inactive.DEVICE_INACTIVE: "Nothing is broken: make the device active in the application, or issue it again",
    Inactive.DEADLINE_PASSED: "Nobody used its configuration in time: issue it again in the application",
    Inactive.SUPERSEDED: "Issue the device's configuration again in the application",
    Inactive.GATEWAY_INACTIVE: "Nothing is broken: the device connects again when its gateway is active",
}
_ROWS = {Reason.PSK_SEALED: "Restore its key (nexavpn.preshared_keys) and restart wgsyncd, or issue the device again"}
_KNOCKS = (
    "It knocks from {endpoint} and the server answers, but the device does not accept the answer. The preshared key in"
    " the device differs from the row's, or answers do not get back. Issue its configuration again"
)
_CONNECTIONS = {
    Connection.NOTHING_ARRIVES: "Nothing that this server can read has come from the device: a wrong key (its own,"
    " or the server's), a wrong Endpoint, or a firewall. See whether packets come: tcpdump -ni any udp port {port}",
    Connection.NOT_ACCEPTED: _KNOCKS,
    Connection.KNOCKS_AGAIN: f"It was connected {{ago}}. {_KNOCKS}",
    Connection.OFFLINE: "It was connected {ago}, and nothing comes now: it is off, asleep or without a network, or a"
    " firewall drops what it sends. If packets come, it is this server's firewall: tcpdump -ni any udp port {port}",
    Connection.NO_DATA_ACCEPTED: "It is connected from {endpoint}, but the server drops all its packets: it sends from"
    " another address than {addresses}. Correct Address in the device, or issue its configuration again",
    Connection.UNANSWERED: "It is connected from {endpoint}, but its packets get no answers: the server does not"
    " forward them (`sysctl net.ipv4.ip_forward` must say 1), a firewall drops them (`nft list ruleset`), no route goes"
    " back, or it sends from another address than {addresses}. See what comes: tcpdump -ni {interface} host {address}",
    Connection.AMBIGUOUS: "It is connected from {endpoint}, handshake {ago}. Whether the server accepts its packets"
    " cannot be told: keepalives alone would count as much. Let the device send for a minute, and run this again."
    " If then `ip -s -s link show {interface}` counts more RX errors (frame), as only the kernel's WireGuard does, the"
    " device sends from another address than {addresses}",
    Connection.CONNECTED: "It is connected from {endpoint}, handshake {ago}. If only pings pass, set MTU = 1280"
    " in the device, and if nothing does, see what comes: tcpdump -ni {interface} host {address}",
}
