"""The journal gets entries with fields, and its catalog explains them."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import socket
import subprocess
from pathlib import Path

from etc.debian.catalog import RUNBOOK, SECTIONS, catalog, sections
from tests.shell.test_log import KEY, run
from wgsyncd import log


def entries(tmp_path: Path, code: str) -> list[dict[str, list[str]]]:
    """Runs a program under a pretended journal, and returns the journal's entries: values by field."""
    where = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(where))
        journal.setblocking(False)
        lines, _ = run(
            f"from wgsyncd import log\nlog.JOURNAL = {str(where)!r}\n{code}", to=str(tmp_path / "log"), journal="1"
        )
        assert lines == []
        found: list[dict[str, list[str]]] = []
        with contextlib.suppress(BlockingIOError):
            while data := journal.recv(1 << 20):
                found.append({})
                while data:
                    field, _, data = data.partition(b"\n")
                    size = int.from_bytes(data[:8], "little")
                    found[-1].setdefault(field.decode(), []).append(data[8 : 8 + size].decode())
                    assert data[8 + size : 9 + size] == b"\n"
                    data = data[9 + size :]
        return found


def test_the_journal_gets_a_field_for_each_value(tmp_path: Path) -> None:
    code = """
log.configure("info")
one = log.get("agent")
one.warning("row is rejected", device="0001-DEV-001", row=1, why="a\\nb")
one.info("peers changed", interface="wg0", peers=30, devices=[f"d{at}" for at in range(30)])
"""
    first, second = entries(tmp_path, code)
    assert first == {
        "MESSAGE": ['event="row is rejected" device=0001-DEV-001 row=1 why=a\\nb logger=agent'],
        "MESSAGE_ID": [log.message_id("row is rejected")],
        "PRIORITY": ["4"],
        "SYSLOG_IDENTIFIER": ["wgsyncd"],
        "WGSYNCD_DEVICE": ["0001-DEV-001"],
        "WGSYNCD_EVENT": ["row is rejected"],
        "WGSYNCD_LOGGER": ["agent"],
        "WGSYNCD_ROW": ["1"],
        "WGSYNCD_WHY": ["a\\nb"],
    }
    assert second["WGSYNCD_DEVICE"] == [f"d{at}" for at in range(30)]
    assert second["MESSAGE"][0].endswith('d18, d19 and 10 more" logger=agent')
    assert first["MESSAGE_ID"] != second["MESSAGE_ID"]
    assert all(re.fullmatch("[0-9a-f]{32}", one["MESSAGE_ID"][0]) for one in (first, second))


def test_no_value_makes_a_field_of_its_own_and_no_key_is_in_one(tmp_path: Path) -> None:
    """A name with line breaks in it, which come from a row, stays one value, also with JSON as the format."""
    code = f"""
log.configure("info", "json")
log.get("t").error("event", text="x\\nPRIORITY=0\\n\\0WGSYNCD_DEVICE=y", key={KEY!r}, devices=["a\\nMESSAGE=b", {KEY!r}])
"""
    (found,) = entries(tmp_path, code)
    assert found["PRIORITY"] == ["3"]
    assert len(found["MESSAGE"]) == 1 and len(found["WGSYNCD_DEVICE"]) == 2
    assert KEY[10:] not in str(found)


def test_what_the_journal_does_not_take_becomes_a_line(tmp_path: Path) -> None:
    code = f"""
from wgsyncd import log
log.JOURNAL = {str(tmp_path / "nobody")!r}
log.configure("info")
log.get("t").info("heard", devices=["a", "b"])
"""
    lines, _ = run(code, to=str(tmp_path / "log"), journal="1")
    assert lines == ['<6>event=heard devices="a, b" logger=t']


UNEXPLAINED = {
    "stopped without a last account: the database did not answer in time",
    "a bug refuses the new configuration",
}
"""The events of errors that the runbook has no section for."""
NOT_LOGGED = {
    "WgsyncdAbsent", "WgsyncdRestarting", "WgsyncdStandbyServes", "WgsyncdHeartbeatOld", "WgsyncdReconcileStale",
    "WgsyncdAccountingStale", "WgsyncdManyProfiles", "WgsyncdBlockedRemovals", "WgsyncdRemovalsSlow",
    "WgsyncdPeersWithoutMetrics", "WgsyncdSpoolOld", "WgsyncdQuarantine", "WgsyncdVerifyStale", "WgsyncdRefusedPackets",
}  # fmt: skip
"""The sections of the runbook about what only metrics show, or what another event tells: a rejected row, an anomaly."""


def constants() -> tuple[set[str], set[str]]:
    """Returns every text of the program's source, and those that are logged as an error."""
    texts, errors = set[str](), set[str]()
    for file in Path(log.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "error":
                errors |= {str(one.value) for one in node.args[:1] if isinstance(one, ast.Constant)}
    return texts, errors


def test_the_catalog_explains_events_that_occur_with_sections_that_exist() -> None:
    texts, errors = constants()
    types = {one for one in SECTIONS if one.removeprefix("condition begins: ") in texts}
    assert set(SECTIONS) <= texts | types
    assert set(sections(RUNBOOK.read_text())) - NOT_LOGGED == set(SECTIONS.values()), "each other section is shown"
    assert errors - set(SECTIONS) == UNEXPLAINED, "an error without a section of the runbook"


def test_systemd_reads_the_catalog(tmp_path: Path) -> None:
    """journalctl writes its database of catalogs in a root of ours, and shows an entry of ours."""
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (folder / "wgsyncd.catalog").write_text(catalog(), encoding="ascii")
    journalctl = shutil.which("journalctl")
    assert journalctl, "NOT TESTED: needs journalctl of systemd"
    said = subprocess.run(
        [journalctl, f"--root={tmp_path}", "--update-catalog"], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")
    shown = subprocess.run(
        [journalctl, f"--root={tmp_path}", "--dump-catalog"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.count("Defined-By: wgsyncd") == len(SECTIONS) == len(set(map(log.message_id, SECTIONS)))
    assert "if it was a mistake, restore the rows" in shown
    assert "](" not in shown
