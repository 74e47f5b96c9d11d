"""A spool that somebody else made is set aside, also with a right checksum, and nothing in its place can block."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.samples import waiting
from wgsyncd.errors import SpoolCorrupt, SpoolError
from wgsyncd.stores import spool
from wgsyncd.stores.spool import MAGIC, FileSpool


@pytest.fixture
def file(tmp_path: Path) -> FileSpool:
    made = FileSpool(tmp_path, "r640")
    made.save(waiting(made, 5, 6))
    return made


def rewrite(file: FileSpool, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content, and make the checksum right again."""
    content = msgspec.json.decode(file.file.read_bytes().partition(b"\n")[2])
    change(content)
    body = msgspec.json.encode(content)
    file.file.write_bytes(MAGIC + spool._checksum(body) + b"\n" + body)


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def a_terabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


PLACES: dict[str, Callable[[Path], object]] = {
    "a FIFO": a_fifo, "a socket": a_socket, "a directory": Path.mkdir,
    "a link to an endless file": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("/nothing"),
    "a file of a terabyte": a_terabyte,
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_plain_file_is_set_aside(file: FileSpool, place: str) -> None:
    file.file.unlink()
    PLACES[place](file.file)
    with pytest.raises(SpoolCorrupt, match=r"It is now spool\.bad1"):
        file.load()
    assert file.load() is None
    file.save(waiting(file, 7))
    assert file.load() is not None


def sample(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["samples"][0].update(values)


CORPUS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a time before 1970": sample(at=-1.0), "a time that no calendar has": sample(at=1e300),
    "a beginning before 1970": sample(since=-1e9), "a day that is none": sample(day="2026-02-31"),
    "a day with a tail": sample(day="2026-02-03\n"), "a negative number": sample(number=-1),
    "a counter below zero": sample(peers={"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=": [-1, 0, 0]}),
    "a counter beyond 64 bits": sample(peers={"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=": [1 << 64, 0, 0]}),
    "a handshake beyond 63 bits": sample(peers={"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=": [0, 0, 1 << 63]}),
    "a name of a megabyte": sample(interface="x" * (1 << 20)),
    "one sample twice": lambda content: content["samples"].append(content["samples"][0]),
    "a next number that was used": lambda content: content.update(next_number=0),
    "a stream that no column holds": lambda content: content.update(stream="x" * 33),
}  # fmt: skip


@pytest.mark.parametrize("lie", CORPUS)
def test_a_right_checksum_makes_no_nonsense_true(file: FileSpool, lie: str) -> None:
    rewrite(file, CORPUS[lie])
    with pytest.raises(SpoolCorrupt):
        file.load()


def test_a_rewritten_spool_is_itself(file: FileSpool) -> None:
    rewrite(file, lambda _: None)
    assert file.load() is not None


def test_spoiled_values_are_a_backlog_or_a_value_error(file: FileSpool) -> None:
    chance = random.Random(16)
    body = file.file.read_bytes().partition(b"\n")[2]
    for _ in range(3000):
        spoiled = bytearray(body)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(spoiled))
            spoiled[at : at + chance.randrange(3)] = chance.choice(
                (b"9", b"-", b"e9", b"null", b'"', b"", b"[", b"9" * 30)
            )
        try:
            spool.decode(MAGIC + spool._checksum(bytes(spoiled)) + b"\n" + bytes(spoiled), "r640")
        except ValueError:
            continue


def test_a_pipe_in_the_place_of_the_new_file_stops_no_daemon(file: FileSpool) -> None:
    a_fifo(file.file.with_suffix(".new"))
    with pytest.raises(SpoolError, match="cannot be written"):
        file.save(file.begin())
