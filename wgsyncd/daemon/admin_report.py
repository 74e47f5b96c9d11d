"""The documents with which the daemon alone answers requests."""

import json
from typing import Literal

import msgspec
from msgspec import Struct

from wgsyncd.errors import ConfigIssue
from wgsyncd.redact import with_config


class ApproveReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd approve --json`."""

    plan: str
    approved: bool
    carried_out: bool  # false: the daemon does it in its next cycle
    removed: int | None  # peers. null: the plan is not carried out yet


class SyncReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd sync --json`."""

    compared: list[str] | Literal["everything"]  # device ids
    without_row: list[str]  # these of them are no row's, for example because the name is wrong


class ReloadReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd reload --json`."""

    taken: bool  # False: the configuration has faults, and the one before goes on
    config: str  # the configuration file
    faults: list[ConfigIssue]
    warnings: list[str]  # what changed and may surprise


class ErrorReport(Struct, frozen=True, kw_only=True):
    """The answer to a request that failed."""

    error: str
    key: str | None  # the part of the request that is wrong


def as_json(report: object) -> bytes:
    """A document as one line of JSON. Bytes of a file's name that are no UTF-8 are escaped."""
    text = with_config(json.dumps(msgspec.to_builtins(report), ensure_ascii=False), is_json=True) + "\n"
    return text.encode("utf-8", "backslashreplace")
