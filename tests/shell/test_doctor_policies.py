"""`wgsyncd doctor` says what policies lack on this system."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.configuring import LEAST
from tests.namespace import own_network
from wgsyncd.cli.doctor import policies, system
from wgsyncd.config.load import parse
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.dataplane.addresses import interface_of
from wgsyncd.dataplane.nftables.nft import Nft

NEXAVPN = 'control_plane = "nexavpn"\n' + LEAST


def found(
    folder: Path, nft: Nft, *, written: str = NEXAVPN, flows: tuple[int, int] | None = None
) -> dict[str, Finding]:
    for name, number in zip(("count", "max"), flows, strict=True) if flows else ():
        (folder / f"nf_conntrack_{name}").write_text(f"{number}\n")
    return {one.check: one for one in policies.check(parse(written), nft.version, nft.flowtables, folder)}


def test_a_good_system(tmp_path: Path) -> None:
    with own_network():
        seen = found(tmp_path, Nft(), flows=(10, 100))
    assert {one.severity for one in seen.values()} == {"ok"}
    assert seen["connections"].message == "10 of 100 are tracked"
    assert seen["packet filter"].message.startswith("nftables v")


def test_what_is_missing_has_its_cure(tmp_path: Path) -> None:
    seen = found(tmp_path, Nft("no-such-nft"))
    assert {name: (one.severity, one.fix) for name, one in seen.items()} == {
        "packet filter": ("fault", "apt-get install -y --no-install-recommends nftables"),
        "connections": ("ok", ""),
    }


@pytest.mark.parametrize("devices", ['"wg0"', '["eth0", "wg0"]', '["eth0"]', '"eth0"'])
def test_a_flowtable_on_a_tunnel_would_lead_flows_past_the_policies(tmp_path: Path, devices: str) -> None:
    """Not every kernel has flowtables, so a script shows one as nft 1.0.6 does (flowtable_print_json() in json.c)."""
    table = (
        f'"family": "inet", "name": "ft", "table": "fast", "handle": 2, "hook": "ingress", "prio": 0, "dev": {devices}'
    )
    script = tmp_path / "nft"
    script.write_text(f'#!/bin/sh\necho \'{{"nftables": [{{"metainfo": {{}}}}, {{"flowtable": {{{table}}}}}]}}\'\n')
    script.chmod(0o755)
    seen = found(tmp_path, Nft(str(script)))["flowtables"]
    wanted = ("fault", "nft delete flowtable inet fast ft") if "wg0" in devices else ("ok", "")
    assert (seen.severity, seen.fix) == wanted


@pytest.mark.parametrize("written", [NEXAVPN, LEAST])
def test_a_table_of_connections_that_is_nearly_full(tmp_path: Path, written: str) -> None:
    """A firewall of the host tracks connections, too."""
    seen = found(tmp_path, Nft(), written=written, flows=(95, 100))["connections"]
    assert (seen.severity, seen.fix) == ("warning", "sysctl -w net.netfilter.nf_conntrack_max=200")


def test_many_profiles_make_nft_slow() -> None:
    assert not list(policies.profiles(policies.MANY))
    (told,) = policies.profiles(policies.MANY + 1)
    assert told.message.startswith("1001 access lists")


@pytest.mark.parametrize(("address", "severity", "told"), [
    ("127.0.0.1", "warning", "127.0.0.1 is on lo, where it stays"), ("203.0.113.9", "ok", "standby"),
    ("10.9.9.9", "ok", "active: other has 10.9.9.9"),
])  # fmt: skip
def test_which_node_of_a_pair_this_one_is(address: str, severity: str, told: str) -> None:
    with own_network():
        for command in (
            "link set lo up",
            "link add other type veth peer name end",
            "address add 10.9.9.9/32 dev other",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        (seen,) = system.pair(parse(f'[node]\nactive_address = "{address}"\n{LEAST}'), interface_of)
    assert seen.severity == severity
    assert seen.message.startswith(told)


def test_a_node_without_a_pair_is_not_told() -> None:
    assert not list(system.pair(parse(LEAST), interface_of))


@pytest.mark.parametrize("written", [LEAST, NEXAVPN + "[nexavpn.policies]\nenforce = false\n"])
def test_nothing_is_checked_where_policies_are_not_enforced(tmp_path: Path, written: str) -> None:
    assert not found(tmp_path, Nft("no-such-nft"), written=written, flows=(10, 100))
