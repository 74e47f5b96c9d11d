"""The control planes and data planes on which the engine's tests run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.admins import Admin, MikyunAdmin, UsersAdmin


@dataclass(frozen=True)
class Variant:
    """A control plane, and whether a second data plane takes part."""

    name: str
    admin: Callable[[Any], Admin]
    plane: bool = False


MIKYUN = Variant("mikyun", MikyunAdmin)
USERS = Variant("users", UsersAdmin)
USERS_AND_PLANE = Variant("users-plane", UsersAdmin, plane=True)
