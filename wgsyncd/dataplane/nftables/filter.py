"""The packet filter as a plane: access is withdrawn before the peers change, and granted after it.

What the table has is verified after each change, and whenever anybody has committed to nftables. What differs from
what was last wanted is put right at once, and the log names the process that did it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from wgsyncd import log
from wgsyncd.core.audit import AuditAction, AuditFacts, Happening
from wgsyncd.core.model import DeviceRow, InterfaceState
from wgsyncd.core.network import Network
from wgsyncd.core.peers.guard import Decision
from wgsyncd.core.policies.model import Ruleset
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.core.policies.status import NO_TRAFFIC, PLANE, FilterStatus, Traffic
from wgsyncd.dataplane.nftables import commands, listing
from wgsyncd.dataplane.nftables.listing import Found, Shape
from wgsyncd.dataplane.nftables.netfilter import Netfilter
from wgsyncd.dataplane.nftables.news import News
from wgsyncd.dataplane.nftables.nft import Nft
from wgsyncd.dataplane.nftables.rules import ACCEPTED, refused_counter
from wgsyncd.dataplane.nftables.telling import Teller
from wgsyncd.dataplane.nftables.view import FilterSettings, plan_filter
from wgsyncd.errors import FilterError
from wgsyncd.ports import Phase, Snapshot


class PacketFilter:
    """Implements the port Plane with nftables. If the store has no policies, nothing changes.

    UserError if the packet filter cannot have the name of an interface.
    """

    name = PLANE
    judges = True

    def __init__(self, settings: FilterSettings, nft: Nft, netfilter: Netfilter) -> None:
        self.status, self.rests = FilterStatus(), False
        self.wanted: Ruleset | None = None  # what was last installed, or found at start
        self._settings = _checked(settings)
        self._nft, self._netfilter = nft, netfilter
        self.descriptor: int | None = netfilter.fileno()  # hears of each commit to nftables
        self._log = log.get("policies")
        self._found: Found | None = None
        self._news = News(netfilter)
        self._shape: Shape | None = None  # how this nft shows the chains, if it shows them in another way
        self._counters: Mapping[str, Traffic] | None = None  # by name, as last read
        self._rows: Sequence[DeviceRow] = ()  # of the last plan
        self.happenings: list[Happening] = []
        self._teller = Teller(self.status, self.happenings)
        self._is_new = False  # the table was made at start, so flows of devices that keep their address go on

    # -- the port

    def read(self) -> Ruleset | None:
        """The ruleset, after what another program did to it was put right. None if there is no table."""
        self.mend()
        return self._found.ruleset if self._found is not None else None

    def plan(self, snapshot: Snapshot, decision: Decision, found: Ruleset | None) -> AccessPlan | None:
        """The changes of the ruleset. None if the store has no policies."""
        self.rests, self._rows = False, snapshot.rows
        return plan_filter(self._settings, snapshot, decision, found)

    def apply(self, phase: Phase, plan: AccessPlan | None, actual: Mapping[str, InterfaceState]) -> None:
        """Withdraw elements and forget their flows, or grant the rest in one transaction."""
        if plan is not None and phase is Phase.WITHDRAW:
            self._teller.tell(plan, self._rows)
            self._withdraw(plan)
        elif plan is not None and phase is Phase.GRANT:
            self._grant(plan, actual)
            self.rests = not (plan.changes or plan.held or plan.withdrawn)

    def poll(self) -> bool:
        """Read what the rules have counted. The table leads no traffic away, so no cycle has to mend anything."""
        self.count()
        return False

    # -- beside the cycle

    def start(self) -> None:
        """Make a table that refuses all traffic of the tunnels, if there is none.

        Chains of an older wgsyncd are replaced in one transaction, and elements keep their access. But if an element or
        a profile is none that wgsyncd makes, all traffic is refused, too.
        """
        found = self._look()
        self._is_new = found is None
        policies = self._settings.policies
        refusing = Ruleset(judges_local=policies.judges_local, rejects=policies.rejects)
        self._judge_all(refusing if found is None or found.is_odd else found.ruleset)

    def configure(self, settings: FilterSettings) -> None:
        """Take over other settings after a reload. UserError: see the class. FilterError: the old ones stay."""
        before, self._settings = self._settings, _checked(settings)
        try:
            if self.wanted is not None:
                self._judge_all(self.wanted)
        except FilterError:
            self._settings = before
            raise

    def _judge_all(self, ruleset: Ruleset) -> None:
        """Judge what comes from interfaces that are new in the configuration, before their first peer comes."""
        self._install(replace(ruleset, tunnels=ruleset.tunnels | self._settings.tunnels))

    def close(self) -> None:
        """Close the sockets. The table stays."""
        self._netfilter.close()

    def count(self) -> None:
        """Read what the rules have counted. That is cheap, because elements are not read."""
        self._count(self._netfilter.counters())

    def mend(self) -> bool:
        """Put right what another program did to the table. Returns whether something was wrong."""
        if not self._news.is_due():
            return False
        found = self._look()
        if self.wanted is None or (found is not None and found.is_intact and found.ruleset == self.wanted):
            return False
        self.status.drifts += 1
        try:
            self._install(self.wanted)
        finally:  # Only now is the culprit sure: the kernel counts a commit before it tells who made it.
            self._log.warning("another program changed the packet filter", process=self.status.culprit or "unknown")
        self.status.restorations += 1
        self._teller.tell_repair()
        self._log.warning("the packet filter is as before again", devices=self.status.devices)
        return True

    # -- phases

    def _withdraw(self, plan: AccessPlan) -> None:
        there = self._found.ruleset if self._found is not None else replace(plan.wanted, profiles={}, elements={})
        elements = {host: element for host, element in there.elements.items() if host not in plan.withdrawn}
        self._install(replace(there, elements=elements))
        self._forget(plan.withdrawn)

    def _grant(self, plan: AccessPlan, actual: Mapping[str, InterfaceState]) -> None:
        there = self._found.ruleset.elements if self._found is not None else {}
        elements = {}
        for host, element in plan.wanted.elements.items():
            is_held = there.get(host) == element or _has(actual, plan, host)
            if is_held or (host in there and there[host].device == element.device):
                elements[host] = element
        used = {element.profile for element in elements.values()}
        profiles = {name: access for name, access in plan.wanted.profiles.items() if name in used}
        forgotten = plan.new_hosts if self._is_new else plan.forgotten
        self._forget(forgotten & (elements.keys() - there.keys()))
        self._install(replace(plan.wanted, elements=elements, profiles=profiles))
        self._is_new = False
        if plan.changes:
            counts = plan.counts._asdict()
            self._log.info("access changed", **counts)
            self.happenings.append((AuditAction.ACCESS_CHANGED, AuditFacts(**counts)))

    def _forget(self, hosts: frozenset[Network] | set[Network]) -> None:
        if hosts:
            self.status.forgotten_flows += self._netfilter.forget(sorted(hosts))

    # -- the table

    def _look(self) -> Found | None:
        """Read the table, and note who committed since the last look."""
        generation = self._news.begin()
        self.status.culprit = self._news.culprit
        shown = self._nft.show()
        try:
            self._found = found = listing.decode(shown, self._shape) if shown is not None else None
        except ValueError as error:  # It is replaced as a whole.
            self._log.warning("the table has what wgsyncd never makes", why=str(error)[:200])
            self._found = found = Found(Ruleset(), False, True, Shape(frozenset(), frozenset()), {})
        self._news.end(generation)
        if found is not None:
            self._count(found.counters)
            self.status.note(found.ruleset)
        return found

    def _count(self, counters: Mapping[str, Traffic]) -> None:
        """Add what was counted since the last look. A counter that was made again began at zero."""
        old, self._counters = self._counters, counters
        if old is None:
            return

        def since(name: str) -> Traffic:
            return counters.get(name, NO_TRAFFIC).since(old.get(name, NO_TRAFFIC))

        status, tunnels = self.status, self._settings.tunnels
        status.accepted = status.accepted.plus(since(ACCEPTED))
        status.refused = {
            name: status.refused.get(name, NO_TRAFFIC).plus(since(refused_counter(name))) for name in sorted(tunnels)
        }

    def _install(self, wanted: Ruleset) -> None:
        """Make the table what is wanted, and verify it. If nft refuses a change, one complete replacement is tried."""
        found = self._found
        changes = commands.complete(wanted)
        if found is not None and found.is_intact and _same_chains(found.ruleset, wanted):
            changes = commands.change(found.ruleset, wanted)
        if not changes:
            self.wanted = found.ruleset if found is not None and found.ruleset == wanted else wanted
            return
        self._news.forget()
        try:
            self._run(changes)
            if self._is_as(wanted):
                return
        except FilterError as error:
            self._log.error("the packet filter cannot be changed, so it is replaced as a whole", error=str(error))
        self._run(commands.complete(wanted))
        if not self._is_as(wanted, learn=True):
            self._news.forget()
            raise FilterError("EBADMSG", "the packet filter is not what nft was told to make")

    def _run(self, changes: str) -> None:
        self._news.note_own(self._nft.run(changes))
        self.status.changes += 1

    def _is_as(self, wanted: Ruleset, *, learn: bool = False) -> bool:
        """Whether the table is as wanted. ``learn``: it was just made as a whole, so its chains are right as shown."""
        found = self._look()
        if learn and found is not None and not found.is_intact and found.ruleset == wanted and not found.is_odd:
            self._shape = found.shape
            self._found = found = found._replace(is_intact=True)
        if found is None or not found.is_intact or found.ruleset != wanted:
            return False
        self.wanted = found.ruleset  # the plan's copy is equal, and would take as much memory once more
        return True


def remove_table(nft: Nft) -> bool:
    """Remove the table, because policies are not enforced any more. Returns whether there was one."""
    try:
        if nft.show() is None:
            return False
    except FilterError as error:
        if error.name == "ENOENT":  # there is no nft, so nothing was made with it
            return False
        raise
    nft.run(commands.removal())
    return True


def _checked(settings: FilterSettings) -> FilterSettings:
    for name in settings.tunnels:
        commands.interface(name)
    return settings


def _same_chains(one: Ruleset, other: Ruleset) -> bool:
    return (one.judges_local, one.rejects) == (other.judges_local, other.rejects)


def _has(actual: Mapping[str, InterfaceState], plan: AccessPlan, host: Network) -> bool:
    """Whether the peer that an element is for is live and has the address."""
    interface, key = plan.holders.get(host, ("", None))
    state = actual.get(interface)
    peer = state.peers.get(key) if state is not None and key is not None else None
    return peer is not None and host in peer.config.allowed_ips
