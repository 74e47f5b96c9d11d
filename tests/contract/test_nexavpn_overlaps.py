"""`wgsyncd doctor` names gateways of one node whose networks overlap."""

from __future__ import annotations

import msgspec

from tests.nexavpn_database import BERLIN, TOKYO, NexavpnDatabase
from tests.postgres import PrivatePostgres
from wgsyncd.core.inspect.finding import Finding, Severity
from wgsyncd.core.network import parse_network
from wgsyncd.stores.nexavpn.backend import Backend


def test_networks_of_two_gateways_that_overlap_are_told_with_both(postgres: PrivatePostgres) -> None:
    """One of them is the row's, and the other one is of the configuration."""
    nexa = NexavpnDatabase(postgres, "networks")
    nexa.init()
    with nexa.admin(autocommit=True) as admin:
        admin.execute("UPDATE wgsyncd.nodes SET gateways = (SELECT array_agg(id) FROM gateways)")
        admin.execute("UPDATE gateways SET vpn_cidr = '10.77.0.0/16' WHERE name = 'berlin'")
    settings = nexa.settings()
    berlin = msgspec.structs.replace(settings.interfaces[BERLIN], networks=())

    def found(network: str) -> list[Finding]:
        tokyo = msgspec.structs.replace(berlin, store_name=TOKYO, networks=(parse_network(network),))
        both = msgspec.structs.replace(settings, interfaces={BERLIN: berlin, TOKYO: tokyo})
        return [one for one in Backend(both).check() if one.severity is not Severity.OK]

    assert found("10.78.0.0/16") == []
    (one,) = found("10.77.5.0/24")
    assert one.message.startswith("the network 10.77.0.0/16 of berlin overlaps 10.77.5.0/24 of tokyo. ")
    assert (one.check, one.severity, one.fix) == ("networks", Severity.WARNING, "wgsyncd plan")
