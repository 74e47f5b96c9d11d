"""The packet filter as a plane that only looks, for commands."""

from collections.abc import Mapping
from typing import NamedTuple

from wgsyncd.core.audit import Happening
from wgsyncd.core.model import InterfaceState, PublicKey
from wgsyncd.core.peers.guard import Decision, RemovalLimits
from wgsyncd.core.policies.model import PolicySettings, Ruleset
from wgsyncd.core.policies.plan import AccessPlan, plan_access
from wgsyncd.core.policies.status import PLANE
from wgsyncd.dataplane.nftables import listing
from wgsyncd.dataplane.nftables.devices import live_devices
from wgsyncd.dataplane.nftables.nft import Nft
from wgsyncd.errors import FilterError
from wgsyncd.ports import Phase, Snapshot


class FilterSettings(NamedTuple):
    """What the packet filter has to know of the configuration."""

    tunnels: frozenset[str]  # names of the interfaces
    policies: PolicySettings
    limits: RemovalLimits
    always_keep: frozenset[PublicKey] = frozenset()


def plan_filter(
    settings: FilterSettings, snapshot: Snapshot, decision: Decision, found: Ruleset | None
) -> AccessPlan | None:
    """The changes of the ruleset ``found``. None if the store has no policies."""
    tables = snapshot.policies
    if tables is None:
        return None
    live = live_devices(decision, snapshot.rows, settings.always_keep, settings.tunnels)
    return plan_access(
        live.devices, tables, settings.policies, settings.limits, found, snapshot.approved,
        tunnels=settings.tunnels, kept=live.kept, is_partial=live.is_partial, memory=decision.access,
    )  # fmt: skip


class FilterView:
    """Implements the port Plane for commands: it shows and plans, and the daemon alone applies."""

    name = PLANE
    judges = True
    rests = False
    descriptor: int | None = None

    def __init__(self, settings: FilterSettings, nft: Nft) -> None:
        self._settings, self._nft = settings, nft
        self.happenings: list[Happening] = []

    def read(self) -> Ruleset | None:
        """The ruleset as the kernel has it. None if there is no table. FilterError if it cannot be read."""
        shown = self._nft.show()
        try:
            return listing.decode(shown).ruleset if shown is not None else None
        except ValueError as error:
            raise FilterError("EBADMSG", f"the table has what wgsyncd never makes: {str(error)[:200]}") from None

    def plan(self, snapshot: Snapshot, decision: Decision, found: Ruleset | None) -> AccessPlan | None:
        """See :func:`plan_filter`."""
        return plan_filter(self._settings, snapshot, decision, found)

    def apply(self, phase: Phase, plan: AccessPlan | None, actual: Mapping[str, InterfaceState]) -> None:
        """Change nothing."""

    def poll(self) -> bool:
        """Nothing to mend."""
        return False

    def mend(self) -> bool:
        """Nothing to mend."""
        return False
