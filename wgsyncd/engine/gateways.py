"""What a snapshot says about gateways: their networks, and where rows and interfaces differ."""

from collections.abc import Mapping

from wgsyncd.config.schema import Settings
from wgsyncd.core.network import Networks
from wgsyncd.core.policies.gateways import GATEWAY_DRIFT, gateway_drift
from wgsyncd.core.state import NodeState
from wgsyncd.engine.interfaces import Actual
from wgsyncd.ports import Snapshot


def networks_of(settings: Settings, snapshot: Snapshot) -> Mapping[str, Networks]:
    """By interface: the networks that its rows may have addresses in. The default is the network of the gateway.

    Without either, the result is empty: each address is outside, and live peers stay as they are.
    """
    default = {name: (row.network,) for name, row in snapshot.gateways.items() if row.network is not None}
    return {name: one.networks or default.get(name, ()) for name, one in settings.interfaces.items()}


def with_drift(snapshot: Snapshot, actual: Actual, settings: Settings, known: NodeState | None) -> Snapshot:
    """The snapshot, with a condition for each gateway whose row differs from its interface."""
    if snapshot.conditions is None or not snapshot.gateways:
        return snapshot
    hosts = {name: one.own_hosts for name, one in settings.interfaces.items()}
    standing = known.conditions if known is not None else frozenset()
    drift = gateway_drift(snapshot.gateways, actual, hosts, standing, networks_of(settings, snapshot))
    others = frozenset(one for one in snapshot.conditions if one.type != GATEWAY_DRIFT)
    return snapshot._replace(conditions=others | drift)
