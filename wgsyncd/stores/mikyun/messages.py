"""Turns audit events into rows of admin_logs, with messages in Japanese or in English.

A message holds labels, addresses, counts and reason codes only. So nothing that a row holds by mistake, such as a key
in the address column, can reach admin_logs through a message. Texts from rows are cut to what such a field may hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.reasons import AnomalyKind, ChangeCause, ChangeReason, Inactive, TakeoverCause, UpdatedPart
from wgsyncd.stores.mikyun.eligibility import DELETED


class AuditEntry(NamedTuple):
    """One row of admin_logs, without its time. ``target_type``: device, contract, interface or node."""

    action: str
    target_type: str
    target_id: str
    message: str


_MESSAGES: dict[str, tuple[str, str, str]] = {
    # action: (target type, English, Japanese)
    "device_activated": (
        "device",
        "First handshake at {at}: activated",
        "{at} に初回ハンドシェイクを確認し、有効化しました",
    ),
    "qr_expired": (
        "device",
        "QR code ended at {at} without a handshake: expired",
        "QRコードが {at} に未使用のまま失効しました",
    ),
    "peer_added": (
        "device",
        "Peer added on {interface} with {address}",
        "{interface} にピアを追加しました({address})",
    ),
    "peer_removed": (
        "device",
        "Peer removed from {interface} ({address}): {reason}",
        "{interface} からピアを削除しました({address}): {reason}",
    ),
    "peer_updated": (
        "device",
        "Peer updated on {interface}: {updated}",
        "{interface} のピアを更新しました: {updated}",
    ),
    "peer_moved": (
        "device",
        "Peer moved from {previous_interface} to {interface} ({address})",
        "ピアを {previous_interface} から {interface} へ移動しました({address})",
    ),
    "foreign_peer_removed": (
        "interface",
        "Peer {peer} ({address}), which no row names, removed from {interface}",
        "台帳にないピア {peer}({address})を {interface} から削除しました",
    ),
    "row_rejected": (
        "device",
        "Row is rejected ({rejection}). Its live peer, if any, stays as it is",
        "この行は適用できません({rejection})。稼働中のピアがあれば現状のまま維持します",
    ),
    "row_accepted": (
        "device",
        "Row is no longer rejected: mended, or it wants no peer any more (was {rejection})",
        "この行の適用不可状態は解消しました(修正済み、またはピア不要。以前: {rejection})",
    ),
    "parent_conflict": (
        "contract",
        "{detail} parent devices in one contract",
        "1契約に親端末が {detail} 台あります",
    ),
    "parent_conflict_cleared": (
        "contract",
        "No longer several parent devices",
        "親端末の重複は解消しました",
    ),
    "guard_tripped": (
        "node",
        "{count} removals withheld (plan {plan}): see wgsyncd plan, allow them with wgsyncd approve {plan}",
        "{count} 件の削除を保留しました(プラン {plan})。wgsyncd plan で確認し、"
        "wgsyncd approve {plan} で承認してください",
    ),
    "guard_approved": (
        "node",
        "{count} withheld removals (plan {plan}) approved by {by}",
        "保留中の削除 {count} 件(プラン {plan})が {by} により承認されました",
    ),
    "interface_restored": (
        "interface",
        "Interface is new: {count} peers restored",
        "インターフェースが新しくなり、ピア {count} 件を復元しました",
    ),
    "interface_missing": (
        "interface",
        "Interface is missing: its peers are without service",
        "インターフェースが見つかりません。ピアは接続できません",
    ),
    "usage_anomaly": (
        "device",
        "Counters on {interface} {anomaly}: rx {previous.rx} -> {current.rx}, tx {previous.tx} -> {current.tx} bytes",
        "{interface} のカウンタ異常({anomaly}): "
        "rx {previous.rx} -> {current.rx}、tx {previous.tx} -> {current.tx} バイト",
    ),
    "spool_corrupt": (
        "node",
        "The spool was damaged and is now {file}: the bytes in it are not posted",
        "未計上サンプルの保存ファイルが読めないため {file} として退避しました。その分の通信量は計上されていません",
    ),
    "quarantine_released": (
        "device",
        "Quarantined traffic of {interface} posted by an admin: "
        "rx {current.rx}, tx {current.tx} bytes, {since} to {until}",
        "{interface} で保留していた通信量を管理者が計上しました: "
        "rx {current.rx}、tx {current.tx} バイト({since}から{until})",
    ),
    "quarantine_dropped": (
        "device",
        "Quarantined traffic of {interface} dropped by an admin, not posted: "
        "rx {current.rx}, tx {current.tx} bytes, {since} to {until}",
        "{interface} で保留していた通信量を管理者が破棄しました(計上なし): "
        "rx {current.rx}、tx {current.tx} バイト({since}から{until})",
    ),
    "config_reloaded": ("node", "Configuration reloaded", "設定を再読み込みしました"),
    "config_rejected": (
        "node",
        "New configuration has {count} faults, the old one goes on: {keys}",
        "新しい設定に {count} 件の誤りがあります。旧設定のまま継続します: {keys}",
    ),
    "daemon_started": ("node", "wgsyncd {version} started", "wgsyncd {version} が起動しました"),
    "daemon_stopped": ("node", "wgsyncd stopped. Peers stay in place", "wgsyncd が停止しました。ピアは維持されます"),
    "node_taken_over": (
        "node",
        "Host {host} runs this node now, taken over from host {previous_host}: {takeover}",
        "ホスト {host} がこのノードをホスト {previous_host} から引き継ぎました({takeover})",
    ),
    "node_renamed": (
        "node",
        "Node {previous_node} has this name now: its records go on",
        "ノード {previous_node} の名前が変更されました。記録は引き継がれます",
    ),
    "node_adopted": (
        "node",
        "{by} adopted this node: wgsyncd removes peers that no row names",
        "{by} がこのノードの管理を承認しました。台帳にないピアは削除されます",
    ),
    "adoption_undone": (
        "node",
        "{by} undid the adoption: peers that no row names stay",
        "{by} が管理の承認を取り消しました。台帳にないピアは維持されます",
    ),
    "policies_off": (
        "node",
        "Policies are not enforced any more: the packet filter has no table of wgsyncd",
        "ポリシーの適用を停止しました。パケットフィルターのテーブルは削除されました",
    ),
}

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
    AnomalyKind.QUARANTINED: ("moved more than the link can carry, not posted", "回線容量を超える増加。計上を保留"),
}
_TAKEOVERS = {
    TakeoverCause.STOPPED: ("it had stopped", "停止済み"),
    TakeoverCause.SILENT: ("no heartbeat for {count} s", "{count} 秒間ハートビートなし"),
    TakeoverCause.CLONE: ("it is a clone of this server", "このサーバーの複製のため"),
    TakeoverCause.ORDERED: ("{by} ordered it", "{by}の指示"),
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
        target_type, english, japanese = _MESSAGES[action]
        facts = dict(self._words(event.facts))
        message = (japanese if self._japanese else english).format(**facts)
        return AuditEntry(action, target_type, _plain(event.target)[:64], _plain(message)[:2000])

    def _words(self, facts: AuditFacts) -> Iterator[tuple[str, object]]:
        for one in _FACTS:
            value = getattr(facts, one)
            if value is None:
                continue
            if one in ("at", "since", "until"):
                value = datetime.fromtimestamp(int(value), self._zone).strftime("%Y-%m-%d %H:%M:%S")
            elif one == "reason":
                value = _reason(value, japanese=self._japanese)
            elif one == "updated":
                value = _UPDATED[value][self._japanese]
            elif one == "by":
                value = value or ("管理者" if self._japanese else "an admin")
            elif one == "takeover":
                by = facts.by or ("管理者" if self._japanese else "an admin")
                value = _TAKEOVERS[value][self._japanese].format(count=facts.count, by=by)
            elif one == "anomaly":
                value = _ANOMALIES[value][self._japanese]
            yield one, value


_FACTS = tuple(one.name for one in fields(AuditFacts))
_ACTIONS = {AuditAction.DEVICE_EXPIRED: "qr_expired"}  # every other row has the name of its event's action
_CONDITIONS = {
    (AuditAction.STORE_CONDITION_STARTED, "parent_conflict"): "parent_conflict",
    (AuditAction.STORE_CONDITION_ENDED, "parent_conflict"): "parent_conflict_cleared",
}


def _action(event: AuditEvent) -> str:
    if event.facts.condition is not None:
        return _CONDITIONS[event.action, event.facts.condition]
    return _ACTIONS.get(event.action, event.action.value)


ACTIONS = frozenset(_MESSAGES)
"""The action types of the rows that wgsyncd writes to admin_logs. The view wgsyncd_audit shows only these."""


def _reason(reason: ChangeReason, *, japanese: bool) -> str:
    if reason.inactive is None:
        return _CAUSES[reason.cause][japanese].format(interface=reason.interface)
    why = reason.inactive
    if why == DELETED and japanese:
        return "端末が削除されました"
    return _INACTIVE[why.kind][japanese].format(owner=why.owner, state=why.state)


def _plain(text: str) -> str:
    """The text without control characters (a device's name may hold a NUL) and without anything that could be a key."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "�" for c in text)
    return _KEYLIKE.sub("…", text)
