"""Foreign peers are written to a file before they are removed."""

from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import pytest

from tests.fakes import FakeWireGuard
from tests.samples import NOW, key, nets, peer, text
from tests.scripted_kernel import ScriptedKernel, dump
from wgsyncd.core.model import Change, ChangeKind, PeerState
from wgsyncd.dataplane.wireguard import removed_peers
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.dataplane.wireguard.removed_peers import KeepingWireGuard, RemovedPeers

SECRET = b"s" * 32


@pytest.fixture
def wg() -> FakeWireGuard:
    """Returns an interface with a foreign peer, 7, and a customer's peer, 8."""
    made = FakeWireGuard("wg0")
    made.add_behind(
        "wg0", peer(7, "10.200.0.7/32", "10.9.0.0/16")._replace(preshared_key=SECRET, persistent_keepalive=25)
    )
    made.add_behind("wg0", peer(8, "10.200.0.8/32"))
    return made


@pytest.fixture
def keeping(wg: FakeWireGuard, tmp_path: Path) -> KeepingWireGuard:
    return KeepingWireGuard(wg, lambda: wg, tmp_path, lambda: NOW)


def removals(wg: FakeWireGuard) -> list[Change]:
    peers = wg.peers("wg0")
    foreign = Change(ChangeKind.REMOVE, "wg0", key(7), peers[key(7)], None)
    return [foreign, Change(ChangeKind.REMOVE, "wg0", key(8), peers[key(8)], None, 8, "0001-DEV-008")]


def test_a_foreign_peer_is_written_whole_and_for_its_owner_only(
    wg: FakeWireGuard, keeping: KeepingWireGuard, tmp_path: Path
) -> None:
    assert keeping.apply("wg0", removals(wg)) == []
    assert wg.peers("wg0") == {}
    file = tmp_path / "removed-wg0.conf"
    written = file.read_text()
    assert f"PublicKey = {text(7)}\n" in written
    assert "PresharedKey = c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M=\n" in written
    assert "AllowedIPs = 10.200.0.7/32, 10.9.0.0/16\n" in written
    assert "PersistentKeepalive = 25\n" in written
    assert text(8) not in written, "a customer's peer has its row"
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_was_read_for_the_file_is_not_kept(wg: FakeWireGuard, scripted: ScriptedKernel, tmp_path: Path) -> None:
    def states() -> int:
        return sum(isinstance(one, PeerState) for one in gc.get_objects())

    scripted.answers = [dump()]
    keeping = KeepingWireGuard(wg, lambda: KernelWireGuard("boot"), tmp_path, lambda: NOW)
    changes, before = removals(wg)[:1], states()
    keeping.apply("wg0", changes)
    assert (states(), scripted.opened, scripted.closed) == (before, 1, 1)


def test_what_cannot_be_written_stays(
    wg: FakeWireGuard, keeping: KeepingWireGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    silence, *_ = removals(wg)
    assert silence.current
    silenced = Change(ChangeKind.UPDATE, "wg0", key(7), silence.current, silence.current._replace(allowed_ips=()))
    assert [one.name for one in keeping.apply("wg0", [silenced])] == ["ENOSPC"]
    [failed] = keeping.apply("wg0", removals(wg))
    assert (failed.change.public_key, failed.name) == (key(7), "ENOSPC")
    assert "No space left" in failed.text
    assert wg.peers("wg0").keys() == {key(7)}
    assert set(wg.peers("wg0")[key(7)].allowed_ips) == set(nets("10.200.0.7/32", "10.9.0.0/16"))


def test_a_reader_that_cannot_be_opened_leaves_the_foreign_peer(wg: FakeWireGuard, tmp_path: Path) -> None:
    """To open one reads a file, and the process may have no descriptor left."""

    def none_left() -> FakeWireGuard:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    keeping = KeepingWireGuard(wg, none_left, tmp_path, lambda: NOW)
    [failed] = keeping.apply("wg0", removals(wg))
    assert (failed.change.public_key, failed.name) == (key(7), "EMFILE")
    assert wg.peers("wg0").keys() == {key(7)}


@pytest.mark.parametrize("found", [b"[Peer]\nPublicKey = nonsense\n", b"\xff\xfe"])
def test_a_damaged_file_gets_another_name(
    wg: FakeWireGuard, keeping: KeepingWireGuard, tmp_path: Path, found: bytes
) -> None:
    file = tmp_path / "removed-wg0.conf"
    file.write_bytes(found)
    assert keeping.apply("wg0", removals(wg)) == []
    assert (tmp_path / "removed-wg0.bad").read_bytes() == found
    assert text(7) in file.read_text()


def test_the_file_keeps_the_newest(
    wg: FakeWireGuard, keeping: KeepingWireGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removed_peers, "MOST", 2)
    file = RemovedPeers(tmp_path, "wg0")
    for number in (20, 21, 20, 22):
        wg.add_behind("wg0", peer(number, f"10.200.0.{number}/32"))
        change = Change(ChangeKind.REMOVE, "wg0", key(number), wg.peers("wg0")[key(number)], None)
        assert keeping.apply("wg0", [change]) == []
    assert list(file.load()) == [key(20), key(22)]


def test_a_file_that_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    file = RemovedPeers(tmp_path, "wg0")
    file.save({key(7): f"[Peer]\nPublicKey = {text(7)}"})
    assert (file.file.stat().st_uid, file.file.stat().st_mode & 0o777) == (65534, 0o600)
