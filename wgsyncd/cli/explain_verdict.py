"""The verdict of `wgsyncd explain`: what a device has, what its row wants, and what comes next."""

from __future__ import annotations

from wgsyncd.core.inspect.explain import Explanation
from wgsyncd.core.model import ChangeKind
from wgsyncd.engine import wording

_WHEN = {
    "next": "",
    "withheld": ", but the guard withholds that (wgsyncd plan)",
    "blocked": f", but that {wording.UNTIL_MENDED}",
}
_DOING = {ChangeKind.ADD: "adds", ChangeKind.UPDATE: "updates", ChangeKind.REMOVE: "removes"}


def verdict(story: Explanation) -> str:
    """One sentence."""
    where = " and ".join(dict.fromkeys(one.interface for one in story.peers))
    doing = ", and ".join(
        f"the next cycle {_DOING[one.change.kind]} it {'from' if one.change.kind is ChangeKind.REMOVE else 'on'}"
        f" {one.change.interface}{_WHEN[one.when]}"
        for one in story.due
    )
    wanted = story.inactive is None
    if story.elsewhere:
        return f"is another node's: {story.row.interface} stands in node.ignored_interfaces"
    if story.rejection is not None:
        kept = f"its live peer on {where} is left as it is" if story.frozen else doing or "it has no peer"
        why = f"{story.rejection.reason.value}: {wording.rejection(story.rejection)}"
        return f"wants a peer but cannot be followed, {why}. {kept[0].upper()}{kept[1:]}"
    if story.trouble:
        return f"wants {'a' if wanted else 'no'} peer, but the kernel cannot be asked: {story.trouble}"
    if story.inactive is not None:
        why = wording.inactive(story.inactive)
        return f"wants no peer ({why})" + (f": {doing}" if doing else f", yet {where} has it" if where else "")
    if doing:
        return f"wants a peer: {doing}"
    return f"has its peer on {where}, as the row wants it" if where else "wants a peer and has none"
