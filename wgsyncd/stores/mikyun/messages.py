"""Turns audit events into rows of admin_logs, with messages in Japanese or in English.

A message holds labels, addresses, counts and reason codes only. So nothing that a row holds by mistake, such as a key
in the address column, can reach admin_logs through a message. Texts from rows are cut to what such a field may hold.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from wgsyncd.core.audit import ACCESS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.reasons import (
    AnomalyKind,
    BandwidthCause,
    ChangeCause,
    ChangeReason,
    Inactive,
    TakeoverCause,
    UpdatedPart,
)
from wgsyncd.stores.mikyun.eligibility import DELETED
from wgsyncd.stores.mikyun.message_texts import MESSAGES


class AuditEntry(NamedTuple):
    """One row of admin_logs, without its time. ``target_type``: device, contract, interface or node."""

    action: str
    target_type: str
    target_id: str
    message: str


_ANOMALIES = {
    AnomalyKind.RESET: ("went back without a known reason and count from zero", "原因不明の巻き戻り。0から計上"),
    AnomalyKind.CAME_BACK: (
        "came from an earlier state of the machine, not posted: later bytes go on from here",
        "以前の状態に戻ったマシンのため計上せず、ここから計上を継続",
    ),
    AnomalyKind.TABLES_BEHIND: (
        "are posted, but wgsyncd's tables are older than the columns, which they follow (sum of days, month)",
        "は計上済みですが、wgsyncd の表が列より古いため列に合わせました。日別合計 -> 今月の列",
    ),
    AnomalyKind.COLUMNS_BEHIND: (
        "were posted, but the columns are older than wgsyncd's tables: bytes are missing (sum of days, month)",
        "は計上済みですが、列が wgsyncd の表より古く、不足しています。日別合計 -> 今月の列",
    ),
    AnomalyKind.WENT_BACK: ("are of a node state that the database lost", "データベースが失ったノード状態の値"),
    AnomalyKind.QUARANTINED: ("moved more than the link can carry, not posted", "回線容量を超える増加。計上を保留"),
}
_TAKEOVERS = {
    TakeoverCause.STOPPED: ("it had stopped", "停止済み"),
    TakeoverCause.SILENT: ("no heartbeat for {count} s", "{count} 秒間ハートビートなし"),
    TakeoverCause.CLONE: ("it is a clone of this server", "このサーバーの複製のため"),
    TakeoverCause.ORDERED: ("{by} ordered it", "{by}の指示"),
}
_BANDWIDTHS = {
    BandwidthCause.CONTRACT: ("the contract has another one", "契約の変更"),
    BandwidthCause.CAP_REACHED: ("monthly cap reached", "月間上限に到達"),
    BandwidthCause.CAP_ENDED: ("monthly cap ended", "月間上限による制限の終了"),
    BandwidthCause.SETTINGS: ("the configuration has other rates", "設定の変更"),
}
_UPDATED = {
    UpdatedPart.ADDRESS: ("address", "アドレス"),
    UpdatedPart.KEY: ("key", "鍵"),
    UpdatedPart.OTHER: ("preshared key or keepalive", "事前共有鍵またはキープアライブ"),
}
_CAUSES = {
    ChangeCause.KEY_REPLACED: ("has a new key", "鍵が変更されました"),
    ChangeCause.ROW_GONE: ("row is gone", "台帳から行がなくなりました"),
    ChangeCause.GONE_FROM_KERNEL: ("gone from the kernel", "カーネル側で削除されていました"),
    ChangeCause.MOVED_TO: ("moved to {interface}", "{interface} へ移動"),
}
_INACTIVE = {
    Inactive.OWNER_MISSING: ("contract {owner} does not exist", "契約 {owner} が存在しません"),
    Inactive.OWNER_INACTIVE: ("contract {owner} {state}", "契約 {owner} {state}"),
    Inactive.DEVICE_INACTIVE: ("device {state}", "端末 {state}"),
    Inactive.DEADLINE_PASSED: ("QR ended, not scanned", "QRコードが未使用のまま失効"),
    Inactive.SUPERSEDED: ("has another key now", "別の鍵に変更されました"),
    Inactive.GATEWAY_INACTIVE: ("gateway {state}", "ゲートウェイ {state}"),
}
_KEYLIKE = re.compile(r"[A-Za-z0-9+/_=-]{40,}")


class AuditMessages:
    """Writes the messages of events in one language ("ja" or "en"), with times of one zone."""

    def __init__(self, language: str, zone: ZoneInfo) -> None:
        self._japanese, self._zone = language == "ja", zone

    def entries(self, events: Iterable[AuditEvent]) -> Iterator[AuditEntry]:
        """The rows of admin_logs for events, in the order of the events."""
        return map(self.entry, events)

    def entry(self, event: AuditEvent) -> AuditEntry:
        """The row of admin_logs for one event. KeyError: this store does not know the event, or a fact is missing."""
        action = _action(event)
        target_type, english, japanese = MESSAGES[action]
        facts = dict(self._words(action, event.facts))
        message = (japanese if self._japanese else english).format(**facts)
        return AuditEntry(action, target_type, _plain(event.target)[:64], _plain(message)[:2000])

    def _words(self, action: str, facts: AuditFacts) -> Iterator[tuple[str, object]]:
        for one in _FACTS[action]:
            value = getattr(facts, one)
            if value is None:
                continue
            if one in ("at", "since", "until"):
                value = datetime.fromtimestamp(int(value), self._zone).strftime("%Y-%m-%d %H:%M:%S")
            elif one == "reason":
                value = _reason(value, japanese=self._japanese)
            elif one == "updated":
                value = _UPDATED[value][self._japanese]
            elif one == "bandwidth":
                value = _BANDWIDTHS[value][self._japanese]
            elif one == "by":
                value = value or ("管理者" if self._japanese else "an admin")
            elif one == "takeover":
                by = facts.by or ("管理者" if self._japanese else "an admin")
                value = _TAKEOVERS[value][self._japanese].format(count=facts.count, by=by)
            elif one == "anomaly":
                value = _ANOMALIES[value][self._japanese]
            yield one, value


_FACTS = {  # the facts that a message names
    action: [one.name for one in fields(AuditFacts) if f"{{{one.name}" in english + japanese]
    for action, (_, english, japanese) in MESSAGES.items()
}
_ACTIONS = {AuditAction.DEVICE_EXPIRED: "qr_expired"}  # every other row has the name of its event's action
_CONDITIONS = {
    (AuditAction.STORE_CONDITION_STARTED, "parent_conflict"): "parent_conflict",
    (AuditAction.STORE_CONDITION_ENDED, "parent_conflict"): "parent_conflict_cleared",
    (AuditAction.STORE_CONDITION_STARTED, "unknown_profile"): "unknown_profile",
    (AuditAction.STORE_CONDITION_ENDED, "unknown_profile"): "unknown_profile_cleared",
    (AuditAction.STORE_CONDITION_STARTED, "cap_reached"): "cap_reached",
    (AuditAction.STORE_CONDITION_ENDED, "cap_reached"): "cap_ended",
    (AuditAction.STORE_CONDITION_STARTED, "devices_over_limit"): "devices_over_limit",
    (AuditAction.STORE_CONDITION_ENDED, "devices_over_limit"): "devices_over_limit_cleared",
}


def _action(event: AuditEvent) -> str:
    if event.facts.condition not in (None, ACCESS):
        return _CONDITIONS[event.action, event.facts.condition]
    return _ACTIONS.get(event.action, event.action.value)


ACTIONS = frozenset(MESSAGES)
"""The action types of the rows that wgsyncd writes to admin_logs. The view wgsyncd_audit shows only these."""


def _reason(reason: ChangeReason, *, japanese: bool) -> str:
    if reason.inactive is None:
        owner = reason.owner and (f"、契約 {reason.owner}" if japanese else f", contract {reason.owner}")
        return _CAUSES[reason.cause][japanese].format(interface=reason.interface) + owner
    why = reason.inactive
    if why == DELETED and japanese:
        return "端末が削除されました"
    return _INACTIVE[why.kind][japanese].format(owner=why.owner, state=why.state)


def _plain(text: str) -> str:
    """The text without control characters (a device's name may hold a NUL) and without anything that could be a key."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "�" for c in text)
    return _KEYLIKE.sub("…", text)
