"""A digest of rows that also tells which devices have changed rows."""

from typing import NamedTuple

SEPARATOR = "\x1f"  # between two rows
HASH_LENGTH = 16  # characters


class RowDigest(NamedTuple):
    """The digest of all rows, and of everything else that a plan depends on."""

    rows: str  # for each row its hash and the name of its device
    rest: object


def changed_devices(before: object, now: object) -> frozenset[str] | None:
    """The devices whose rows differ between two digests. None: anything else may differ, too."""
    if not (isinstance(before, RowDigest) and isinstance(now, RowDigest)) or before.rest != now.rest:
        return None
    rows = set(before.rows.split(SEPARATOR)) ^ set(now.rows.split(SEPARATOR))
    return frozenset(one[HASH_LENGTH:] for one in rows if one)
