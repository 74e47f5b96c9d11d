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

from wgsyncd.core.audit import AuditEvent, AuditFacts
from wgsyncd.core.reasons import ChangeReason
from wgsyncd.redact import with_config
from wgsyncd.stores.audit_texts import is_known, reason_text, row_name
from wgsyncd.stores.mikyun.eligibility import DELETED
from wgsyncd.stores.mikyun.message_texts import ENGLISH, ENGLISH_WORDS, JAPANESE, JAPANESE_WORDS, TARGETS


class AuditEntry(NamedTuple):
    """One row of admin_logs, without its time. ``target_type``: device, contract, interface or node."""

    action: str
    target_type: str
    target_id: str
    message: str


_KEYLIKE = re.compile(r"[A-Za-z0-9+/_=-]{40,}")
# The facts that a message names.
_FACTS = {
    action: [one.name for one in fields(AuditFacts) if f"{{{one.name}" in ENGLISH[action] + JAPANESE[action]]
    for action in ENGLISH
}
_NAMES = {"device_expired": "qr_expired", "cap_reached_cleared": "cap_ended"}  # of rows that have one of their own


class AuditMessages:
    """Writes the messages of events in one language ("ja" or "en"), with times of one zone."""

    def __init__(self, language: str, zone: ZoneInfo) -> None:
        self._japanese, self._zone = language == "ja", zone
        self._messages, self._said = (JAPANESE, JAPANESE_WORDS) if self._japanese else (ENGLISH, ENGLISH_WORDS)

    def entries(self, events: Iterable[AuditEvent]) -> Iterator[AuditEntry]:
        """The rows of admin_logs for events, in the order of the events."""
        return (self.entry(one) for one in events if is_known(one, ENGLISH.keys() | _NAMES.keys()))

    def entry(self, event: AuditEvent) -> AuditEntry:
        """The row of admin_logs for one event. KeyError: this store does not know the event, or a fact is missing."""
        name = row_name(event)
        action = _NAMES.get(name, name)
        message = self._messages[action].format(**dict(self._words(action, event.facts)))
        return AuditEntry(action, TARGETS.get(action, "node"), _plain(event.target)[:64], _plain(message)[:2000])

    def _words(self, action: str, facts: AuditFacts) -> Iterator[tuple[str, object]]:
        by = facts.by or ("管理者" if self._japanese else "an admin")
        for one in _FACTS[action]:
            value = getattr(facts, one)
            if value is None:
                continue
            if one in ("at", "since", "until"):
                value = datetime.fromtimestamp(int(value), self._zone).strftime("%Y-%m-%d %H:%M:%S")
            elif one == "reason":
                value = self._reason(value)
            elif one == "by":
                value = by
            elif one in ("anomaly", "bandwidth", "takeover", "updated"):
                value = self._said[value].format(count=facts.count, by=by)
            yield one, value

    def _reason(self, reason: ChangeReason) -> str:
        if self._japanese and reason.inactive == DELETED:
            return "端末が削除されました"
        return reason_text(reason, self._said, "、契約 {}" if self._japanese else ", contract {}")


ACTIONS = frozenset(ENGLISH)
"""The action types of the rows that wgsyncd writes to admin_logs. The view wgsyncd_audit shows only these."""


def _plain(text: str) -> str:
    """The text without control characters (a device's name may hold a NUL) and without anything that could be a key."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "�" for c in text)
    return with_config(_KEYLIKE.sub("…", text))
