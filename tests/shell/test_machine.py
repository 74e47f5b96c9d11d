"""The machine notes the revision of the node state in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from wgsyncd.daemon.machine import LocalMachine


def test_the_revision_survives_the_process(tmp_path: Path) -> None:
    LocalMachine(tmp_path).revision = 7
    assert LocalMachine(tmp_path).revision == 7


def test_each_revision_is_written_at_once(tmp_path: Path) -> None:
    noted = LocalMachine(tmp_path)
    written = []
    for revision in (7, 8, 1 << 30, 3):
        noted.revision = revision
        written.append(LocalMachine(tmp_path).revision)
    assert written == [7, 8, 1 << 30, 3]


@pytest.mark.parametrize("found", [b"", b"nonsense", b"\xff"])
def test_a_damaged_file_says_nothing(tmp_path: Path, found: bytes) -> None:
    (tmp_path / "revision").write_bytes(found)
    assert LocalMachine(tmp_path).revision == 0


def test_without_a_folder_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    LocalMachine().revision = 7
    gone = LocalMachine(tmp_path / "not there")
    gone.revision = 7
    assert (LocalMachine().revision, LocalMachine(tmp_path / "not there").revision) == (0, 0)
