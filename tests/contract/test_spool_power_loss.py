"""After a power cut at any moment the spool holds the old content or the new content, whatever was not synced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lossy_disk import LossyDisk
from tests.samples import as_kept, waiting
from wgsyncd.core.usage.backlog import Backlog
from wgsyncd.stores.spool import FileSpool


class PowerCuts:
    """Cuts the power at every moment, and loads what is left each time."""

    def __init__(self, where: Path, patch: pytest.MonkeyPatch) -> None:
        self.live, self._left = where / "live", where / "left"
        self.live.mkdir()
        self._left.mkdir()
        self.seen: list[Backlog | None] = []
        self._cutting, self._number = False, 0
        self.disk = LossyDisk(self.live, patch, self._cut)

    def _cut(self, disk: LossyDisk) -> None:
        if self._cutting:
            return
        self._cutting = True
        for files in disk.outcomes():
            self._number += 1
            left = self._left / str(self._number)
            for name, content in files.items():
                (left / name).parent.mkdir(parents=True, exist_ok=True)
                (left / name).write_bytes(content)
            found = FileSpool(left / "wgsyncd", "r640").load()
            if found not in self.seen:
                self.seen.append(found)
        self._cutting = False

    def left_now(self) -> list[Backlog | None]:
        """What a process may find if the power fails now."""
        self.seen.clear()
        self._cut(self.disk)
        return list(self.seen)


@pytest.fixture
def cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PowerCuts]:
    made = PowerCuts(tmp_path, monkeypatch)
    yield made
    made.disk.close()


def test_a_power_cut_leaves_the_old_one_or_the_new_one(cuts: PowerCuts) -> None:
    spool = FileSpool(cuts.live / "wgsyncd", "r640")
    before = None
    for number in (5, 6, 7):
        cuts.seen.clear()
        new = waiting(spool, number, number + 10)
        spool.save(new)
        assert all(found in (before, as_kept(new)) for found in cuts.seen)
        assert before in cuts.seen, "there were cuts before the save was complete"
        assert cuts.left_now() == [as_kept(new)], "a save that is complete survives"
        before = as_kept(new)


def test_a_file_that_was_set_aside_does_not_come_back(cuts: PowerCuts) -> None:
    spool = FileSpool(cuts.live / "wgsyncd", "r640")
    spool.save(waiting(spool, 5))
    FileSpool(cuts.live / "wgsyncd", "r650").set_aside()
    assert cuts.left_now() == [None]
