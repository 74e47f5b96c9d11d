"""What devices reach by the packet filter, for the list of devices."""

import contextlib

from wgsyncd.core.network import Network, parse_host
from wgsyncd.core.policies.model import IPV4_BYTES, Access, tag
from wgsyncd.core.policies.ranges import contains
from wgsyncd.core.policies.status import FilterStatus


def _covers(access: Access, host: Network) -> bool:
    ranges = access.v4 if len(host.packed) == IPV4_BYTES else access.v6
    return contains(ranges, int.from_bytes(host.packed))


class AccessTexts:
    """Finds the ranges of devices in the ruleset that was last read. Devices with one profile share the texts."""

    def __init__(self, policies: FilterStatus | None) -> None:
        self._ruleset = policies.ruleset if policies is not None else None
        self._texts: dict[tuple[str, int], list[str]] = {}

    def of(self, device: str, addresses: tuple[str, ...]) -> list[str] | None:
        """The ranges that a device reaches from its addresses. None: nobody enforces policies, as far as is known."""
        if self._ruleset is None:
            return None
        found: list[str] = []
        for text in addresses:
            with contextlib.suppress(ValueError):
                host = parse_host(text)
                element = self._ruleset.elements.get(host)
                if _covers(self._ruleset.free, host):  # a peer that is always kept is not judged
                    return ["everything"]
                if element is not None and element.device == tag(device):
                    found += self._of_profile(element.profile, len(host.packed))
        return found

    def _of_profile(self, profile: str, family: int) -> list[str]:
        known = self._texts.get((profile, family))
        if known is None and self._ruleset is not None:
            access = self._ruleset.profiles[profile].limited_to(frozenset((family,)))
            known = self._texts[profile, family] = access.texts()
        return known or []
