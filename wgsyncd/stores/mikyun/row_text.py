"""How a row of a device becomes one text on the server, and how that text becomes a DeviceRow.

To read each column as a value would cost ten times as much, because the driver handles each value in Python.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from zoneinfo import ZoneInfo

from wgsyncd.core.model import DeviceRow, Status, read_key
from wgsyncd.core.peers.lifecycle import ISSUE_SKEW
from wgsyncd.core.reasons import Reason
from wgsyncd.stores.mikyun.eligibility import UNKNOWN, inactive_reasons
from wgsyncd.stores.mikyun.reading import reuse_equal, to_seconds

# Characters of a text that are read. A longer text is no name, key or address, and many would fill the memory.
MOST = 256
NAME_LENGTH = 64  # characters of a device's name in wgsyncd's tables
SEPARATOR = "\x1f"  # the "unit separator" of ASCII. If a column holds one, all rows are read column by column.

# The end of a QR code. NULLIF: the zero date means that there is no date.
QR_END = """COALESCE(NULLIF({d}qr_expires_at, 0), NULLIF({d}issued_at, 0) + INTERVAL {seconds:d} SECOND,
            NULLIF({d}created_at, 0) + INTERVAL {seconds:d} SECOND)"""

DEVICE_TEXTS = (
    "d.device_id", "d.contract_id", "d.wg_iface", "d.wg_ip", "d.public_key", "d.preshared_key", "d.status",
)  # fmt: skip
WIDE = ("ucs2", "utf16", "utf32")  # what the names of character sets begin with that cannot be compared with utf8mb4
DEVICE_NAME = "CONVERT(device_id USING utf8mb4)"  # as text, also of a binary column
_TEXTS = (*DEVICE_TEXTS, "c.contract_status")
# Devices with these statuses need no QR deadline. make_row decides about every other status.
_UNTIL_SCANNED = "COALESCE(IF(d.status IN ('active', 'paused', 'revoked', 'deleted'), NULL, CAST({} AS CHAR)), '')"
# A device that is issued again keeps its former handshakes, and these do not count. issued_at shows when it was issued.
# If the application leaves issued_at as it was, a device that was activated needs a handshake after its last one, and
# after the last change of its row. But if its last handshake or that change is after the end, the code with this end
# was scanned, and only the status was set back. If all three dates were emptied, bytes tell of the use before.
_ISSUED = "COALESCE(NULLIF(d.issued_at, 0), NULLIF(d.created_at, 0))"
_LAST = "COALESCE(NULLIF(d.last_handshake_at, 0), d.activated_at)"
_EMPTIED = """(d.activated_at IS NULL AND d.first_handshake_at IS NULL AND d.last_handshake_at IS NULL
               AND COALESCE(d.rx_bytes_total <> 0 OR d.tx_bytes_total <> 0, FALSE))"""
_AGAIN = f"""COALESCE((IF({{changed}}, GREATEST(NULLIF(d.activated_at, 0), {_LAST}), NULLIF(d.activated_at, 0))
                       >= COALESCE({_ISSUED}, d.activated_at)
                       AND GREATEST({_LAST}, COALESCE({{changed}}, {_LAST})) < {{end}})
                      OR ({_EMPTIED} AND {{changed}} < {{end}}), FALSE)"""
_FIRST_HANDSHAKE = f"IF(d.first_handshake_at < {_ISSUED} OR {_AGAIN}, NULL, NULLIF(d.first_handshake_at, 0))"
# The clocks of the application and of this machine may differ. A device that was online at its issue counts as scanned,
# because its next handshake comes within two minutes.
_AFTER_LAST, _AFTER_CHANGE = f"{_LAST} + INTERVAL 1 SECOND", f"{{changed}} - INTERVAL {ISSUE_SKEW} SECOND"
_SINCE = f"""IF({_LAST} >= {{changed}}, {{changed}},
                GREATEST(COALESCE({_AFTER_LAST}, {_AFTER_CHANGE}), COALESCE({_AFTER_CHANGE}, {_AFTER_LAST})))"""
_SCANNED_FROM = f"IF({_AGAIN}, {_SINCE}, NULLIF(d.issued_at, 0) - INTERVAL {ISSUE_SKEW} SECOND)"
_FLAGS = (
    "d.public_key IS NULL", "d.preshared_key IS NULL", "c.contract_id IS NULL",
    "NULLIF(d.first_handshake_at, 0) IS NULL", "NULLIF(d.last_handshake_at, 0) IS NULL", "{deleted}",
    "COALESCE(d.rx_bytes_total, 0) = 0 AND COALESCE(d.tx_bytes_total, 0) = 0", "COALESCE(d.is_parent = 1, 0)",
)  # fmt: skip
_DELETED, _PARENT = 5, 7
_FIELDS = 5 + len(_TEXTS)

# By the text that a column's collation takes as equal: see _row.
_DEVICE = {status: status for status in ("issued", "active", "paused", "revoked", "expired", "deleted")}
_CONTRACT = {status: status for status in ("active", "paused", "terminated", "deleted")}
_STATUS = {**{one: Status(one) for one in ("issued", "active", "expired")}, UNKNOWN: Status.UNKNOWN}


JOIN = "LEFT JOIN contracts c ON c.contract_id = d.contract_id"


@dataclass(frozen=True, slots=True)
class Schema:
    """The optional columns, the character sets and the collations of an installation's tables."""

    has_deleted_at: bool = False
    changed: str = "NULL"  # SQL for the time of the row's last change, in the node's zone. NULL: nobody can tell
    utf8: frozenset[str] = frozenset()  # columns that are utf8mb4 already: converting them takes half of a read
    join: str = JOIN

    def as_utf8(self, column: str) -> str:
        """SQL for a column as text in utf8mb4, NULL as the empty text.

        One binary column (VARBINARY) would make the whole joined text binary. One column of another type (INET4) would
        not take the empty text.
        """
        return f"COALESCE(LEFT({self.as_text(column)}, {MOST + 1}), '')"

    def as_text(self, column: str) -> str:
        """SQL for a column as text that can be compared with any text."""
        return column if column in self.utf8 else f"CONVERT({column} USING utf8mb4)"


def join_contracts(devices: str | None, contracts: str | None) -> str:
    """SQL that joins the contracts to the devices. Its arguments are the collations of the two contract_id.

    Two collations of one character set cannot be compared. With the contracts' own collation the server can use their
    index. Of two character sets, the server takes Unicode if one of them is Unicode, but not if both are.
    """
    charsets = [collation.partition("_")[0] for collation in (devices or "", contracts or "")]
    is_wide = any(one.startswith(WIDE) for one in charsets)
    has_utf8 = any(one.startswith("utf8") for one in charsets)
    if devices == contracts or "" in charsets or (charsets[0] != charsets[1] and has_utf8 and not is_wide):
        return JOIN
    if charsets[0] == charsets[1]:
        return f"LEFT JOIN contracts c ON c.contract_id = d.contract_id COLLATE {contracts}"
    ours, theirs = (f"CONVERT({table}.contract_id USING utf8mb4)" for table in "dc")
    return f"LEFT JOIN contracts c ON {theirs} = {ours}"


def columns(schema: Schema, qr_lifetime: int) -> str:
    """The columns of a row's text, as SQL. ``qr_lifetime``: seconds that a QR code without an end lasts."""
    qr_end = QR_END.format(d="d.", seconds=qr_lifetime)
    deleted = "NULLIF(d.deleted_at, 0) IS NOT NULL" if schema.has_deleted_at else "0"
    dates = map(
        _UNTIL_SCANNED.format,
        (qr_end, *(one.format(end=qr_end, changed=schema.changed) for one in (_FIRST_HANDSHAKE, _SCANNED_FROM))),
    )
    flags = f"CONCAT({', '.join(_FLAGS)})".format(deleted=deleted)
    return ", ".join(("d.id", *map(schema.as_utf8, _TEXTS), *dates, flags))


def as_text(columns: str) -> str:
    """The columns as one text, as SQL."""
    return f"CONCAT_WS('{SEPARATOR}', {columns})"


def split(text: str | None) -> list[str] | None:
    """The columns of a text. None if the text cannot be split into its columns."""
    fields = (text or "").split(SEPARATOR)  # the server gives NULL for a text longer than max_allowed_packet
    return fields if len(fields) == _FIELDS and len(fields[-1]) == len(_FLAGS) else None


def parent_of(fields: Sequence[str]) -> str | None:
    """The contract whose parent device a row is. None if the row is deleted, or is no parent device."""
    flags = fields[-1]
    return fields[2] if flags[_PARENT] == "1" and flags[_DELETED] == "0" else None


def make_row(fields: Sequence[str], zone: ZoneInfo, before: DeviceRow | None = None) -> DeviceRow:
    """The row of its columns' texts.

    ``before``: the same row at the last time. Values that did not change are the same objects as before, so that a row,
    its peer and its record share them in memory.
    """
    # A text that was cut off must not become right by that.
    texts = (one if len(str(one)) <= MOST else f"{one[:MOST]}…" for one in fields)
    (row_id, device, contract, interface, address, public_key, preshared_key, status, contract_status, qr_end, scanned,
     scanned_from, flags) = texts  # fmt: skip
    fault = None
    if len(device) > NAME_LENGTH:
        fault = Reason.LONG_NAME
        # still another name for each device, which every table can hold
        digest = hashlib.blake2b(device.encode(), digest_size=6).hexdigest()
        device = f"{device[: NAME_LENGTH - 1 - len(digest)]}…{digest}"
    no_key, no_secret, no_contract, first_unknown, last_unknown, deleted, zero, _ = (flag == "1" for flag in flags)
    # The collation of the columns ignores case and trailing spaces, so this comparison ignores them too.
    status_text = _DEVICE.get(status.rstrip(" ").casefold(), UNKNOWN)
    contract_word = None if no_contract else _CONTRACT.get(contract_status.rstrip(" ").casefold(), UNKNOWN)
    if contract_word == UNKNOWN:
        fault = Reason.UNKNOWN_STATUS
    key, secret = None if no_key else read_key(public_key), None if no_secret else read_key(preshared_key)
    number = int(row_id) if before is None else before.id
    if before is not None:
        device = reuse_equal(device, before.device)
        key, secret = reuse_equal(key, before.public_key), reuse_equal(secret, before.preshared_key)
    has_end = qr_end != "" and status_text in ("issued", "expired")  # after a scan the end does not matter
    return DeviceRow(
        id=number,
        device=device,
        owner=intern(contract),
        interface=intern(interface),
        addresses=(address,) if before is None else reuse_equal((address,), before.addresses),
        public_key=key,
        preshared_key=secret,
        status=_STATUS.get(status_text, Status.OFF),
        status_text=status_text,
        inactive=inactive_reasons(intern(contract), contract_word, deleted=deleted),
        activation_deadline=_instant(qr_end, zone) if has_end else None,
        version=qr_end if has_end else None,
        first_handshake=_instant(scanned, zone) if status_text == "issued" else None,
        scanned_from=_instant(scanned_from, zone) if status_text == "issued" else None,
        first_handshake_known=not (first_unknown and last_unknown),
        fault=fault,
        has_no_usage=zero and last_unknown,
    )


def _instant(text: str, zone: ZoneInfo) -> float | None:
    try:
        return to_seconds(datetime.fromisoformat(text), zone)
    except ValueError:  # the text is empty, or its month or day is zero
        return None
