"""What the packet filter has done since the start, for metrics and status."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wgsyncd.core.policies.model import Ruleset


@dataclass(frozen=True, slots=True)
class Traffic:
    """What some rules have counted."""

    packets: int = 0
    bytes: int = 0

    def since(self, before: "Traffic") -> "Traffic":
        """What came after ``before``. A counter that fell was made again, and began at zero."""
        if self.packets < before.packets or self.bytes < before.bytes:
            return self
        return Traffic(self.packets - before.packets, self.bytes - before.bytes)

    def plus(self, other: "Traffic") -> "Traffic":
        return Traffic(self.packets + other.packets, self.bytes + other.bytes)


NO_TRAFFIC = Traffic()
PLANE = "policies"  # the name of the plane that enforces them


@dataclass(slots=True)
class FilterStatus:
    """What happened to the ruleset since the start. It is output only: no decision is made from it.

    Only the main thread writes it, and other threads read it. So each field is replaced as a whole.
    """

    devices: int = 0  # elements of the ruleset
    profiles: int = 0
    changes: int = 0  # transactions of wgsyncd
    drifts: int = 0  # how often the table was not as wanted
    restorations: int = 0
    forgotten_flows: int = 0
    withheld: int = 0  # devices that keep their access until an admin approves
    stale_profiles: int = 0  # devices whose client routes other addresses than their policies are about
    shared_addresses: int = 0  # addresses that several devices have, and that reach nothing
    plan_id: str = ""  # what the admin approves. "" if nothing is withheld
    accepted: Traffic = NO_TRAFFIC
    refused: Mapping[str, Traffic] = field(default_factory=dict)  # by interface
    culprit: str = ""  # the process that changed the table last, and its id
    ruleset: Ruleset | None = None  # as last read. None: it was not read yet

    def note(self, ruleset: Ruleset) -> None:
        """Note what the table has now."""
        self.ruleset, self.devices, self.profiles = ruleset, len(ruleset.elements), len(ruleset.profiles)
