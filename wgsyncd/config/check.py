"""Finds faults that no type shows: values out of range, and values that contradict each other."""

from __future__ import annotations

import re
from collections.abc import Mapping

from wgsyncd.config.schema import Interface, Settings
from wgsyncd.config.values import show
from wgsyncd.core.network import parse_host
from wgsyncd.errors import ConfigIssue


class _Checks:
    """Collects faults. ``as_written`` holds the file's values by dotted key."""

    def __init__(self, as_written: Mapping[str, object]) -> None:
        self._as_written = as_written
        self.faults: list[ConfigIssue] = []

    def __call__(self, good: bool, key: str, value: object, why: str) -> None:
        if not good:
            self.faults.append(ConfigIssue(key, show(key, self._as_written.get(key, value)), why))


def faults_between(settings: Settings, as_written: Mapping[str, object]) -> list[ConfigIssue]:
    """Every value out of range and every contradiction. ``as_written``: the file's values by dotted key."""
    check = _Checks(as_written)
    by_store_name: dict[str, str] = {}
    for name, one in settings.interfaces.items():
        store_name = f"interfaces.{name}.store_name"
        other = by_store_name.setdefault(one.store_name, name)
        check(other == name, store_name, one.store_name, f"is also interfaces.{other}'s")
        ignored = one.store_name in settings.node.ignored_interfaces
        check(not ignored, store_name, one.store_name, "stands in node.ignored_interfaces too")
        _check_interface(check, name, one)
    node, guard, usage, metrics = settings.node, settings.guard, settings.usage, settings.metrics
    check(len(node.name) <= 64 and node.name.isprintable(), "node.name", node.name,
          "is longer than 64 characters or unprintable")  # fmt: skip
    check(guard.always_allowed >= 0, "guard.always_allowed", guard.always_allowed, "is below 0")
    check(guard.small_node >= 0, "guard.small_node", guard.small_node, "is below 0")
    check(0 <= guard.max_share <= 1, "guard.max_share", guard.max_share, "is not between 0 and 1")
    for task in ("poll_interval", "resync_interval"):
        check(1 <= getattr(settings.schedule, task) <= 86400, f"schedule.{task}", None, "is not between 1s and 24h")
    watch = float(settings.schedule.watch_interval)
    check(watch == 0 or 0.1 <= watch <= 86400, "schedule.watch_interval", watch,
          "is neither 0s (off) nor from 100ms to 24h")  # fmt: skip
    whole = float(usage.bucket_width).is_integer() and usage.bucket_width >= 60 and 3600 % int(usage.bucket_width) == 0
    check(whole, "usage.bucket_width", float(usage.bucket_width), "is not whole minutes that divide an hour")
    check(usage.retention >= 62 * 86400, "usage.retention", float(usage.retention), "is below 62d (two months)")
    if metrics.listen:
        host, _, port = metrics.listen.rpartition(":")
        check(bool(host) and port.isdecimal() and int(port) < 65536, "metrics.listen", metrics.listen,
              "is not host:port, as 127.0.0.1:9586 is")  # fmt: skip
    check(metrics.per_peer_limit >= 0, "metrics.per_peer_limit", metrics.per_peer_limit, "is below 0")
    plane = settings.control_plane
    settings.store.check(lambda good, key, value, why: check(good, f"{plane}.{key}", value, why))
    return check.faults


def _check_interface(check: _Checks, name: str, one: Interface) -> None:
    key = f"interfaces.{name}"
    check(bool(re.fullmatch(r"[^\s/:]{1,15}", name)), key, name, "is not an interface name (1 to 15 characters)")
    check(bool(one.networks), f"{key}.networks", [], "is missing or empty: no row could be served")
    check(0 <= one.listen_port < 65536, f"{key}.listen_port", one.listen_port, "is not a port")
    check(one.mtu == 0 or 576 <= one.mtu <= 65535, f"{key}.mtu", one.mtu, "is not between 576 and 65535")
    keepalive = float(one.persistent_keepalive)
    check(0 <= keepalive <= 65535 and keepalive.is_integer(), f"{key}.persistent_keepalive", keepalive,
          "is not whole seconds from 0 to 65535")  # fmt: skip
    check(one.line_rate > 0, f"{key}.line_rate", float(one.line_rate), "is not above 0")
    for address in one.addresses:
        host, _, prefix = address.partition("/")
        try:
            parse_host(host)
            check(prefix.isdigit() and int(prefix) <= (128 if ":" in host else 32), f"{key}.addresses", address,
                  "needs a prefix length, as in 10.200.0.1/24")  # fmt: skip
        except ValueError:
            check(False, f"{key}.addresses", address, "is not an address, as 10.200.0.1/24 is")
    if one.create:
        check(one.private_key_file is not None, f"{key}.private_key_file", None, "is needed with create = true")
        check(one.listen_port > 0, f"{key}.listen_port", one.listen_port, "is needed with create = true")
        check(bool(one.addresses), f"{key}.addresses", [], "is needed with create = true")
