"""Checks of what policies need of this system: the program nft, and room for connections."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding, Severity, fault, ok, warning
from wgsyncd.errors import FilterError

MANY = 1000  # profiles. nft then takes seconds for each change
_TRACKED = 0.9  # the share of the table of connections from which on it is nearly full


def check(
    settings: Settings, version: Callable[[], str], flowtables: Callable[[], Mapping[str, Sequence[str]]],
    tracking: Path = Path("/proc/sys/net/netfilter"),
) -> Iterator[Finding]:  # fmt: skip
    """Every check, if policies are enforced. ``version`` and ``flowtables`` ask nft, and raise FilterError.

    A firewall of the host may track connections, too. So without policies, a full table is told.
    """
    policies = settings.store.policy_settings()
    if policies is None or not policies.enforce:
        yield from (one for one in _tracking(tracking) if one.severity is not Severity.OK)
        return
    try:
        yield ok("packet filter", version())
    except FilterError as error:
        yield fault("packet filter", error.text, "apt-get install -y --no-install-recommends nftables")
    else:
        yield from _flowtables(frozenset(settings.interfaces), flowtables)
    yield from _tracking(tracking)


def profiles(count: int) -> Iterator[Finding]:
    """Whether the packet filter has too many access lists. ``count``: what the daemon says."""
    if count > MANY:
        told = f"{count} access lists: each change takes nft seconds. Let devices share policies, by groups"
        yield warning("access lists", told, "wgsyncd status")


def _flowtables(tunnels: frozenset[str], flowtables: Callable[[], Mapping[str, Sequence[str]]]) -> Iterator[Finding]:
    """A flowtable takes packets of known flows past all rules (nft(8), "Flowtables"), so also past the policies."""
    try:
        found = {name: sorted(tunnels.intersection(devices)) for name, devices in flowtables().items()}
    except FilterError as error:
        yield warning("flowtables", error.text, "sudo wgsyncd doctor")
        return
    for name, devices in found.items():
        if devices:
            told = f"{name} has {', '.join(devices)}: who loses access keeps running flows"
            yield fault("flowtables", told, f"nft delete flowtable {name}")
    if not any(found.values()):
        yield ok("flowtables", "none is on a tunnel")


def _tracking(folder: Path) -> Iterator[Finding]:
    """Whether there is room for more connections."""
    try:
        count, most = (int((folder / f"nf_conntrack_{name}").read_text(encoding="ascii")) for name in ("count", "max"))
    except (OSError, ValueError):
        yield ok("connections", "are not tracked yet: the daemon's packet filter begins that")
        return
    if count > _TRACKED * most:
        told = f"{count} of {most} are tracked: packets of new ones are dropped when the table is full"
        yield warning("connections", told, f"sysctl -w net.netfilter.nf_conntrack_max={2 * most}")
    else:
        yield ok("connections", f"{count} of {most} are tracked")
