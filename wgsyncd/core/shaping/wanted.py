"""What should be shaped: the devices with their rates, and what has to stay as it is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from wgsyncd.core.model import Change, DeviceId
from wgsyncd.core.network import Network, Networks
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.shaping.profiles import Choice, Direction, ShapingPolicy, Terms, choose
from wgsyncd.core.shaping.tree import Filter

NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class ShapedDevice:
    """A device that wants a peer and has a rate in at least one direction."""

    id: DeviceId
    device: str
    owner: str
    interface: str
    addresses: Networks
    choice: Choice

    def rate(self, direction: Direction) -> int | None:
        """The rate of one direction in bytes per second. None: it is not limited."""
        return self.choice.rate(direction)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The desired state of shaping. No two devices have the same address, because a tree has one filter for each."""

    devices: tuple[ShapedDevice, ...] = ()  # by id, the lowest first
    exempt: Networks = ()
    held: frozenset[Network] = frozenset()  # addresses that keep the shaping they have
    held_networks: Networks = ()  # of interfaces that could not be read: nobody knows which peers they have
    choices: Mapping[str, Choice] = field(default_factory=dict)  # by contract of a desired peer
    # Where other devices have an address, too:
    more_interfaces: Mapping[Network, frozenset[str]] = field(default_factory=dict)

    @property
    def unknown(self) -> int:
        """How many contracts name a profile that the settings do not have."""
        return sum(bool(one.unknown) for one in self.choices.values())

    def holds(self, network: Network) -> bool:
        """Whether the filter of this address stays as it is. A device that is to be shaped is not held."""
        return network in self.held or any(net.covers(network) for net in self.held_networks)


def wanted_shaping(
    decision: Decision, terms: Mapping[str, Terms], policy: ShapingPolicy, networks: Mapping[str, Networks]
) -> Wanted:
    """The desired state that follows from a decision about peers.

    ``terms``: by contract. ``networks``: of each interface. Foreign peers are never shaped. A peer whose change is
    withheld or blocked keeps the shaping it has, and so does a frozen one.
    """
    if not policy.enforce:
        return Wanted()
    plan, desired = decision.plan, decision.desired
    waiting = {(change.interface, change.public_key) for change in (*plan.withheld, *plan.blocked)}
    held = set(_addresses(plan.withheld)) | set(_addresses(plan.blocked))
    for name, keys in desired.frozen.items():
        peers = decision.actual[name].peers if name in decision.actual else {}
        held.update(net for key in keys if key in peers for net in peers[key].config.allowed_ips)
    choices: dict[str, Choice] = {}
    devices = []
    for name, wants in desired.peers.items():
        for key, want in wants.items():
            owner = want.row.owner
            choice = choices.get(owner)
            if choice is None:
                choice = choices[owner] = choose(terms.get(owner, NO_TERMS), policy)
            if (name, key) in waiting or (choice.down is None and choice.up is None):
                continue
            devices.append(ShapedDevice(want.row.id, want.row.device, owner, name, want.config.allowed_ips, choice))
    unread = tuple(net for name in decision.interface_errors for net in networks.get(name, ()))
    devices.sort(key=lambda one: one.id)
    return apart(Wanted(tuple(devices), policy.exempt, frozenset(held), unread, choices))


def apart(wanted: Wanted) -> Wanted:
    """The desired state with each address at the first of its devices. Devices of two interfaces may have the same."""
    owners: dict[Network, ShapedDevice] = {}
    more: dict[Network, frozenset[str]] = {}
    devices = []
    for one in wanted.devices:
        for net in one.addresses:
            if owners.setdefault(net, one) is not one:
                more[net] = more.get(net, frozenset()) | {one.interface}
        if own := tuple(net for net in one.addresses if owners[net] is one):
            devices.append(one if len(own) == len(one.addresses) else replace(one, addresses=own))
    return replace(wanted, devices=tuple(devices), more_interfaces=more) if more else wanted


def devices_by_minor(wanted: Wanted, filters: Iterable[tuple[int, Filter]]) -> Mapping[tuple[int, int], str]:
    """The device whose traffic goes to each class, by the number of the link and the minor of the class.

    ``filters``: each with the number of its link.
    """
    names = {net: one.device for one in wanted.devices for net in one.addresses}
    return {(number, one.minor): names[one.network] for number, one in filters if one.network in names}


def _addresses(changes: Iterable[Change]) -> Iterable[Network]:
    return (net for change in changes if change.current is not None for net in change.current.allowed_ips)
