"""A gateway's row that differs from its interface is a condition, which ends by itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.samples import actual, dump, key
from wgsyncd.core.model import RowKey
from wgsyncd.core.network import Networks, parse_host, parse_network
from wgsyncd.core.policies.gateways import GATEWAY_DRIFT, gateway_drift
from wgsyncd.core.policies.model import GatewayRow
from wgsyncd.core.state import Condition

STATE = dump(name="wg0", own=1)
OWN_KEY = key(1)
HOSTS = {
    "wg0": {parse_host("10.200.0.1"), parse_host("fd00::1")},
}


def drift(
    public_key: RowKey = OWN_KEY, port: int = STATE.listen_port, network: str = "10.200.0.0/24",
    known: frozenset[Condition] = frozenset(), *, is_read: bool = True, configured: Mapping[str, Networks] | None = None,
) -> frozenset[Condition]:  # fmt: skip
    row = GatewayRow(public_key, port, parse_network(network) if network else None)
    taken = {"wg0": (row.network,) if row.network else (), "wg1": (parse_network("10.251.0.0/24"),)}
    return gateway_drift({"wg0": row}, actual(STATE) if is_read else {}, HOSTS, known, configured or taken)


def told(reason: str) -> frozenset[Condition]:
    return frozenset({Condition(GATEWAY_DRIFT, "wg0", "wg0", reason)})


def test_a_row_as_its_interface_is_no_drift() -> None:
    assert drift() == frozenset()
    assert drift(network="fd01::/64") == told("vpn_cidr"), "an address of the other IP version is not asked for"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (drift(public_key=key(77)), "public_key"),
        (drift(public_key="junk"), "public_key"),
        (drift(port=1), "listen_port"),
        (drift(network="10.201.0.0/24"), "vpn_cidr"),
        (drift(network=""), "vpn_cidr"),
        (drift(network="10.0.0.0/8"), "vpn_cidr"),  # it has the addresses of wg1, too
        (drift(key(77), 1, "10.201.0.0/24"), "public_key, listen_port, vpn_cidr"),
    ],
)
def test_each_difference_is_told(changed: frozenset[Condition], reason: str) -> None:
    assert changed == told(reason)


def test_a_network_beside_the_configured_ones_may_be_wide() -> None:
    configured = {"wg0": (parse_network("10.200.0.0/24"),), "wg1": (parse_network("10.251.0.0/24"),)}
    assert drift(network="10.0.0.0/8", configured=configured) == frozenset()


def test_an_interface_that_cannot_be_read_changes_nothing() -> None:
    assert drift(port=1, is_read=False) == frozenset()
    assert drift(known=told("listen_port"), is_read=False) == told("listen_port")
    assert drift(known=told("listen_port")) == frozenset()
