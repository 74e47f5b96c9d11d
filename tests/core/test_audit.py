"""Audit rows have a text for every action in both languages, and no text shows a key."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import NOW, TOKYO, key, text
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.model import Counters, encode_key, fingerprint
from wgsyncd.core.reasons import (
    AnomalyKind,
    BandwidthCause,
    ChangeCause,
    ChangeReason,
    Inactive,
    InactiveReason,
    TakeoverCause,
    UpdatedPart,
)
from wgsyncd.stores.mikyun.messages import ACTIONS, AuditEntry, AuditMessages

BEHAVIOUR = [
    "device_activated",
    "qr_expired",
    "peer_added",
    "peer_removed",
    "peer_updated",
    "peer_moved",
    "foreign_peer_removed",
    "row_rejected",
    "row_accepted",
    "parent_conflict",
    "parent_conflict_cleared",
    "guard_tripped",
    "guard_approved",
    "interface_restored",
    "interface_missing",
    "usage_anomaly",
    "quarantine_released",
    "quarantine_dropped",
    "config_reloaded",
    "config_rejected",
    "daemon_started",
    "daemon_stopped",
    "spool_corrupt",
    "node_taken_over",
    "node_renamed",
    "node_went_back",
    "node_adopted",
    "adoption_undone",
    "policies_off",
    "unknown_profile",
    "unknown_profile_cleared",
    "cap_reached",
    "cap_ended",
    "devices_over_limit",
    "devices_over_limit_cleared",
    "bandwidth_changed",
    "bandwidths_changed",
    "shaping_started",
    "shaping_stopped",
    "shaping_failed",
    "shaping_restored",
    "access_changed",
    "ruleset_restored",
    "node_active",
    "node_standby",
]

FACTS: dict[str, AuditFacts] = {
    "device_activated": AuditFacts(at=NOW),
    "qr_expired": AuditFacts(at=NOW),
    "peer_added": AuditFacts(interface="wg0", address="10.200.0.5/32"),
    "peer_removed": AuditFacts(interface="wg0", address="10.200.0.5/32", reason=ChangeReason(ChangeCause.ROW_GONE)),
    "peer_updated": AuditFacts(interface="wg0", updated=UpdatedPart.ADDRESS),
    "peer_moved": AuditFacts(previous_interface="wg0", interface="wg1", address="10.251.0.5/32"),
    "foreign_peer_removed": AuditFacts(interface="wg0", address="10.200.0.5/32", peer=fingerprint(key(1))),
    "row_rejected": AuditFacts(rejection="bad_key"),
    "row_accepted": AuditFacts(rejection="bad_key"),
    "parent_conflict": AuditFacts(condition="parent_conflict", detail="2"),
    "parent_conflict_cleared": AuditFacts(condition="parent_conflict"),
    "guard_tripped": AuditFacts(count=40, plan="0123456789ab"),
    "guard_approved": AuditFacts(count=40, plan="0123456789ab", by="root (uid 0, pid 9)"),
    "interface_restored": AuditFacts(count=250),
    "interface_missing": AuditFacts(),
    "usage_anomaly": AuditFacts(
        interface="wg0", anomaly=AnomalyKind.RESET, previous=Counters(9, 8), current=Counters(1, 2)
    ),
    "quarantine_released": AuditFacts(interface="wg0", current=Counters(9, 1), since=NOW, until=NOW + 15),
    "quarantine_dropped": AuditFacts(interface="wg0", current=Counters(9, 1), since=NOW, until=NOW + 15),
    "config_reloaded": AuditFacts(),
    "config_rejected": AuditFacts(count=3, keys="node.zone"),
    "daemon_started": AuditFacts(version="0.1.0"),
    "daemon_stopped": AuditFacts(),
    "spool_corrupt": AuditFacts(file="spool.bad1"),
    "node_taken_over": AuditFacts(host="beta", previous_host="alpha", takeover=TakeoverCause.SILENT, count=200),
    "node_renamed": AuditFacts(previous_node="r630"),
    "node_went_back": AuditFacts(),
    "node_adopted": AuditFacts(by="root (uid 0)"),
    "adoption_undone": AuditFacts(by="root (uid 0)"),
    "policies_off": AuditFacts(),
    "unknown_profile": AuditFacts(condition="unknown_profile", detail="gold"),
    "unknown_profile_cleared": AuditFacts(condition="unknown_profile", detail="gold"),
    "cap_reached": AuditFacts(condition="cap_reached", detail="slow"),
    "cap_ended": AuditFacts(condition="cap_reached", detail="slow"),
    "devices_over_limit": AuditFacts(condition="devices_over_limit", detail="4 > 3"),
    "devices_over_limit_cleared": AuditFacts(condition="devices_over_limit", detail="4 > 3"),
    "bandwidth_changed": AuditFacts(profile="fast", previous_profile="slow", bandwidth=BandwidthCause.OWNER),
    "bandwidths_changed": AuditFacts(count=11),
    "shaping_started": AuditFacts(),
    "shaping_stopped": AuditFacts(),
    "shaping_failed": AuditFacts(detail="tc_refused"),
    "shaping_restored": AuditFacts(detail="tc_refused"),
    "access_changed": AuditFacts(gained=3, lost=2, changed=7),
    "ruleset_restored": AuditFacts(count=250, program="nft (17)"),
    **dict.fromkeys(("node_active", "node_standby"), AuditFacts(address="203.0.113.5")),
}
EVENTS = {
    "qr_expired": AuditAction.DEVICE_EXPIRED,
    "parent_conflict": AuditAction.STORE_CONDITION_STARTED,
    "parent_conflict_cleared": AuditAction.STORE_CONDITION_ENDED,
    **dict.fromkeys(("unknown_profile", "cap_reached", "devices_over_limit"), AuditAction.STORE_CONDITION_STARTED),
    **dict.fromkeys(
        ("unknown_profile_cleared", "cap_ended", "devices_over_limit_cleared"), AuditAction.STORE_CONDITION_ENDED
    ),
}
CONTRACTS = (
    "parent_conflict", "parent_conflict_cleared", "unknown_profile", "unknown_profile_cleared", "cap_reached",
    "cap_ended", "devices_over_limit", "devices_over_limit_cleared", "bandwidth_changed",
)  # fmt: skip
NODES = ("access_changed", "ruleset_restored", "bandwidths_changed", "shaping_started", "shaping_stopped", "shaping_failed", "shaping_restored")  # fmt: skip


def event(action: str, target: str = "subject", **changes: Any) -> AuditEvent:
    """Returns the event that makes an audit row with this action."""
    return AuditEvent(EVENTS.get(action) or AuditAction(action), target, replace(FACTS[action], **changes))


def told(facts: AuditFacts) -> dict[str, Any]:
    """Returns the facts that have a value, by name. The condition is left out."""
    found = ((one.name, getattr(facts, one.name)) for one in fields(AuditFacts))
    return {name: value for name, value in found if value is not None and name != "condition"}


def entry(one: AuditEvent, language: str = "en") -> AuditEntry:
    return AuditMessages(language, TOKYO).entry(one)


TARGETS = {**dict.fromkeys(CONTRACTS, "contract"), **dict.fromkeys(NODES, "node"), "spool_corrupt": "node", "foreign_peer_removed": "interface",
           "interface_restored": "interface", "interface_missing": "interface", "guard_tripped": "node",
           "guard_approved": "node", "config_reloaded": "node", "config_rejected": "node", "daemon_started": "node",
           "daemon_stopped": "node", "node_taken_over": "node", "node_renamed": "node", "node_went_back": "node",
           "node_adopted": "node", "adoption_undone": "node", "policies_off": "node", "node_active": "node",
           "node_standby": "node"}  # fmt: skip
BASE64 = re.compile(r"[A-Za-z0-9+/_=-]{40,}")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def test_the_actions_are_those_of_the_behaviour() -> None:
    assert set(BEHAVIOUR) == ACTIONS == set(FACTS)


def test_the_store_knows_every_event() -> None:
    assert {event(action).action for action in BEHAVIOUR} == set(AuditAction)


@pytest.mark.parametrize("action", BEHAVIOUR)
@pytest.mark.parametrize("language", ["ja", "en"])
def test_every_action_has_words(action: str, language: str) -> None:
    made = entry(event(action), language)
    assert (made.action, made.target_id) == (action, "subject")
    assert made.target_type == TARGETS.get(action, "device")
    assert bool(JAPANESE.search(made.message)) is (language == "ja")
    assert "{" not in made.message
    for name, fact in told(FACTS[action]).items():
        if isinstance(fact, Counters):
            assert all(str(number) in made.message for number in fact)
        elif name in ("at", "since", "until"):
            assert str(datetime.fromtimestamp(fact, TOKYO))[:19] in made.message
        else:
            assert name in ("anomaly", "reason", "updated", "takeover", "bandwidth") or str(fact) in made.message


@pytest.mark.parametrize("action", [name for name in BEHAVIOUR if told(FACTS[name])])
def test_a_missing_fact_is_a_bug_and_said_so(action: str) -> None:
    with pytest.raises(KeyError):
        entry(AuditEvent(event(action).action, "subject", AuditFacts(condition=FACTS[action].condition)))


def test_an_unknown_condition_is_a_bug() -> None:
    with pytest.raises(KeyError):
        entry(event("parent_conflict", condition="cousin_conflict"))


def test_who_approved_is_an_admin_where_nobody_knows_who() -> None:
    said = [entry(event("guard_approved", by=""), one).message for one in ("ja", "en")]
    assert "管理者" in said[0]
    assert said[1].endswith("approved by an admin")


INACTIVE = {
    "QR ended, not scanned": InactiveReason(Inactive.DEADLINE_PASSED),
    "device deleted": InactiveReason(Inactive.DEVICE_INACTIVE, "deleted"),
    "device paused": InactiveReason(Inactive.DEVICE_INACTIVE, "paused"),
    "contract 0001 paused": InactiveReason(Inactive.OWNER_INACTIVE, "paused", "0001", "contract"),
    "contract 0001 does not exist": InactiveReason(Inactive.OWNER_MISSING, "", "0001", "contract"),
    "has another key now": InactiveReason(Inactive.SUPERSEDED),
    "gateway deleted": InactiveReason(Inactive.GATEWAY_INACTIVE, "deleted"),
}
REASONS = {
    "has a new key": ChangeReason(ChangeCause.KEY_REPLACED),
    "row is gone": ChangeReason(ChangeCause.ROW_GONE),
    "row is gone, contract 0001": ChangeReason(ChangeCause.ROW_GONE, owner="0001"),
    "gone from the kernel": ChangeReason(ChangeCause.GONE_FROM_KERNEL),
    "moved to wg1": ChangeReason(ChangeCause.MOVED_TO, "wg1"),
    **{text: ChangeReason(ChangeCause.INACTIVE, inactive=why) for text, why in INACTIVE.items()},
}
UPDATED = {
    "address": UpdatedPart.ADDRESS,
    "key": UpdatedPart.KEY,
    "preshared key or keepalive": UpdatedPart.OTHER,
}


def test_every_kind_of_reason_is_worded() -> None:
    assert {why.kind for why in INACTIVE.values()} == set(Inactive)
    assert set(UPDATED.values()) == set(UpdatedPart)


@pytest.mark.parametrize(("text", "reason"), REASONS.items())
def test_reasons_are_in_the_language_too(text: str, reason: ChangeReason) -> None:
    ja, en = (entry(event("peer_removed", reason=reason), one).message for one in ("ja", "en"))
    assert en.endswith(f": {text}")
    assert JAPANESE.search(ja.partition(": ")[2])


@pytest.mark.parametrize(("text", "part"), UPDATED.items())
def test_what_was_updated_is_in_the_language_too(text: str, part: UpdatedPart) -> None:
    ja, en = (entry(event("peer_updated", updated=part), one).message for one in ("ja", "en"))
    assert en.endswith(f": {text}")
    assert JAPANESE.search(ja.partition(": ")[2])


@pytest.mark.parametrize("what", AnomalyKind)
def test_anomalies_are_worded(what: AnomalyKind) -> None:
    messages = {entry(event("usage_anomaly", anomaly=what), language).message for language in ("ja", "en")}
    assert len(messages) == 2
    assert not any(what.value in message for message in messages)


told_fields = st.sampled_from(
    [
        (action, name)
        for action in BEHAVIOUR
        for name, fact in [*told(FACTS[action]).items(), ("target", "")]
        if isinstance(fact, str)
    ]
)
keys = st.binary(min_size=32, max_size=32).map(encode_key)
around = st.text(max_size=12)


@given(told_fields, keys, around, around, st.sampled_from(("ja", "en")))
def test_a_key_in_any_field_does_not_reach_the_audit_trail(
    field: tuple[str, str], secret: str, left: str, right: str, language: str
) -> None:
    action, name = field
    if name in ("anomaly", "updated", "takeover", "bandwidth"):
        return
    text = left + secret + right
    made = entry(event(action, text) if name == "target" else event(action, **{name: text}), language)
    for shown in (made.target_id, made.message):
        assert not BASE64.search(shown)
        assert secret not in shown
        assert secret[:20] not in shown, "not even cut in half"


@given(st.text(max_size=90), st.sampled_from(("ja", "en")))
def test_what_is_written_fits_and_is_printable(anything: str, language: str) -> None:
    made = entry(event("peer_added", anything, interface=anything, address=anything * 40), language)
    assert len(made.target_id) <= 64
    assert len(made.message) <= 2000
    assert (made.target_id + made.message).isprintable()


def test_nul_and_emoji() -> None:
    made = entry(event("peer_added", "a\0b 📱", address="{0} {interface} %s"))
    assert made == AuditEntry("peer_added", "device", "a�b 📱", "Peer added on wg0 with {0} {interface} %s")


def test_a_fingerprint_gets_through() -> None:
    assert fingerprint(key(1)) in entry(event("foreign_peer_removed"), "ja").message
    assert text(1)[:8] in fingerprint(key(1))
