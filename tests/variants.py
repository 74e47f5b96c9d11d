"""The control planes and data planes on which the engine's tests run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.admins import Admin, MikyunAdmin, UsersAdmin
from tests.samples import NETWORKS, NETWORKS6


@dataclass(frozen=True)
class Variant:
    """A control plane, and whether a second data plane takes part."""

    name: str
    admin: Callable[[Any], Admin]
    plane: bool = False
    ipv6: bool = False  # each interface has an IPv6 network too, and each device an IPv6 address


MIKYUN = Variant("mikyun", MikyunAdmin)
USERS = Variant("users", UsersAdmin, ipv6=True)
USERS_AND_PLANE = Variant("users-plane", UsersAdmin, plane=True, ipv6=True)


def with_ipv6(config: str) -> str:
    """The configuration with an IPv6 network and address for each interface of a test."""
    for name, network in NETWORKS.items():
        also = NETWORKS6[name]
        config = config.replace(f'"{network}"', f'"{network}", "{also}"')
        own = network.replace(".0/24", ".1/24")
        config = config.replace(f'"{own}"', f'"{own}", "{also.replace("::/", "::1/")}"')
    return config
