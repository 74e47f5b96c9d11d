"""Checks the way back: what the server sends to a device must leave by the device's interface."""

import re
import subprocess
from collections.abc import Iterator, Sequence

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding, fault, ok, warning
from wgsyncd.core.words import counted
from wgsyncd.errors import WireGuardError
from wgsyncd.ports import WireGuard

_WAY = re.compile(r"^(?:\w+ )?(\S+) .*?\bdev (\S+)", re.MULTILINE)  # as `ip -oneline route get` answers


def check(settings: Settings, wireguard: WireGuard) -> Iterator[Finding]:
    """A finding for each interface with peers. It asks about their single addresses, not about networks behind them."""
    for name in settings.interfaces:
        try:
            peers = wireguard.read(name).peers
        except WireGuardError:
            continue  # Another check tells of it.
        networks = [net for peer in peers.values() for net in peer.config.allowed_ips]
        hosts = [net.short for net in networks if net.prefixlen == 8 * len(net.packed)]
        if hosts:
            yield _finding(name, hosts)


def _finding(name: str, hosts: Sequence[str]) -> Finding:
    check = f"{name} routes"
    try:  # A route that swallows packets is an error, and `ip` goes on with the next address.
        done = subprocess.run(
            ["ip", "-force", "-oneline", "-batch", "-"], input="".join(f"route get {one}\n" for one in hosts),
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return warning(check, f"ip does not say where packets go: {error}", f"ip route get {hosts[0]}")
    ways = dict(_WAY.findall(done.stdout))
    lost = [one for one in hosts if ways.get(one) != name]
    if not lost:
        return ok(check, f"packets to {counted(len(hosts), 'address', 'addresses')} leave by it")
    first = lost[0]
    where = f"leave by {ways[first]}" if first in ways else "are dropped here"
    why = f"packets to {counted(len(lost), 'address', 'addresses')} of its devices do not leave by it: those to {first}"
    return fault(check, f"{why} {where}, because of a route or a rule", "ip rule list && ip route show table all")
