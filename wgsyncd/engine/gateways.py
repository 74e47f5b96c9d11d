"""Adds to a snapshot what the interfaces show about its gateways."""

from wgsyncd.config.schema import Settings
from wgsyncd.core.policies.gateways import GATEWAY_DRIFT, gateway_drift
from wgsyncd.core.state import NodeState
from wgsyncd.engine.interfaces import Actual
from wgsyncd.ports import Snapshot


def with_drift(snapshot: Snapshot, actual: Actual, settings: Settings, known: NodeState | None) -> Snapshot:
    """The snapshot, with a condition for each gateway whose row differs from its interface."""
    if snapshot.conditions is None or not snapshot.gateways:
        return snapshot
    hosts = {name: one.own_hosts for name, one in settings.interfaces.items()}
    standing = known.conditions if known is not None else frozenset()
    drift = gateway_drift(snapshot.gateways, actual, hosts, standing)
    others = frozenset(one for one in snapshot.conditions if one.type != GATEWAY_DRIFT)
    return snapshot._replace(conditions=others | drift)
