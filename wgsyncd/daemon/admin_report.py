"""The documents with which the daemon answers POST /sync and POST /reload."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from wgsyncd.errors import ConfigIssue


class SyncReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd sync --json`."""

    compared: list[str] | Literal["everything"]  # device ids


class ReloadReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd reload --json`."""

    taken: bool  # False: the configuration has faults, and the one before goes on
    config: str  # the configuration file
    faults: list[ConfigIssue]
