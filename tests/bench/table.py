"""The results become one table for people, with the medians of both sides, the ratio and the goal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.bench.timing import condition, short

# The columns are: name, work, opponent, goal, then our side, the opponent's and the floor as (group, key) of
# "seconds".
LINES = (
    ("dump_vs_wg_show", "read and decode a full dump", "`wg show wg0 dump`", 0.3,
     ("dump", "ours"), ("dump", "theirs"), ("dump", "floor")),
    ("noop_vs_syncconf", "a whole cycle, nothing changed", "`wg syncconf`, same file", 0.25,
     ("noop", "ours"), ("noop", "theirs"), ("noop", "floor")),
    ("noop_vs_syncconf_loose", "the same", "the same, another form of the private key", 0.25,
     ("noop", "ours"), ("noop", "theirs_loose"), ("noop", "floor")),
    ("fill_vs_setconf", "fill an empty interface, first start", "`wg setconf`", 1.55,
     ("fill", "ours"), ("fill", "theirs"), ("fill", "floor")),
    ("served_vs_setconf", "the same, until the last peer is in the kernel", "`wg setconf`", 1.2,
     ("fill", "served"), ("fill", "theirs"), ("fill", "served_floor")),
    ("restore_vs_setconf", "fill it again after it was lost", "`wg setconf`", 1.1,
     ("restore", "ours"), ("restore", "theirs"), ("restore", "floor")),
    ("change_vs_syncconf", "change 1 % of the peers", "`wg syncconf`", 0.5,
     ("change", "ours"), ("change", "theirs"), ("noop", "floor")),
    ("change_vs_syncconf_loose", "the same", "the same, another form of the private key", 0.5,
     ("change", "ours"), ("change", "theirs_loose"), ("noop", "floor")),
    ("pyroute2_vs_decode", "pyroute2 `WireGuard.info()`", "the same by us", 50,
     ("pyroute2", "theirs"), ("pyroute2", "ours"), None),
    ("commit_vs_bare_sql", "post a poll in which all moved", "bare `UPDATE … JOIN` with literals", 1.6,
     ("commit", "ours"), ("commit", "bare"), ("commit", "everything")),
    ("partial_vs_full_poll", "post a poll in which 1 % moved", "all moved", 0.1,
     ("commit", "partial"), ("commit", "ours"), None),
)  # fmt: skip
LARGE = {"dump_vs_wg_show": 0.5, "fill_vs_setconf": 1.9, "served_vs_setconf": 1.5, "restore_vs_setconf": 1.2,
         "change_vs_syncconf": 0.6, "change_vs_syncconf_loose": 0.6, "commit_vs_bare_sql": 1.8}  # fmt: skip
"""The goals that differ with 100,000 peers."""
ASKED = ("dump_vs_wg_show", "noop_vs_syncconf", "fill_vs_setconf", "change_vs_syncconf", "pyroute2_vs_decode",
         "commit_vs_bare_sql", "partial_vs_full_poll")  # fmt: skip
"""The ratios of a result."""


def ratios(seconds: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns the ratio of each comparison that was measured."""
    found = {name: seconds[a][b] / seconds[c][d] for name, _, _, _, (a, b), (c, d), _ in LINES if a in seconds}
    return {name: found[name] for name in ASKED if name in found}


def _goal(name: str, goal: float, peers: int) -> float:
    return LARGE.get(name, goal) if peers >= 100_000 else goal


def text(result: dict[str, Any]) -> str:
    """Returns one run as a Markdown table. Values that cannot be a ratio follow below it."""
    seconds, more = result["seconds"], result["more"]
    rows = [("what", "seconds", "against", "seconds", "ratio", "goal", "floor")]
    for name, what, against, usual, (a, b), (c, d), floor in LINES:
        ratio, goal = seconds[a][b] / seconds[c][d], _goal(name, usual, result["peers"])
        many = name == "pyroute2_vs_decode"
        aim = f"{'≥' if many else '≤'} {goal}{'' if (ratio >= goal) is many else ', missed'}"
        least = f"{seconds[floor[0]][floor[1]]:.3g}" if floor else ""
        rows.append((what, f"{seconds[a][b]:.3g}", against, f"{seconds[c][d]:.3g}", f"{ratio:.3g}", aim, least))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    notes = [
        f"A poll in which nothing moved takes {seconds['commit']['still']:.3g} s beyond its dump.",
        f"Another writer's longest wait while all are posted: {result['writer_stall_ms']:.1f} ms (goal ≤ 30), "
        f"in a table that wgsyncd never touches {more['writer_elsewhere_ms']:.1f} ms, alone {more['writer_alone_ms']:.1f}.",
        f"Memory of the daemon: {result['rss_mib']:.1f} MiB, at its peak {more['rss_peak_mib']:.1f} MiB.",
    ]
    if "start" in more:
        s = more["start"]
        notes.append(f"Start to the first complete reconcile: {s['beyond']:.2f} s (goal ≤ 1) beyond the interpreter "
                     f"({s['interpreter']:.2f} s) and the imports ({s['imports']:.2f} s; goal ≤ 0.4).")  # fmt: skip
    if "idle" in more:
        i = more["idle"]
        notes.append(f"Idle for {i['span']:.0f} s: {i['percent']:.2f} % of one core (goal ≤ 0.3), "
                     f"{i['wakeups_per_second']:.1f} waits a second.")  # fmt: skip
    notes.append(f"{condition(more['disturbance']).capitalize()}.")
    head = f"**{result['peers']:,} peers** (kernel {more['kernel']}, medians of {more['repeat']})"
    return "\n".join([head, "", *lines, "", *(f"- {line}" for line in notes)])


def together(results: list[dict[str, Any]]) -> str:
    """Returns all runs in one table.

    Each cell has our seconds, the opponent's, the ratio and the floor if there is one.
    """
    rows = [["work", "against", "goal", *(f"{one['peers']:,} peers" for one in results)]]
    for name, what, against, goal, (a, b), (c, d), floor in LINES:
        many = name == "pyroute2_vs_decode"
        cells = []
        for one in results:
            seconds = one["seconds"]
            ratio = seconds[a][b] / seconds[c][d]
            least = f", floor {short(seconds[floor[0]][floor[1]])}" if floor else ""
            shown = f"**{short(ratio)}**" if (ratio >= _goal(name, goal, one["peers"])) is many else short(ratio)
            cells.append(f"{short(seconds[a][b])} / {short(seconds[c][d])} = {shown}{least}")
        large = f", {LARGE[name]} at 100,000" if name in LARGE else ""
        rows.append([what, against, f"{'≥' if many else '≤'} {goal}{large}", *cells])
    rows.append(["another writer's longest wait, ms", "the same in a table that wgsyncd never touches (alone)",
                 "≤ 30, 40 at 100,000", *map(_waits, results)])  # fmt: skip
    rows.append(["memory of the daemon, MiB (peak)", "", "≤ 42 at 250, 60 at 10,000, 220 at 100,000",
                 *(f"{one['rss_mib']:.0f} ({one['more']['rss_peak_mib']:.0f})" for one in results)])  # fmt: skip
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def growth(results: list[dict[str, Any]]) -> str:
    """Returns how much longer our side and the floor take for more peers.

    For ten times as many peers, our side may take 11 times as long.
    """
    small, large = results
    goal = 1.1 * large["peers"] / small["peers"]

    def times(of: tuple[str, str] | None) -> str:
        return f"{large['seconds'][of[0]][of[1]] / small['seconds'][of[0]][of[1]]:.1f}" if of else ""

    columns: list[tuple[str, tuple[str, str], tuple[str, str] | None]] = [
        ("dump", ("dump", "ours"), ("dump", "floor")),
        ("nothing changed", ("noop", "ours"), ("noop", "floor")),
        ("fill", ("fill", "ours"), ("fill", "floor")),
        ("change", ("change", "ours"), ("noop", "floor")),
        ("book all", ("commit", "ours"), ("commit", "everything")),
        ("book 1 %", ("commit", "partial"), None),
    ]
    rows = [
        [f"times as long with {large['peers']:,} peers as with {small['peers']:,} (goal ≤ {goal:.3g})",
         *(what for what, _, _ in columns)],
        ["---"] * (1 + len(columns)),
        ["wgsyncd", *(times(ours) for _, ours, _ in columns)],
        ["the floor", *(times(floor) for _, _, floor in columns)],
    ]  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _waits(result: dict[str, Any]) -> str:
    stall, more = result["writer_stall_ms"], result["more"]
    shown = f"**{stall:.0f}**" if stall <= (40 if result["peers"] >= 100_000 else 30) else f"{stall:.0f}"
    return f"{shown} / {more['writer_elsewhere_ms']:.0f} ({more['writer_alone_ms']:.0f})"
