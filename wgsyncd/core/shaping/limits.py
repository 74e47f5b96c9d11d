"""The device limit of a contract: which of its rows are beyond it."""

from collections.abc import Collection, Iterable

from wgsyncd.core.model import DeviceId


def beyond_limit(limit: int | None, wanting: Iterable[DeviceId], live: Collection[DeviceId]) -> tuple[DeviceId, ...]:
    """The rows of one contract that are beyond its limit. None or a limit below zero: there is no limit.

    ``wanting``: the rows that want a peer, on all nodes. ``live``: those that have one. A live row keeps its place, and
    then the lowest ids have the places that are left.
    """
    if limit is None or limit < 0:
        return ()
    ranked = sorted(wanting, key=lambda row_id: (row_id not in live, row_id))
    return tuple(ranked[limit:])
