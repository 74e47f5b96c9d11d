"""The documents of `--json` that only the command line makes, and that need no module of their own."""

from __future__ import annotations

from msgspec import Struct

from wgsyncd.errors import ConfigIssue


class CheckConfigReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd check-config --json`."""

    config: str
    faults: list[ConfigIssue]
