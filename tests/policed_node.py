"""A node in memory whose devices have policies. nft and the kernel's tables are real."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fakes import Crash, FakeWireGuard
from tests.node import Node
from tests.policing import tables
from tests.samples import NETWORKS, device_name, key_number
from wgsyncd.core.model import Change
from wgsyncd.core.peers.guard import Decision, RemovalLimits
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.core.policies.model import PolicySettings, PolicyTables, Ruleset
from wgsyncd.core.policies.plan import AccessPlan
from wgsyncd.dataplane.nftables import listing
from wgsyncd.dataplane.nftables.filter import PacketFilter
from wgsyncd.dataplane.nftables.netfilter import Netfilter
from wgsyncd.dataplane.nftables.nft import Nft
from wgsyncd.dataplane.nftables.view import FilterSettings
from wgsyncd.errors import FilterError
from wgsyncd.ports import Snapshot


class _WatchedNft(Nft):
    """nft, which fails or ends the process at a transaction if the test wants that."""

    def __init__(self, node: PolicedNode) -> None:
        super().__init__()
        self.node, self.fails, self.crash_after = node, 0, 0

    def run(self, commands: str) -> int:
        if self.fails:
            self.fails -= 1
            raise FilterError("nft", "no nft now")
        pid = super().run(commands)
        self.node.check()
        if self.crash_after:
            self.crash_after -= 1
            if not self.crash_after:
                raise Crash
        return pid


class _WatchedWireGuard(FakeWireGuard):
    node: PolicedNode

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        failed: list[FailedChange] = []
        for change in changes:
            failed += super().apply(interface, [change])
            self.node.check()
        return failed


class _Filter(PacketFilter):
    """The packet filter, with the policies that the store does not deliver yet."""

    node: PolicedNode

    def plan(self, snapshot: Snapshot, decision: Decision, found: Ruleset | None) -> AccessPlan | None:
        return super().plan(snapshot._replace(policies=self.node.tables), decision, found)


class PolicedNode(Node):
    """A node whose devices have policies. ``tables``: what these say now."""

    def __init__(self) -> None:
        self._tables: PolicyTables | None = tables()
        self.nft, self.netfilter = _WatchedNft(self), Netfilter()
        super().__init__()

    @property
    def tables(self) -> PolicyTables | None:
        return self._tables

    @tables.setter
    def tables(self, changed: PolicyTables | None) -> None:
        self._tables, self.filter.rests = changed, False  # a store's digest would tell

    def _kernel(self) -> FakeWireGuard:
        made = _WatchedWireGuard(*NETWORKS)
        made.node = self
        return made

    def start(self) -> None:
        self.nft.fails = self.nft.crash_after = 0
        self.netfilter.close()
        self.netfilter = Netfilter()
        settings = FilterSettings(frozenset(NETWORKS), PolicySettings(), RemovalLimits(3, 0.2, 3))
        self.filter = _Filter(settings, self.nft, self.netfilter)
        self.filter.node = self
        self.planes = (self.filter,)
        self.filter.start()
        super().start()

    def found(self) -> listing.Found:
        shown = Nft().show()
        assert shown is not None
        return listing.decode(shown)

    def check(self) -> None:
        """Assert that no live peer has an address whose element gives it the access of another device."""
        shown = Nft().show()
        if shown is None:  # another program took it, and nft fails
            return
        ruleset = listing.decode(shown).ruleset
        for name in NETWORKS:
            for public_key, config in self.wg.peers(name).items():
                for host in config.allowed_ips:
                    element = ruleset.elements.get(host)
                    if element is not None and not ruleset.profiles[element.profile].is_empty:
                        assert element.device == device_name(key_number(public_key)), f"{host}: {element}"

    def access(self) -> dict[int, str]:
        """The profile of each live peer by its number. No element: no access."""
        ruleset = self.found().ruleset
        return {
            key_number(public_key): ruleset.elements[host].profile
            for name in NETWORKS
            for public_key, config in self.wg.peers(name).items()
            for host in config.allowed_ips
            if host in ruleset.elements
        }
