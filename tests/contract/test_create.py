"""The kernel gets a new interface, or after a failure it keeps nothing of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import namespace
from wgsyncd.core.model import NO_PRESHARED_KEY, Change, ChangeKind, PeerConfig, PublicKey, encode_key
from wgsyncd.core.network import parse_host
from wgsyncd.dataplane.wireguard.local import LocalWireGuard
from wgsyncd.errors import InterfaceMissing, WireGuardError
from wgsyncd.ports import NewInterface

SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I"


@pytest.fixture
def wg() -> Iterator[LocalWireGuard]:
    with namespace.own_network():
        local = LocalWireGuard(timeout=60)
        yield local
        local.close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "private.key"
    path.write_text(namespace.run("wg", "genkey"))
    return path


def creation(key_file: Path, name: str = "wg0", port: int = 51820, mtu: int = 1380) -> NewInterface:
    return NewInterface(name, key_file, port, ("10.200.0.1/24", "fd00:200::1/64"), mtu)


def links() -> set[str]:
    return {link["ifname"] for link in json.loads(namespace.run("ip", "-j", "link"))} - {"lo"}


def link(name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(namespace.run("ip", "-j", "addr", "show", "dev", name))
    return found[0]


@pytest.mark.vm
def test_made_whole_and_made_again_after_someone_deleted_it(wg: LocalWireGuard, key_file: Path) -> None:
    with pytest.raises(InterfaceMissing):
        wg.read("wg0")
    wg.create(creation(key_file))
    first = wg.read("wg0")
    assert first.listen_port == 51820
    assert first.public_key is not None
    assert encode_key(first.public_key) == namespace.run("wg", "pubkey", text=key_file.read_text()).strip()
    found = link("wg0")
    assert found["mtu"] == 1380
    assert "UP" in found["flags"]
    addresses = {f"{a['local']}/{a['prefixlen']}" for a in found["addr_info"]}
    assert addresses == {"10.200.0.1/24", "fd00:200::1/64"}
    assert links() == {"wg0"}

    namespace.delete_link("wg0")
    wg.create(creation(key_file, mtu=0))
    again = wg.read("wg0")
    assert again.epoch != first.epoch
    assert again.public_key == first.public_key
    assert link("wg0")["mtu"] == 1420  # Linux chooses this value


@pytest.mark.vm
def test_one_that_is_there_is_left_alone(wg: LocalWireGuard, key_file: Path) -> None:
    wg.create(creation(key_file))
    peer = PeerConfig(PublicKey(b"\x01" * 32), NO_PRESHARED_KEY, (parse_host("10.200.0.2"),))
    wg.apply("wg0", [Change(ChangeKind.ADD, "wg0", peer.public_key, None, peer)])
    before = wg.read("wg0")
    with pytest.raises(WireGuardError, match="wg0: EEXIST"):
        wg.create(creation(key_file))
    assert wg.read("wg0") == before
    assert links() == {"wg0"}


@pytest.mark.vm
def test_port_that_is_taken_leaves_nothing(wg: LocalWireGuard, key_file: Path) -> None:
    wg.create(creation(key_file))
    with pytest.raises(WireGuardError, match="wg1: EADDRINUSE"):
        wg.create(creation(key_file, "wg1"))
    assert links() == {"wg0"}


@pytest.mark.vm
def test_remains_of_a_crash_are_taken_away(wg: LocalWireGuard, key_file: Path) -> None:
    namespace.run("ip", "link", "add", "wgsyncd-new", "type", "wireguard")
    wg.create(creation(key_file))
    assert links() == {"wg0"}


@pytest.mark.vm
def test_link_that_is_not_wireguard(wg: LocalWireGuard) -> None:
    namespace.run("ip", "link", "add", "wg0", "type", "veth", "peer", "name", "other")
    with pytest.raises(WireGuardError, match="wg0: EOPNOTSUPP: is not a WireGuard interface"):
        wg.read("wg0")


@pytest.mark.vm
def test_without_the_capability(wg: LocalWireGuard, key_file: Path) -> None:
    wg.create(creation(key_file))
    assert shutil.which("setpriv"), "NOT TESTED: needs setpriv of util-linux"
    script = (
        "from wgsyncd.dataplane.wireguard.local import LocalWireGuard\n"
        "from wgsyncd.errors import WireGuardError\n"
        "try: LocalWireGuard(60).read('wg0')\n"
        "except WireGuardError as e: print(e)\n"
    )
    command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", script]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "wg0: EPERM: not permitted: CAP_NET_ADMIN is needed"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "EINVAL: private key in .* is empty"),
        (SECRET.encode(), "EINVAL: private key in .* is not base64"),
        (SECRET.encode()[:-3] + b"=", "EINVAL: private key in .* has 30 bytes, not 32"),
        (b"\xff" + SECRET.encode(), "EINVAL: private key in .* is not base64"),
        (None, "ENOENT: private key file .*: No such file or directory"),
    ],
)
def test_bad_private_key_is_told_without_the_key(
    wg: LocalWireGuard, tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "bad.key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WireGuardError, match=f"wg0: {why}") as caught:
        wg.create(creation(path))
    chain: list[str] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(repr(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert SECRET[:8] not in " ".join(chain)
    assert links() == set()


def test_kernel_without_wireguard_says_what_to_install(wg: LocalWireGuard, key_file: Path) -> None:
    told = ""
    try:
        wg.create(creation(key_file))
    except WireGuardError as e:
        told = str(e)
    if links():  # this kernel has WireGuard, so the tests above cover the result
        assert (told, links()) == ("", {"wg0"})
    else:
        assert told.startswith("wg0: EOPNOTSUPP: this kernel has no WireGuard: modprobe wireguard")
