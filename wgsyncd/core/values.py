"""The decorator of values that exist once for each peer: frozen for the type checker alone."""

from typing import TYPE_CHECKING

__all__ = ["peer_value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as peer_value
else:
    from dataclasses import dataclass

    def peer_value(*, frozen: bool, **options: bool) -> object:
        """A dataclass that the type checker holds to be frozen.

        At runtime it is not frozen, because a frozen dataclass sets each field by a call of ``object.__setattr__``.
        To make one would take seven times as long, which is a third of a posting.
        """
        return dataclass(unsafe_hash=frozen, **options)
