"""Checks of what policies need of this system: the program nft, and the forwarding of packets."""

from collections.abc import Callable, Iterator
from pathlib import Path

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding, fault, ok, warning
from wgsyncd.errors import FilterError

_KEYS = {4: "net.ipv4.ip_forward", 16: "net.ipv6.conf.all.forwarding"}  # by the bytes of an address


def check(settings: Settings, version: Callable[[], str], sysctl: Path = Path("/proc/sys")) -> Iterator[Finding]:
    """Every check, if policies are enforced. ``version`` asks nft, and raises FilterError if it does not run."""
    policies = settings.store.policy_settings()
    if policies is None or not policies.enforce:
        return
    try:
        yield ok("packet filter", version())
    except FilterError as error:
        yield fault("packet filter", error.text, "apt-get install nftables")
    sizes = {len(net.packed) for one in settings.interfaces.values() for net in one.networks}
    for key in (_KEYS[size] for size in sorted(sizes)):
        yield _forwarding(key, sysctl / key.replace(".", "/"))


def _forwarding(key: str, file: Path) -> Finding:
    try:
        value = file.read_text(encoding="ascii").strip()
    except OSError as error:
        return warning("forwarding", f"{key} cannot be read: {error.strerror}", f"sysctl {key}")
    if value == "0":
        return warning("forwarding", f"{key} is 0: devices reach only this gateway itself", f"sysctl -w {key}=1")
    return ok("forwarding", f"{key} is {value}")
