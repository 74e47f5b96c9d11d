"""The catalog of the journal: `journalctl -x` shows the runbook's section below an entry of wgsyncd.

The format is on https://systemd.io/CATALOG/.
"""

from __future__ import annotations

import re
from pathlib import Path

from wgsyncd.log import message_id

RUNBOOK = Path(__file__).parents[1] / "doc" / "runbook.md"
SECTIONS = {
    "wgsyncd does not start": "WgsyncdDown",
    "bad configuration": "WgsyncdDown",
    "the database failed. Devices stay connected, traffic is kept, the work is tried again": "WgsyncdDatabaseDown",
    "the database failed before any row was read. The node may lack peers, and it removes none": "WgsyncdDatabaseDown",
    "the work failed and is tried again": "WgsyncdErrors",
    "new configuration refused, the old one goes on": "WgsyncdConfigRefused",
    "node taken over from another machine": "WgsyncdNodeTakenOver",
    "a clone of this server had taken the node over": "WgsyncdNodeTakenOver",
    "NOTHING WAS REMOVED: the guard keeps peers that would go": "WgsyncdGuardTripped",
    "NOTHING WAS TAKEN AWAY: the guard keeps the access of devices": "WgsyncdAccessWithheld",
    "plane failed, tried again next cycle": "WgsyncdPoliciesFail",
    "another program changed the packet filter": "WgsyncdFilterChanged",
    "the packet filter cannot be changed, so it is replaced as a whole": "WgsyncdFilterChanged",
    "clients route other addresses than their policies allow": "WgsyncdStaleProfiles",
    "several devices have one address, so it reaches nothing": "WgsyncdSharedAddresses",
    "admin_logs refuses audit rows: they wait in wgsyncd_unwritten": "WgsyncdAuditWaits",
    "audit_logs refuses audit rows: they wait in wgsyncd.unwritten": "WgsyncdAuditWaits",
    "audit rows are lost: wgsyncd_unwritten refuses them too": "WgsyncdAuditWaits",
    "audit rows are lost: wgsyncd.unwritten refuses them too": "WgsyncdAuditWaits",
    "audit rows are lost: too many wait for admin_logs": "WgsyncdAuditWaits",
    "interface missing: its peers are without service": "WgsyncdInterfaceMissing",
    "interface cannot be read": "WgsyncdInterfaceMissing",
    "interface cannot be read back": "WgsyncdInterfaceMissing",
    "NOBODY CAN CONNECT: clients know another interface": "WgsyncdInterfaceChanged",
    "drift after apply, tried again next cycle": "WgsyncdDrift",
    "changes failed": "WgsyncdChangesRefused",
    "change refused": "WgsyncdChangesRefused",
    "row is rejected, and its live peer, if any, stays as it is": "WgsyncdRejectedRows",
    "another program removed peers: they are added again": "WgsyncdPeersTakenOut",
    "spool is full: later samples wait in the kernel only": "WgsyncdSamplesOld",
    "spool cannot be written: samples wait in memory": "WgsyncdSpoolBroken",
    "spool cannot be read: samples that cannot be posted wait in memory": "WgsyncdSpoolBroken",
    "the spool is damaged: its samples are not posted": "WgsyncdSpoolCorrupt",
    "another program has locked rows: their bytes are posted later": "WgsyncdLockedRows",
    "the database is too slow to change rows: their bytes are posted later": "WgsyncdLockedRows",
    "the server refuses to change a row: its bytes are set aside": "WgsyncdRefusedRows",
    "columns and wgsyncd's tables do not belong together": "WgsyncdAnomalies",
    "usage anomaly": "WgsyncdAnomalies",
    "shaping is off, but not all of it could be taken away. A reload tries again": "WgsyncdShaping",
    "tc cannot be read or changed, peers go on without it": "WgsyncdShaping",
    "not everything is shaped, tried again next cycle": "WgsyncdShaping",
    "discrepancy found": "WgsyncdVerifyFindings",
    "condition begins: parent_conflict": "WgsyncdParentConflicts",
    "condition begins: unknown_profile": "WgsyncdUnknownProfile",
    "condition begins: devices_over_limit": "WgsyncdDeviceLimits",
    "condition begins: policy_faulty": "WgsyncdConditions",
    "condition begins: gateway_drift": "WgsyncdConditions",
    "condition begins: unallocated": "WgsyncdConditions",
}
"""The event of a log line, and the section of the runbook about it."""


def sections(text: str) -> dict[str, str]:
    """The sections of the runbook by title, without the marks of Markdown."""
    found = re.findall(r"^## (\w+)\n\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    return {title: re.sub(r"\[([^]]+)\]\([^)]+\)|\*(\w+)\*", r"\1\2", body).strip() for title, body in found}


def catalog() -> str:
    """The catalog's text."""
    runbook = sections(RUNBOOK.read_text(encoding="utf-8"))
    entries = [
        f"-- {message_id(event)}\nSubject: wgsyncd: {event}\nDefined-By: wgsyncd\n"
        f"Documentation: man:wgsyncd-runbook(7)\n\n{runbook[title]}\n"
        for event, title in SECTIONS.items()
    ]
    return "\n".join(entries)
