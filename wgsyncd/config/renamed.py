"""The keys and sections of earlier versions, each with its present name."""

from collections.abc import Mapping

RENAMED: Mapping[str, str] = {
    "audit": "mikyun",
    "database": "mikyun.database",
    "guard.min_removals": "guard.always_allowed",
    "guard.share": "guard.max_share",
    "interfaces.NAME.max_rate": "interfaces.NAME.line_rate",
    "interfaces.NAME.rows": "interfaces.NAME.store_name",
    "node.elsewhere": "node.ignored_interfaces",
    "qr": "mikyun.qr",
    "schedule.account": "schedule.poll_interval",
    "schedule.reconcile": "schedule.resync_interval",
    "schedule.watch": "schedule.watch_interval",
    "usage.bucket": "usage.bucket_width",
    "usage.keep_days": "usage.retention",
    "usage.perspective": "mikyun.perspective",
}
"""Old name to new name. A name without a dot is a section. NAME stands for any interface."""


def present_name(key: str) -> str | None:
    """The present name of a key or section. None if the key was never renamed."""
    section, _, name = key.rpartition(".")
    if section.startswith("interfaces."):
        present = RENAMED.get(f"interfaces.NAME.{name}")
        return present and f"{section}.{present.removeprefix('interfaces.NAME.')}"
    return RENAMED.get(key)
