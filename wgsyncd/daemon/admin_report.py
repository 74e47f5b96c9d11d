"""The documents with which the daemon answers POST /sync and POST /reload."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from wgsyncd.errors import ConfigIssue


class SyncReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd sync --json`."""

    compared: list[str] | Literal["everything"]


class ReloadReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd reload --json`."""

    taken: bool
    config: str
    faults: list[ConfigIssue]
