"""Gateway drift: the row of a gateway says something else than its interface."""

from collections.abc import Collection, Iterable, Mapping

from wgsyncd.core.model import InterfaceState
from wgsyncd.core.network import Network, Networks
from wgsyncd.core.policies.model import GatewayRow
from wgsyncd.core.state import Condition

GATEWAY_DRIFT = "gateway_drift"  # the type of the condition


def gateway_drift(
    rows: Mapping[str, GatewayRow], actual: Mapping[str, InterfaceState], hosts: Mapping[str, Collection[Network]],
    known: frozenset[Condition], networks: Mapping[str, Networks],
) -> frozenset[Condition]:  # fmt: skip
    """The conditions of gateways whose row differs from their interface. They never stop serving.

    ``rows``, ``hosts`` (the interfaces' own addresses) and ``networks`` (of their devices) are by interface. ``known``:
    the conditions so far. One of an interface that cannot be read still holds. A network that an interface takes from
    its row must have no address of another interface.
    """
    found = {one for one in known if one.type == GATEWAY_DRIFT and one.subject in rows and one.subject not in actual}
    for name, row in rows.items():
        if (state := actual.get(name)) is None:
            continue
        is_used = networks[name] == (row.network,)
        others = [net for other, some in networks.items() if is_used and other != name for net in some]
        differs = {
            "public_key": state.public_key is not None and row.public_key != state.public_key,
            "listen_port": row.listen_port != state.listen_port,
            "vpn_cidr": not _fits(row.network, hosts[name], others),
        }
        if any(differs.values()):
            parts = ", ".join(part for part, is_so in differs.items() if is_so)
            found.add(Condition(GATEWAY_DRIFT, name, name, parts))
    return frozenset(found)


def _fits(network: Network | None, hosts: Collection[Network], others: Iterable[Network]) -> bool:
    """Whether the network of a row has the addresses of its interface, and none of the networks of other interfaces."""
    return (
        network is not None
        and all(network.covers(one) for one in hosts if len(one) == len(network))
        and not any(network.covers(one) or one.covers(network) for one in others)
    )
