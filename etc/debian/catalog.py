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
    "the database failed. Customers stay connected, traffic is kept, the work is tried again": "WgsyncdDatabaseDown",
    "the work failed and is tried again": "WgsyncdErrors",
    "new configuration refused, the old one goes on": "WgsyncdConfigRefused",
    "node taken over from another machine": "WgsyncdNodeTakenOver",
    "a clone of this server had taken the node over": "WgsyncdNodeTakenOver",
    "too many removals: withheld until an admin approves": "WgsyncdGuardTripped",
    "interface missing: its peers are without service": "WgsyncdInterfaceMissing",
    "interface cannot be read": "WgsyncdInterfaceMissing",
    "interface cannot be read back": "WgsyncdInterfaceMissing",
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
    "tc cannot be read or changed, peers go on without it": "WgsyncdShaping",
    "not everything is shaped, tried again next cycle": "WgsyncdShaping",
    "discrepancy found": "WgsyncdVerifyFindings",
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
