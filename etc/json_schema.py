"""Writes the JSON schema of every document of `--json` and of the control socket.

    python etc/json_schema.py [DIRECTORY]

writes NAME.json for each document, by default into etc/doc/schema.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from wgsyncd.cli import explain_report, usage_report
from wgsyncd.cli.commands import adopt, check_config, doctor, psk, quarantine, takeover, verify
from wgsyncd.daemon import admin_report
from wgsyncd.demo import observation as demo_report
from wgsyncd.engine.reports import devices as devices_report
from wgsyncd.engine.reports import plan as plan_report
from wgsyncd.engine.reports import status_document

DOCUMENTS: Mapping[str, type[msgspec.Struct]] = {
    "adopt": adopt.AdoptReport,
    "approve": admin_report.ApproveReport,
    "check-config": check_config.CheckConfigReport,
    "demo": demo_report.DemoReport,
    "devices": devices_report.DevicesReport,
    "doctor": doctor.DoctorReport,
    "error": admin_report.ErrorReport,
    "explain": explain_report.ExplainReport,
    "plan": plan_report.PlanReport,
    "psk": psk.PskReport,
    "quarantine": quarantine.QuarantineReport,
    "reload": admin_report.ReloadReport,
    "status": status_document.StatusReport,
    "sync": admin_report.SyncReport,
    "takeover": takeover.TakeoverReport,
    "usage": usage_report.UsageReport,
    "usage-top": usage_report.UsageRankingReport,
    "verify": verify.VerifyReport,
}
DIRECTORY = Path(__file__).parent / "doc/schema"


def schema(name: str) -> str:
    """The schema of one document, as the file has it."""
    (definition,), parts = msgspec.json.schema_components([DOCUMENTS[name]], ref_template="#/$defs/{name}")
    whole: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"wgsyncd {name}",
        **definition,
        "$defs": parts,
    }
    return json.dumps(whole, indent=2, sort_keys=True) + "\n"


def main(directory: Path = DIRECTORY) -> None:
    """Write every schema."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTS:
        (directory / f"{name}.json").write_text(schema(name), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
