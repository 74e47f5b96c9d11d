"""An interface without `networks` takes the vpn_cidr of its gateway. The tables are on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from tests.nexavpn_sides import NexavpnTables, named
from tests.nexavpnnode import NexavpnNode
from tests.postgres import PrivatePostgres
from tests.samples import key
from wgsyncd.core.reasons import Reason
from wgsyncd.core.state import Condition


@pytest.fixture
def node(postgres: PrivatePostgres, tmp_path: Path) -> Iterator[NexavpnNode]:
    """Yields a node without `networks`, with a device at 10.200.0.5."""
    with ExitStack() as stack:
        node = NexavpnNode(NexavpnTables(postgres, stack), tmp_path)
        interfaces = {name: msgspec.structs.replace(one, networks=()) for name, one in node.settings.interfaces.items()}
        node.settings = msgspec.structs.replace(node.settings, interfaces=interfaces)
        node.start()
        for name, network in (("wg0", "10.200.0.0/24"), ("wg1", "10.251.0.0/24")):
            node.tables.update("gateways", named(name), vpn_cidr=network)
        node.device(5)
        node.cycle()
        yield node


def rejected(node: NexavpnNode) -> dict[int, Reason]:
    """The reason of each rejected row, by the number of its device, after one more cycle."""
    node.cycle()
    decision = node.agent.reconcile()
    return {int(one.device[:8], 16): one.reason for one in decision.desired.rejections}


def drifting(node: NexavpnNode) -> list[str]:
    standing = node.store.load_state(node.calendar).conditions
    return sorted(one.name for one in standing if isinstance(one, Condition) and one.reason == "vpn_cidr")


def test_an_address_must_lie_in_the_network_of_the_gateway(node: NexavpnNode) -> None:
    assert set(node.kernel()["wg0"]) == {key(5)}
    node.device(6, address="10.9.0.6")
    assert rejected(node) == {6: Reason.ADDRESS_OUTSIDE}
    assert set(node.kernel()["wg0"]) == {key(5)}


@pytest.mark.parametrize("network", ["10.9.0.0/16", "0.0.0.0/0", "::/0", None])
def test_another_network_freezes_peers_until_it_is_right_again(node: NexavpnNode, network: str | None) -> None:
    """Nobody loses the tunnel by a mistake in one field, nobody new gets one, and who is revoked still loses it."""
    node.device(6)
    node.cycle()
    node.tables.sql("ALTER TABLE gateways ALTER vpn_cidr DROP NOT NULL")
    node.tables.update("gateways", named("wg0"), vpn_cidr=network)
    node.device(7)
    assert rejected(node) == dict.fromkeys((5, 6, 7), Reason.ADDRESS_OUTSIDE)
    assert set(node.kernel()["wg0"]) == {key(5), key(6)}
    assert drifting(node) == ["wg0"]
    node.change(6, status="revoked")
    assert rejected(node) == dict.fromkeys((5, 7), Reason.ADDRESS_OUTSIDE)
    assert set(node.kernel()["wg0"]) == {key(5)}
    node.tables.update("gateways", named("wg0"), vpn_cidr="10.200.0.0/24")
    assert rejected(node) == {}
    assert set(node.kernel()["wg0"]) == {key(5), key(7)}
    assert drifting(node) == []


def test_a_network_that_has_addresses_of_another_interface_is_told_and_serves(node: NexavpnNode) -> None:
    node.tables.update("gateways", named("wg0"), vpn_cidr="10.0.0.0/8")
    assert rejected(node) == {}
    assert drifting(node) == ["wg0", "wg1"]
    assert set(node.kernel()["wg0"]) == {key(5)}


def test_configured_networks_decide(node: NexavpnNode) -> None:
    node.settings = node.tables.settings('[log]\nlevel = "error"\n')
    node.start()
    node.tables.update("gateways", named("wg0"), vpn_cidr="10.200.0.0/28")
    node.device(77)
    assert rejected(node) == {}
    assert set(node.kernel()["wg0"]) == {key(5), key(77)}
