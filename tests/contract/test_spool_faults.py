"""After an interrupted write the spool holds the old content or the new content, completely."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Crash
from tests.samples import as_kept, waiting
from wgsyncd.errors import SpoolError
from wgsyncd.stores.spool import FileSpool


@pytest.fixture
def file(tmp_path: Path) -> FileSpool:
    return FileSpool(tmp_path / "wgsyncd", "r640")


STEPS = ["open", "write", "fsync", "rename"]


@pytest.mark.parametrize("how", ["crash before", "crash after", "EIO", "ENOSPC"])
@pytest.mark.parametrize("step", STEPS)
def test_a_save_that_breaks_off_leaves_the_old_one_or_the_new_one(
    file: FileSpool, monkeypatch: pytest.MonkeyPatch, step: str, how: str
) -> None:
    old, new = waiting(file, 5), waiting(file, 6, 7)
    file.save(old)

    def broken(call: Callable[..., Any]) -> Callable[..., Any]:
        def strike(*values: Any, **more: Any) -> Any:
            if how == "crash after":
                call(*values, **more)
            if how.startswith("crash"):
                raise Crash
            raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)))

        return strike

    class Torn:
        """Writes the first half, and then fails or crashes in the second half."""

        def __init__(self, raw: Any) -> None:
            self.raw = raw

        def __enter__(self) -> Torn:
            return self

        def __exit__(self, *_: object) -> None:
            self.raw.close()

        def write(self, view: memoryview) -> int:
            self.raw.write(view[: len(view) // 2])
            return int(broken(self.raw.write)(view[len(view) // 2 :]))

    if step == "write":
        monkeypatch.setattr("builtins.open", lambda *values, **more: Torn(os.fdopen(values[0], "wb", 0)))
    else:
        monkeypatch.setattr(os, step, broken(getattr(os, step)))
    with pytest.raises(Crash if how.startswith("crash") else SpoolError):
        file.save(new)
    monkeypatch.undo()
    found = FileSpool(file.file.parent, "r640").load()
    assert found == as_kept(new if (step, how) == ("rename", "crash after") else old)
    file.save(new)
    assert file.load() == as_kept(new)
    assert [one.name for one in file.file.parent.iterdir()] == ["spool"]


def test_a_directory_that_cannot_be_synced_is_no_failed_save(file: FileSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is in place. A process that relied on the old file would mark the wrong samples as posted."""
    file.save(waiting(file, 5))
    new, fsync, calls = waiting(file, 6), os.fsync, []

    def only_files(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    file.save(new)
    assert len(calls) == 2, "file, then directory"
    assert file.load() == as_kept(new)


def test_what_is_written_in_parts_is_whole(file: FileSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        def __init__(self, raw: Any) -> None:
            self.raw = raw

        def __enter__(self) -> Slow:
            return self

        def __exit__(self, *_: object) -> None:
            self.raw.close()

        def write(self, view: memoryview) -> int:
            return int(self.raw.write(view[:7]))

    monkeypatch.setattr("builtins.open", lambda *values, **more: Slow(os.fdopen(values[0], "wb", 0)))
    one = waiting(file, 5, 6)
    file.save(one)
    monkeypatch.undo()
    assert file.load() == as_kept(one)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mounts a file system of 16 KiB and yields its path."""
    where = tmp_path / "small"
    where.mkdir()
    assert os.geteuid() == 0, "NOT TESTED: needs root, to mount a file system"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "spool", str(where)], check=True)
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk_leaves_what_stands(small_disk: Path) -> None:
    file = FileSpool(small_disk, "r640")
    old = waiting(file, *range(2, 20))
    file.save(old)
    large = waiting(file, *range(2, 250))
    with pytest.raises(SpoolError, match="No space left"):
        file.save(large)
    assert file.load() == as_kept(old)
    smaller = waiting(file, 5)
    file.save(smaller)
    assert file.load() == as_kept(smaller)
