"""A spool returns its last save completely or is quarantined, in memory and in a file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakespool import FakeSpool
from tests.samples import NOW, as_kept, dump, key, peer, psk, state, waiting
from wgsyncd import ports
from wgsyncd.core.model import NO_PRESHARED_KEY, InterfaceState, PeerConfig, PeerState, PublicKey, encode_key
from wgsyncd.core.usage.backlog import Backlog, Sample
from wgsyncd.errors import SpoolCorrupt, SpoolError
from wgsyncd.stores import spool
from wgsyncd.stores.spool import FileSpool, decode, encode


@pytest.fixture(params=["fake", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., ports.Spool]:
    """Returns a function that opens the spool as the next process, of a node with this name, finds it."""
    fake = FakeSpool()

    def opened(node: str = "r640") -> ports.Spool:
        fake.open(node)
        return fake if request.param == "fake" else FileSpool(tmp_path, node)

    return opened


@pytest.fixture
def file(tmp_path: Path) -> FileSpool:
    return FileSpool(tmp_path / "wgsyncd", "r640")


# -- both spools


def test_where_nothing_was_saved_there_is_nothing(make: Callable[[], ports.Spool]) -> None:
    assert make().load() is None


def test_what_was_saved_last_comes_back(make: Callable[[], ports.Spool]) -> None:
    first, second = waiting(make(), 5, 6), waiting(make(), 7)
    for one in (first, second, first):
        make().save(one)
        found = make().load()
        assert found is not None
        assert as_kept(found) == as_kept(one)


def test_each_numbering_has_a_name_of_its_own(make: Callable[[], ports.Spool]) -> None:
    names = {make().begin().stream for _ in range(50)}
    assert len(names) == 50
    assert all(len(f"{name}:{2**40}") <= 32 for name in names), "the column's width"


def test_another_nodes_backlog_has_its_name_until_it_is_put_aside(make: Callable[..., ports.Spool]) -> None:
    make().save(waiting(make(), 5))
    for _ in range(2):
        found = make("r650").load()
        assert found is not None
        assert found.other_node == "r640"
        make("r650").save(found)
    own = make().load()
    assert own is not None
    assert not own.other_node
    make("r650").set_aside()
    assert make("r650").load() is None
    assert make().load() is None


def test_a_renamed_nodes_backlog_gets_the_new_name(make: Callable[..., ports.Spool]) -> None:
    one = waiting(make(), 5, 6)
    make().save(one)
    found = make("r650").load()
    assert found is not None
    assert as_kept(replace(found, other_node="")) == as_kept(one)
    make("r650").save(replace(found, other_node=""))
    again = make("r650").load()
    assert again is not None
    assert as_kept(again) == as_kept(one)


# -- the file


def test_nothing_is_made_before_something_is_kept(file: FileSpool) -> None:
    assert file.load() is None
    assert not file.file.parent.exists()


def test_only_its_owner_reads_it_and_no_secret_is_in_it(file: FileSpool) -> None:
    secret = dump(state(peer(5, preshared_key=psk(1)), 5))
    file.save(file.begin().append(secret, NOW, NOW, "", None))
    assert file.file.stat().st_mode & 0o777 == 0o600
    assert file.file.parent.stat().st_mode & 0o777 == 0o700
    text = file.file.read_bytes()
    assert psk(1) not in text
    assert encode_key(psk(1)).encode() not in text
    assert b"10.200.0.5" not in text, "nor who had which address"


def aside(file: FileSpool) -> list[str]:
    return sorted(one.name for one in file.file.parent.iterdir())


def set_aside(file: FileSpool, *, names: list[str]) -> str:
    with pytest.raises(SpoolCorrupt) as damaged:
        file.load()
    assert aside(file) == names
    assert damaged.value.name in names
    assert file.load() is None, "said once"
    return str(damaged.value)


def test_a_torn_file_is_set_aside_wherever_it_was_torn(file: FileSpool) -> None:
    file.save(waiting(file, 5))
    whole = file.file.read_bytes()
    for length in range(len(whole)):
        file.file.write_bytes(whole[:length])
        set_aside(file, names=["spool.bad1"])
        (file.file.parent / "spool.bad1").unlink()
    file.file.write_bytes(whole + b" ")
    set_aside(file, names=["spool.bad1"])


def test_a_file_with_any_byte_changed_is_set_aside(file: FileSpool) -> None:
    file.save(waiting(file, 5))
    whole = file.file.read_bytes()
    for place in range(len(whole)):
        file.file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        set_aside(file, names=["spool.bad1"])
        (file.file.parent / "spool.bad1").unlink()


def test_each_is_set_aside_under_a_name_of_its_own(file: FileSpool) -> None:
    file.file.parent.mkdir()
    for names in (["spool.bad1"], ["spool.bad1", "spool.bad2"], ["spool.bad1", "spool.bad2", "spool.bad3"]):
        file.file.write_bytes(b"junk")
        assert names[-1] in set_aside(file, names=names)


def test_another_versions_file_is_set_aside(file: FileSpool) -> None:
    file.file.parent.mkdir()
    file.file.write_bytes(encode(waiting(file, 5), "r640").replace(b"spool 1", b"spool 2", 1))
    assert "of this version" in set_aside(file, names=["spool.bad1"])


BODIES = [b"", b"{", b"[]", b"{}", b'{"node": 1}', b"\xff", b'{"node":"r640","stream":"a","next_number":1,"samples":[{}]}',
          b'{"node":"r640","stream":"a","next_number":1,"samples":[],"more":1}']  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
def test_a_whole_file_that_says_something_else_is_set_aside(file: FileSpool, body: bytes) -> None:
    file.file.parent.mkdir()
    file.file.write_bytes(spool.MAGIC + spool._checksum(body) + b"\n" + body)
    set_aside(file, names=["spool.bad1"])


def test_a_key_that_is_none_is_no_spool(file: FileSpool) -> None:
    body = encode(waiting(file, 5), "r640").partition(b"\n")[2].replace(encode_key(key(5)).encode(), b"AAAA")
    with pytest.raises(ValueError, match="has 3 bytes"):
        decode(spool.MAGIC + spool._checksum(body) + b"\n" + body, "r640")


def test_what_cannot_be_read_is_set_aside(file: FileSpool) -> None:
    """If the file stayed in place, a later process could read it. The file would then be older than the node state."""
    file.file.mkdir(parents=True)
    assert "cannot be read" in set_aside(file, names=["spool.bad1"])


def test_a_directory_that_cannot_be_used_is_trouble_of_the_spool(file: FileSpool) -> None:
    file.file.parent.write_text("no directory")
    with pytest.raises(SpoolError):
        file.load()
    with pytest.raises(SpoolError):
        file.save(waiting(file, 5))
    missing = FileSpool(file.file.parent / "not" / "there", "r640")
    with pytest.raises(SpoolError):
        missing.save(waiting(file, 5))


FULL = """
import os, sys
from pathlib import Path
from tests.contract.test_spool_file import FileSpool, SpoolError
folder = Path(sys.argv[1])
file = FileSpool(folder, "r640")
file.save(file.begin())
file.probe()
assert [one.name for one in folder.iterdir()] == ["spool"]
trouble(folder)
try:
    file.probe()
except SpoolError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("trouble", "why"),
    [("(folder / 'core').write_bytes(bytes((256 << 10) - 8192))", ""),
     ("os.system(f'dd if=/dev/zero of={folder}/core bs=4096 status=none 2>/dev/null')", "No space left on device"),
     ("os.system(f'mount -o remount,ro {folder}')", "Read-only file system")],
)  # fmt: skip
def test_a_probe_finds_a_disk_that_takes_nothing(tmp_path: Path, trouble: str, why: str) -> None:
    """The file system is a small one of its own."""
    program = FULL.replace("trouble(folder)", trouble)
    script = 'mount -t tmpfs -o size=256k none "$1"; exec "$0" -c "$2" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, sys.executable, str(tmp_path), program],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == (f"{tmp_path}/spool cannot be written: {why}\n" if why else "")


# -- the file format


COUNTS = st.integers(0, 2**64 - 1)
PEERS = st.dictionaries(
    st.binary(min_size=32, max_size=32).map(PublicKey), st.tuples(COUNTS, COUNTS, st.integers(0, 2**63 - 1)), max_size=4
)
NAMES = st.text(max_size=15)
TIMES = st.floats(0, 4e9)
SAMPLES = st.builds(
    lambda number, since, at, day, name, epoch, peers: Sample(
        number, since, at, day,
        InterfaceState(name, epoch, None, 0, {
            k: PeerState(PeerConfig(k, NO_PRESHARED_KEY, ()), rx, tx, shaken)
            for k, (rx, tx, shaken) in peers.items()
        }),
    ),
    st.integers(0, 2**62), TIMES, TIMES, st.just("") | st.dates().map(str), NAMES, NAMES, PEERS,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        lambda stream, samples: Backlog(stream, 2**62 + 1, tuple(sorted(samples, key=lambda one: one.number))),
        st.text(max_size=10), st.lists(SAMPLES, max_size=4, unique_by=lambda one: one.number),
    ),
    NAMES,
)  # fmt: skip
def test_what_is_written_is_what_is_read(one: Backlog, node: str) -> None:
    assert decode(encode(one, node), node) == one
