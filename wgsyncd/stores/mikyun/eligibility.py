"""The rules by which a device of mikyun_cloud may have a peer.

The device has an active contract, its status is active or issued, and it is not deleted.
"""

from functools import lru_cache

from wgsyncd.core.inspect.answers import Rule
from wgsyncd.core.model import DeviceRow, Status
from wgsyncd.core.reasons import Inactive, InactiveReason, Reason

UNKNOWN = "of unknown status"
DELETED = InactiveReason(Inactive.DEVICE_INACTIVE, "deleted")


@lru_cache(maxsize=1024)  # most rows have the same few reasons: each tuple is in memory once
def inactive_reasons(contract: str, contract_status: str | None, *, deleted: bool) -> tuple[InactiveReason, ...]:
    """The reasons, besides its status, why a device may have no peer. Empty if there is none.

    ``contract``: the contract's id. ``contract_status``: None if the contract does not exist.
    """
    reasons = (DELETED,) if deleted else ()
    if contract_status is None:
        return (*reasons, InactiveReason(Inactive.OWNER_MISSING, "", contract, "contract"))
    if contract_status not in ("active", UNKNOWN):  # an unknown word rejects the row, see DeviceRow.fault
        return (*reasons, InactiveReason(Inactive.OWNER_INACTIVE, contract_status, contract, "contract"))
    return reasons


def rules(row: DeviceRow, now: float) -> tuple[Rule, ...]:
    """The four rules and whether a row keeps them, in the order of etc/doc/tables.md. ``now``: UNIX seconds."""
    kinds = {reason.kind: reason for reason in row.inactive}
    missing, inactive = Inactive.OWNER_MISSING in kinds, kinds.get(Inactive.OWNER_INACTIVE)
    ended = row.status is Status.ISSUED and row.activation_deadline is not None and now > row.activation_deadline
    known = UNKNOWN if row.fault is Reason.UNKNOWN_STATUS else "active"
    contract = "no contract" if missing else inactive.state if inactive is not None else known
    deleted = Inactive.DEVICE_INACTIVE in kinds
    return (
        Rule("its contract exists", not missing, row.owner),
        Rule("its contract is active", contract == "active", contract),
        Rule(
            "its status is active, or issued with the QR code alive",
            row.status in (Status.ISSUED, Status.ACTIVE) and not ended,
            f"{row.status_text}, QR code ended" if ended else row.status_text,
        ),
        Rule("it is not deleted", not deleted, "deleted" if deleted else ""),
    )
