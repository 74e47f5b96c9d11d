"""The documents of `--json` that only the command line makes."""

from __future__ import annotations

from msgspec import Struct


class ApproveReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd approve --json`."""

    plan: str
    approved: bool
    carried_out: bool  # false: the daemon does it in its next cycle
    removed: int | None
