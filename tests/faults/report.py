"""The report of a run has its sums, its differences and its troubles."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults import verdict
from tests.faults.oracle import SIDES
from tests.faults.policies_stage import PoliciesStage
from tests.faults.runner import Deed, Play
from tests.faults.web import Away

_TRACES = ("Traceback", '"trace"')
_REMOVALS = "SELECT COUNT(*) FROM admin_logs WHERE action_type = 'peer_removed'"
_ROOM = {"memory": 20_000, "descriptors": 5, "threads": 5}  # how much more a daemon may use than after the first round


def used(pid: int) -> dict[str, int]:
    """Returns what a process uses: its memory in KiB, its descriptors and its threads."""
    process = Path("/proc", str(pid))
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return {"memory": int(status["VmRSS"].split()[0]), "descriptors": len(list((process / "fd").iterdir())),
            "threads": int(status["Threads"])}  # fmt: skip


def _judge_calm(play: Play) -> None:
    """A daemon that nobody kills lives on. It removes no peer, because no row asks for that, and it does not grow."""
    if play.ends:
        play.trouble(f"daemons ended: {dict(play.ends)}")
    removals = play.finish(play.asked(lambda cursor: cursor.execute(_REMOVALS) and cursor.fetchall()[0][0]), 60)
    if removals != 0:
        play.trouble(f"{removals} peers were removed, and no row asked for that")
    for word, room in _ROOM.items():
        if play.used and play.used[-1][word] > play.used[0][word] + room:
            play.trouble(f"{word} grow: {play.used[0][word]}, then {play.used[-1][word]}")


def data(play: Play, settled: Sequence[float | None], *, is_calm: bool) -> dict[str, Any]:
    """Returns the report without the arguments of the run.

    ``settled`` has for each round the seconds until its table was right. ``is_calm``: nobody killed the daemon.
    """
    if is_calm:
        _judge_calm(play)
    due, traffic = play.due, play.stage.traffic
    said = "".join(daemon.log.read_text(errors="replace") for daemon in play.stage.everybody)
    if any(word in said for word in _TRACES):
        play.trouble("a daemon's log has a trace")
    sums, anomalies, quarantined = play.finish(_asked(play), 60 * play.stage.pace) or ({}, 0, 0)
    if not sums:
        play.trouble("the table cannot be read")
    if anomalies > play.replaced:
        play.trouble(f"{anomalies} anomalies, and only {play.replaced} peers with which anything was wrong")
    times = [one for one in settled if one is not None]
    probes = play.stage.probes() if isinstance(play.stage, PoliciesStage) else None
    if probes and (probes["forbidden"] or not probes["fewest_allowed"]):
        play.trouble(f"packets that no policy allows arrived, or none that one does: {probes}")
    return {
        "runs": len(settled),
        "kills": play.ends["-9"],
        "kills_by_node": dict(play.killed),
        "faults": dict(sorted(play.faults.items())),
        "moments": dict(sorted(play.moments.items())),
        "daemons_ended": dict(play.ends),
        "used": {word: [min(values), max(values)] for word in _ROOM if (values := [one[word] for one in play.used])},
        "bytes": sums,
        "payload_sent": sum(flow.sent for flow in traffic.flows.values()),
        "lost": due.lost,
        "doubled": due.doubled,
        "differences": [one._asdict() for one in due.differences],
        "removal_under_traffic": due.removals.data(),
        "anomalies": {"reported": anomalies, "replaced_peers": play.replaced, "quarantined": quarantined},
        "settle_seconds": {
            "min": round(min(times), 2), "median": round(statistics.median(times), 2), "max": round(max(times), 2),
        } if times else None,
        "unsettled": list(settled).count(None),
        **({"probes": probes} if probes else {}),
        "troubles": play.troubles,
    }  # fmt: skip


def _asked(play: Play) -> Deed[tuple[dict[str, Any], int, int]]:
    while True:
        try:
            return _sums(play), *play.stage.books.told(play.stage.web)
        except Away:
            yield


def _sums(play: Play) -> dict[str, Any]:
    """Returns true and posted bytes of all devices, by column.

    The truth of a window is the sum of its buckets or its days. The line of the days shows that these have all counted
    bytes, no matter which clock they were posted by.
    """
    found = verdict.read(play)
    actual = verdict.by_device(play.stage.devices, play.stage.counters(fresh=True))
    columns = play.due.data(actual, {name: one.total for name, one in found.items()})
    for at, side in enumerate(SIDES):
        posted = sum(one.days[at] for one in found.values())
        columns[f"{side} of days"] = {"true": columns[f"{side}_bytes_total"]["true"], "posted": posted}
        calendar = {"24h": [(one.buckets, one.rolling) for one in found.values()],
                   "month": [(one.days_of_month, one.month) for one in found.values()]}  # fmt: skip
        for name, pairs in calendar.items():
            true, posted = (sum(pair[which][at] for pair in pairs) for which in (0, 1))
            columns[f"{side}_bytes_{name}"] = {"true": true, "posted": posted}
    return columns


def is_good(found: dict[str, Any]) -> bool:
    """Returns whether nothing in a report is wrong."""
    return not any(found[word] for word in ("lost", "doubled", "differences", "unsettled", "troubles"))


def as_text(found: dict[str, Any]) -> str:
    """Returns a report for people."""
    return "\n".join([f"{key}: {value}" for key, value in found.items()] + ["good" if is_good(found) else "NOT GOOD"])
