"""Finds out that clients know another public key or another port of an interface than it has.

Clients have both in their configuration. If an old file of wg-quick comes back with another private key, or somebody
sets another port, nobody can connect. So the node state remembers what it saw first, as a condition that always holds.
A change is told until it is undone, or until an admin or the row of the gateway says that it is right.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from wgsyncd.core.model import InterfaceState, encode_key
from wgsyncd.core.state import Condition, ConditionType


class IdentityChange(NamedTuple):
    """What clients know of an interface, and what it has now: see :func:`identity`."""

    known: str
    found: str

    @property
    def approval(self) -> str:
        """The id with which an admin approves exactly this change. "": nobody can mean that the key is lost."""
        return hashlib.sha256("".join(self).encode()).hexdigest()[:32] if self.found else ""


def identity(state: InterfaceState) -> str:
    """The public key in base64, and the port. "": there is no private key, so nobody can connect."""
    return "" if state.public_key is None else f"{encode_key(state.public_key)} {state.listen_port}"


def identity_changes(
    conditions: Iterable[Condition], actual: Mapping[str, InterfaceState], right: Mapping[str, tuple[object, int]],
    approved: str | None,
) -> dict[str, IdentityChange]:  # fmt: skip
    """The changes by interface, without the approved one. ``right``: the keys and ports that rows of gateways have."""
    known = {one.subject: one.reason for one in conditions if one.type == ConditionType.INTERFACE_IDENTITY}
    changes = {name: IdentityChange(known[name], identity(actual[name])) for name in known.keys() & actual.keys()}
    return {
        name: one
        for name, one in sorted(changes.items())
        if one.known != one.found
        and one.approval != approved
        and right.get(name) != (actual[name].public_key, actual[name].listen_port)
    }


def to_remember(actual: Mapping[str, InterfaceState], changes: Mapping[str, IdentityChange]) -> frozenset[Condition]:
    """The conditions of interfaces without a change."""
    # Port 0: somebody has given a key, and the port comes next.
    found = ((name, identity(state)) for name, state in actual.items() if name not in changes and state.listen_port)
    return frozenset(Condition(ConditionType.INTERFACE_IDENTITY, name, name, one) for name, one in found if one)
