"""`wgsyncd doctor` says what policies lack on this system."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.configuring import LEAST
from wgsyncd.cli.doctor import policies
from wgsyncd.config.load import parse
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.dataplane.nftables.nft import Nft

NEXAVPN = 'control_plane = "nexavpn"\n' + LEAST


def found(folder: Path, nft: Nft, *, written: str = NEXAVPN, v4: str = "1\n") -> dict[str, Finding]:
    file = folder / "net/ipv4/ip_forward"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(v4)
    return {one.check: one for one in policies.check(parse(written), nft.version, folder)}


def test_a_good_system(tmp_path: Path) -> None:
    seen = found(tmp_path, Nft())
    assert seen["packet filter"].severity == "ok"
    assert seen["packet filter"].message.startswith("nftables v")
    assert seen["forwarding"].message == "net.ipv4.ip_forward is 1"


def test_what_is_missing_has_its_cure(tmp_path: Path) -> None:
    seen = found(tmp_path, Nft("no-such-nft"), v4="0\n")
    assert {name: (one.severity, one.fix) for name, one in seen.items()} == {
        "packet filter": ("fault", "apt-get install nftables"),
        "forwarding": ("warning", "sysctl -w net.ipv4.ip_forward=1"),
    }


def test_a_kernel_without_the_version_of_ip(tmp_path: Path) -> None:
    seen = found(tmp_path, Nft(), written=NEXAVPN.replace("10.200.0.0/24", "fd00::/64"))
    assert seen["forwarding"].message == "net.ipv6.conf.all.forwarding cannot be read: No such file or directory"


@pytest.mark.parametrize("written", [LEAST, NEXAVPN + "[nexavpn.policies]\nenforce = false\n"])
def test_nothing_is_checked_where_policies_are_not_enforced(tmp_path: Path, written: str) -> None:
    assert not found(tmp_path, Nft("no-such-nft"), written=written, v4="0\n")
