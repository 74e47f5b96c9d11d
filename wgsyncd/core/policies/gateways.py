"""Gateway drift: the row of a gateway says something else than its interface."""

from collections.abc import Collection, Mapping

from wgsyncd.core.model import InterfaceState
from wgsyncd.core.network import Network
from wgsyncd.core.policies.model import GatewayRow
from wgsyncd.core.state import Condition

GATEWAY_DRIFT = "gateway_drift"  # the type of the condition


def gateway_drift(
    rows: Mapping[str, GatewayRow], actual: Mapping[str, InterfaceState], hosts: Mapping[str, Collection[Network]],
    known: frozenset[Condition],
) -> frozenset[Condition]:  # fmt: skip
    """The conditions of gateways whose row differs from their interface. They never stop serving.

    ``rows`` and ``hosts`` (the interfaces' own addresses) are by interface. ``known``: the conditions so far. One of an
    interface that cannot be read still holds.
    """
    found = {one for one in known if one.type == GATEWAY_DRIFT and one.subject in rows and one.subject not in actual}
    for name, row in rows.items():
        if (state := actual.get(name)) is None:
            continue
        differs = {
            "public_key": state.public_key is not None and row.public_key != state.public_key,
            "listen_port": row.listen_port != state.listen_port,
            "vpn_cidr": not all(row.network.covers(one) for one in hosts[name] if len(one) == len(row.network)),
        }
        if any(differs.values()):
            parts = ", ".join(part for part, is_so in differs.items() if is_so)
            found.add(Condition(GATEWAY_DRIFT, name, name, parts))
    return frozenset(found)
