"""A disk that loses what was not synced: everything that a folder may hold after a power cut.

It watches the calls of a program on a real folder. By fsync(2), only a file's synced content is sure to survive, and
only a synced directory's names are. What came later may survive as a whole, in part, or not at all.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

Names = dict[str, int]  # inode by path in the folder


class LossyDisk:
    """Watches ``folder`` and everything in it. ``each`` is called at every moment at which power may fail."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, each: Callable[[LossyDisk], None]) -> None:
        self._folder, self._each = folder, each
        self._synced: dict[int, bytes] = {}
        self._held: dict[int, BinaryIO] = {}  # an open file keeps its inode, so that no other file gets the number
        self._names: Names = {}
        self._later: list[tuple[Path, Callable[[Names], None]]] = []  # changes of names in a folder, not synced
        for name in ("open", "fsync", "rename", "mkdir", "unlink"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def done(*values: Any, **more: Any) -> Any:
            self._each(self)
            before = self._present()
            result = call(*values, **more)
            if name == "fsync":
                self._fsync(Path(os.readlink(f"/proc/self/fd/{values[0]}")))
            else:
                self._changed(before, self._present())
            self._each(self)
            return result

        return done

    def _present(self) -> Names:
        return {str(one.relative_to(self._folder)): one.stat().st_ino for one in self._folder.rglob("*")}

    def _changed(self, before: Names, after: Names) -> None:
        """One call is one change of names: rename(2) is atomic."""
        if before == after:
            return
        gone = before.keys() - after.keys()
        new = {name: inode for name, inode in after.items() if before.get(name) != inode}

        for name, inode in new.items():
            if inode not in self._held and (self._folder / name).is_file():
                self._held[inode] = (self._folder / name).open("rb")

        def change(names: Names) -> None:
            for name in gone:
                names.pop(name, None)
            names.update(new)

        self._later.append(((self._folder / min(gone | new.keys())).parent, change))

    def _fsync(self, path: Path) -> None:
        if not path.is_dir():
            self._synced[path.stat().st_ino] = path.read_bytes()
            return
        for where, change in self._later:
            if where == path:
                change(self._names)
        self._later = [one for one in self._later if one[0] != path]

    def outcomes(self) -> Iterator[dict[str, bytes]]:
        """Yields the content of each file by its name, for each state that a power cut now may leave."""
        for kept in itertools.product((False, True), repeat=len(self._later)):
            names = dict(self._names)
            for _, change in itertools.compress(self._later, kept):
                change(names)
            files = [name for name, inode in names.items() if inode in self._held and self._is_there(name, names)]
            versions = [self._versions(names[name]) for name in files]
            for contents in itertools.product(*versions):
                yield dict(zip(files, contents, strict=True))

    def _is_there(self, name: str, names: Names) -> bool:
        return all(str(one) in names for one in Path(name).parents if str(one) != ".")

    def _versions(self, inode: int) -> set[bytes]:
        self._held[inode].seek(0)
        synced, now = self._synced.get(inode, b""), self._held[inode].read()
        if synced == now:
            return {now}
        return {synced, now, now[: len(now) // 2], bytes(len(now))}

    def close(self) -> None:
        """Let go of the files."""
        for file in self._held.values():
            file.close()
