"""The audit trail's words: every action, both languages, never a key."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import key, text
from wgsyncd.core.audit import ACTIONS, AuditEntry, AuditMessages
from wgsyncd.core.model import encode_key, fingerprint

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
    "spool_set_aside",
]

FACTS: dict[str, dict[str, Any]] = {
    "device_activated": {"at": "2026-09-21 10:00:00"},
    "qr_expired": {"at": "2026-09-21 10:00:00"},
    "peer_added": {"interface": "wg0", "address": "10.200.0.5/32"},
    "peer_removed": {"interface": "wg0", "address": "10.200.0.5/32", "reason": "device paused"},
    "peer_updated": {"interface": "wg0", "reason": "address"},
    "peer_moved": {"old": "wg0", "interface": "wg1", "address": "10.251.0.5/32"},
    "foreign_peer_removed": {"interface": "wg0", "address": "10.200.0.5/32", "peer": fingerprint(key(1))},
    "row_rejected": {"reason": "bad_key"},
    "row_accepted": {"reason": "bad_key"},
    "parent_conflict": {"count": 2},
    "parent_conflict_cleared": {},
    "guard_tripped": {"count": 40, "plan": "0123456789ab"},
    "guard_approved": {"count": 40, "plan": "0123456789ab", "by": "root (uid 0, pid 9)"},
    "interface_restored": {"count": 250},
    "interface_missing": {},
    "usage_anomaly": {"interface": "wg0", "what": "reset", "old_rx": 9, "rx": 1, "old_tx": 8, "tx": 2},
    "quarantine_released": {"interface": "wg0", "rx": 9, "tx": 1, "since": "2026-09-21 10:00:00",
                            "until": "2026-09-21 10:00:15"},
    "quarantine_dropped": {"interface": "wg0", "rx": 9, "tx": 1, "since": "2026-09-21 10:00:00",
                           "until": "2026-09-21 10:00:15"},
    "config_reloaded": {},
    "config_rejected": {"count": 3, "reason": "node.zone"},
    "daemon_started": {"version": "0.1.0"},
    "daemon_stopped": {},
    "spool_set_aside": {"file": "spool.bad1"},
}  # fmt: skip
TARGETS = {"spool_set_aside": "node", "parent_conflict": "contract", "parent_conflict_cleared": "contract", "foreign_peer_removed": "interface",
           "interface_restored": "interface", "interface_missing": "interface", "guard_tripped": "node",
           "guard_approved": "node", "config_reloaded": "node", "config_rejected": "node", "daemon_started": "node",
           "daemon_stopped": "node"}  # fmt: skip
BASE64 = re.compile(r"[A-Za-z0-9+/_=-]{40,}")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def test_the_actions_are_those_of_the_behaviour() -> None:
    assert set(BEHAVIOUR) == ACTIONS == set(FACTS)


@pytest.mark.parametrize("action", BEHAVIOUR)
@pytest.mark.parametrize("language", ["ja", "en"])
def test_every_action_has_words(action: str, language: str) -> None:
    entry = AuditMessages(language).entry(action, "subject", **FACTS[action])
    assert (entry.action, entry.target_id) == (action, "subject")
    assert entry.target_type == TARGETS.get(action, "device")
    assert bool(JAPANESE.search(entry.message)) is (language == "ja")
    assert "{" not in entry.message
    for name, fact in FACTS[action].items():
        assert name in ("what", "reason") or str(fact) in entry.message


@pytest.mark.parametrize("action", [name for name in BEHAVIOUR if FACTS[name]])
def test_a_missing_fact_is_a_bug_and_said_so(action: str) -> None:
    with pytest.raises(KeyError):
        AuditMessages("en").entry(action, "subject")


def test_an_unknown_action_is_a_bug() -> None:
    with pytest.raises(KeyError):
        AuditMessages("ja").entry("peer_teleported", "subject")


def test_who_approved_is_an_admin_where_nobody_knows_who() -> None:
    said = [
        AuditMessages(one).entry("guard_approved", "r640", count=1, plan="0" * 12, by="").message
        for one in ("ja", "en")
    ]
    assert "管理者" in said[0]
    assert said[1].endswith("approved by an admin")


REASONS = ["has a new key", "row is gone", "QR ended, not scanned", "address", "key", "preshared key or keepalive",
           "device deleted", "device paused", "device of unknown status", "contract 0001 paused",
           "contract 0001 does not exist", "gone from the kernel"]  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_reasons_are_in_the_language_too(reason: str) -> None:
    ja, en = (
        AuditMessages(one).entry("peer_removed", "d", interface="wg0", address="-", reason=reason).message
        for one in ("ja", "en")
    )
    assert reason in en
    assert JAPANESE.search(ja.partition(": ")[2])


@pytest.mark.parametrize("what", ["reset", "quarantined"])
def test_anomalies_are_worded(what: str) -> None:
    facts = {**FACTS["usage_anomaly"], "what": what}
    messages = {AuditMessages(language).entry("usage_anomaly", "d", **facts).message for language in ("ja", "en")}
    assert len(messages) == 2
    assert not any(what in message for message in messages)


fields = st.sampled_from([(action, name) for action in BEHAVIOUR for name in [*FACTS[action], "target_id"]])
keys = st.binary(min_size=32, max_size=32).map(encode_key)
around = st.text(max_size=12)


@given(fields, keys, around, around, st.sampled_from(("ja", "en")))
def test_a_key_in_any_field_does_not_reach_the_audit_trail(
    field: tuple[str, str], secret: str, left: str, right: str, language: str
) -> None:
    action, name = field
    facts: dict[str, Any] = {**FACTS[action], "target_id": "subject"}
    if name == "what":
        return
    facts[name] = left + secret + right
    target = facts.pop("target_id")
    entry = AuditMessages(language).entry(action, target, **facts)
    for shown in (entry.target_id, entry.message):
        assert not BASE64.search(shown)
        assert secret not in shown
        assert secret[:20] not in shown, "not even cut in half"


@given(st.text(max_size=90), st.sampled_from(("ja", "en")))
def test_what_is_written_fits_and_is_printable(anything: str, language: str) -> None:
    entry = AuditMessages(language).entry("peer_added", anything, interface=anything, address=anything * 40)
    assert len(entry.target_id) <= 64
    assert len(entry.message) <= 2000
    assert (entry.target_id + entry.message).isprintable()


def test_nul_and_emoji() -> None:
    entry = AuditMessages("en").entry("peer_added", "a\0b 📱", interface="wg0", address="{0} {interface} %s")
    assert entry == AuditEntry("peer_added", "device", "a�b 📱", "Peer added on wg0 with {0} {interface} %s")


def test_a_fingerprint_gets_through() -> None:
    assert (
        fingerprint(key(1))
        in AuditMessages("ja").entry("foreign_peer_removed", "wg0", **FACTS["foreign_peer_removed"]).message
    )
    assert text(1)[:8] in fingerprint(key(1))
