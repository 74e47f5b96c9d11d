"""Finds faults that no type shows: values out of range, and values that contradict each other."""

import re
from collections.abc import Mapping

from wgsyncd.config.schema import Interface, Settings
from wgsyncd.config.values import show
from wgsyncd.core.network import is_loopback, parse_host
from wgsyncd.errors import ConfigIssue

_MANY = 10**9


class _Checks:
    """Collects faults. ``as_written`` holds the file's values by dotted key. A default has no value there."""

    def __init__(self, as_written: Mapping[str, object]) -> None:
        self._as_written = as_written
        self.faults: list[ConfigIssue] = []

    def __call__(self, good: bool, key: str, why: str) -> None:
        if not good:
            written = show(key, self._as_written[key]) if key in self._as_written else ""
            self.faults.append(ConfigIssue(key, written, why))


def faults_between(settings: Settings, as_written: Mapping[str, object]) -> list[ConfigIssue]:
    """Every value out of range and every contradiction. ``as_written``: the file's values by dotted key."""
    check = _Checks(as_written)
    node, guard, usage, metrics, plan = (
        settings.node, settings.guard, settings.usage, settings.metrics, settings.schedule
    )  # fmt: skip
    by_store_name: dict[str, str] = {}
    for name, one in settings.interfaces.items():
        other = by_store_name.setdefault(one.store_name, name)
        check(other == name, f"interfaces.{name}.store_name", f"is also interfaces.{other}'s")
        ignored = one.store_name in node.ignored_interfaces
        check(not ignored, f"interfaces.{name}.store_name", "stands in node.ignored_interfaces too")
        good = bool(one.networks) or settings.store.gives_networks
        check(good, f"interfaces.{name}.networks", "is missing or empty: no row could be served")
        _check_interface(check, name, one)
    check(len(node.name) <= 64 and node.name.isprintable(), "node.name", "is longer than 64 characters or unprintable")
    good = not node.active_address or _is_address(node.active_address)
    check(good, "node.active_address", "is not an address, as 203.0.113.5 is")
    check(0 <= guard.always_allowed <= _MANY, "guard.always_allowed", f"is not between 0 and {_MANY}")
    check(0 <= guard.small_node <= _MANY, "guard.small_node", f"is not between 0 and {_MANY}")
    check(0 <= guard.max_share <= 1, "guard.max_share", "is not between 0 and 1")
    check(1 <= plan.poll_interval <= 86400, "schedule.poll_interval", "is not between 1s and 24h")
    check(1 <= plan.resync_interval <= 86400, "schedule.resync_interval", "is not between 1s and 24h")
    watch = plan.watch_interval
    check(not watch or 0.1 <= watch <= 86400, "schedule.watch_interval", "is neither 0s (off) nor from 100ms to 24h")
    whole = usage.bucket_width.is_integer() and usage.bucket_width >= 60 and 3600 % int(usage.bucket_width) == 0
    check(whole, "usage.bucket_width", "is not whole minutes that divide an hour")
    check(usage.retention >= 62 * 86400, "usage.retention", "is below 62d (two months)")
    if metrics.listen:
        host, _, port = metrics.listen.rpartition(":")
        good = bool(re.fullmatch("[0-9]{1,5}", port)) and int(port) < 65536 and _is_host(host.strip("[]"))
        check(good, "metrics.listen", "is not host:port, as 127.0.0.1:9586 is")
    if metrics.page:
        why = "needs metrics.listen on a loopback address, such as 127.0.0.1:9586: the page shows names and addresses"
        check(metrics.address is not None and is_loopback(metrics.address[0]), "metrics.page", why)
    check(0 <= metrics.per_peer_limit <= _MANY, "metrics.per_peer_limit", f"is not between 0 and {_MANY}")
    _check_shaping(check, settings, as_written)
    plane = settings.control_plane
    if as_written.get("limits.devices", "ignore") != "ignore":
        why = f"needs a number of devices that owners may have, and {plane} has none"
        check(settings.store.bounds_devices, "limits.devices", why)
    settings.store.check(lambda good, key, why: check(good, f"{plane}.{key}", why))
    return check.faults


def _check_shaping(check: _Checks, settings: Settings, as_written: Mapping[str, object]) -> None:
    shaping, profiles = settings.shaping, settings.bandwidth
    known = "is no bandwidth profile: there is no table [bandwidth.{}]"
    default = shaping.default
    check(not default or default in profiles, "shaping.default", known.format(default))
    for group, name in shaping.by_group.items():
        check(name in profiles, f"shaping.by_group.{group}", known.format(name))
    if shaping.by_group:
        check(settings.store.has_groups, "shaping.by_group", f"needs groups, and {settings.control_plane} has none")
    networks = [one.networks for one in settings.interfaces.values()]
    sizes = {len(net) for some in networks for net in some}
    for net in shaping.exempt:
        good = not all(networks) or len(net) in sizes
        check(good, "shaping.exempt", f"has {net}, and no interface has this IP version")
    for name, one in profiles.items():
        key = f"bandwidth.{name}"
        good = 0 < len(name) <= 64 and name.isprintable()
        check(good, key, "has a name that is empty, unprintable or longer than 64 characters")
        for way, rate in (("down", one.down), ("up", one.up)):
            if f"{key}.{way}" in as_written:
                check(64e3 <= rate <= 30e9, f"{key}.{way}", "is not between 64kbit and 30Gbit")
        if f"{key}.monthly" in as_written:
            check(0 < one.monthly < 1 << 63, f"{key}.monthly", "is not between 1B and 9223372TB")
            why = f"needs the bytes of an owner's month, and {settings.control_plane} does not have them"
            check(settings.store.counts_months, f"{key}.monthly", why)
            why = "is needed with monthly: the bandwidth profile that holds from there on"
            check(bool(one.beyond), f"{key}.beyond", why)
        if one.beyond:
            check(f"{key}.monthly" in as_written, f"{key}.monthly", "is needed with beyond: the bytes of a month")
            check(one.beyond in profiles, f"{key}.beyond", known.format(one.beyond))
            check(one.beyond != name, f"{key}.beyond", "is the profile itself, so nothing would change")


def _is_host(host: str) -> bool:
    """Whether a name or an address can be looked up. The idna codec refuses empty and long labels."""
    try:
        return "/" not in host and bool(host.encode("idna"))
    except UnicodeError:
        return False


def _is_address(text: str) -> bool:
    try:
        parse_host(text)
    except ValueError:
        return False
    return True


def _check_interface(check: _Checks, name: str, one: Interface) -> None:
    key = f"interfaces.{name}"
    good = re.fullmatch(r"[^\s/:]+", name) and name not in (".", "..") and len(name.encode()) <= 15
    # The kernel makes a number of %d, see dev_get_valid_name() in net/core/dev.c.
    good = good and "%" not in name and name.isprintable()
    check(bool(good), key, "is not an interface name (1 to 15 bytes, printable, without %)")
    check(0 <= one.listen_port < 65536, f"{key}.listen_port", "is not a port")
    check(one.mtu == 0 or 576 <= one.mtu <= 65535, f"{key}.mtu", "is not between 576 and 65535")
    keepalive = one.persistent_keepalive
    whole = 0 <= keepalive <= 65535 and keepalive.is_integer()
    check(whole, f"{key}.persistent_keepalive", "is not whole seconds from 0 to 65535")
    check(0 < one.line_rate < float("inf"), f"{key}.line_rate", "is not a number above 0")
    for address in one.addresses:
        host, _, prefix = address.partition("/")
        good = bool(re.fullmatch("[0-9]{1,3}", prefix)) and int(prefix) <= (128 if ":" in host else 32)
        try:
            parse_host(host)
            check(good, f"{key}.addresses", "needs a prefix length, as in 10.200.0.1/24")
        except ValueError:
            check(False, f"{key}.addresses", "is not an address, as 10.200.0.1/24 is")
    if one.create:
        check(one.private_key_file is not None, f"{key}.private_key_file", "is needed with create = true")
        check(one.listen_port > 0, f"{key}.listen_port", "is needed with create = true")
        check(bool(one.addresses), f"{key}.addresses", "is needed with create = true")
