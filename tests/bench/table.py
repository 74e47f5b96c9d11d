"""The result for people: one table, both sides' medians, the ratio, the goal."""

from __future__ import annotations

from typing import Any

# name, what, against, goal, our side and theirs as (group, key) of "seconds"
LINES = (
    ("dump_vs_wg_show", "read and decode a full dump", "`wg show wg0 dump`", 0.5, ("dump", "ours"), ("dump", "theirs")),
    ("noop_vs_syncconf", "a whole cycle, nothing changed", "`wg syncconf`, same file", 0.25,
     ("noop", "ours"), ("noop", "theirs")),
    ("fill_vs_setconf", "fill an empty interface, first start", "`wg setconf`", 1.1, ("fill", "ours"), ("fill", "theirs")),
    ("restore_vs_setconf", "fill it again after it was lost", "`wg setconf`", 1.1,
     ("restore", "ours"), ("restore", "theirs")),
    ("change_vs_syncconf", "change 1 % of the peers", "`wg syncconf`", 0.25, ("change", "ours"), ("change", "theirs")),
    ("pyroute2_vs_decode", "pyroute2 `WireGuard.info()`", "the same by us", 50, ("pyroute2", "theirs"), ("pyroute2", "ours")),
    ("commit_vs_bare_sql", "book a poll in which all moved", "bare `UPDATE … JOIN`", 1.5,
     ("commit", "ours"), ("commit", "bare")),
    ("commit_vs_same_sql", "the same", "bare SQL on the same four tables", None,
     ("commit", "ours"), ("commit", "everything")),
    ("partial_vs_full_poll", "book a poll in which 1 % moved", "all moved", 0.1, ("commit", "partial"), ("commit", "ours")),
)  # fmt: skip


def ratios(seconds: dict[str, dict[str, float]]) -> dict[str, float]:
    """The ratio of each line that was measured."""
    return {name: seconds[a][b] / seconds[c][d] for name, _, _, _, (a, b), (c, d) in LINES if a in seconds}


def text(result: dict[str, Any]) -> str:
    """One run as a Markdown table and what cannot be a ratio below it."""
    seconds = result["seconds"]
    rows = [("what", "seconds", "against", "seconds", "ratio", "goal")]
    for name, what, against, goal, (a, b), (c, d) in LINES:
        ratio = result["ratios"][name]
        aim = "" if goal is None else f"≥ {goal}" if name == "pyroute2_vs_decode" else f"≤ {goal}"
        rows.append((what, f"{seconds[a][b]:.4g}", against, f"{seconds[c][d]:.4g}", f"{ratio:.3g}", aim))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    more = [
        f"Floor of a dump (bare recv): {seconds['dump']['floor']:.4g} s. "
        f"A poll in which nothing moved, beyond its dump: {seconds['commit']['still']:.4g} s.",
        f"Another writer's longest wait while all are booked: {result['writer_stall_ms']:.1f} ms "
        f"(alone {result['writer_alone_ms']:.1f} ms).",
        f"Memory of the daemon: {result['rss_mib']:.1f} MiB, at its peak {result['rss_peak_mib']:.1f} MiB.",
    ]
    if "start" in result:
        s = result["start"]
        more.append(f"Start to the first complete reconcile: {s['beyond']:.2f} s beyond the interpreter "
                    f"({s['interpreter']:.2f} s) and the imports ({s['imports']:.2f} s).")  # fmt: skip
    if "idle" in result:
        i = result["idle"]
        more.append(f"Idle for {i['span']:.0f} s: {i['percent']:.2f} % of one core, {i['wakeups_per_second']:.1f} "
                    "waits a second.")  # fmt: skip
    head = f"**{result['peers']:,} peers** (kernel {result['kernel']}, medians of {result['repeat']})"
    return "\n".join([head, "", *lines, "", *(f"- {line}" for line in more)])


def growth(results: list[dict[str, Any]]) -> str:
    """How much longer ours take for ten times the peers."""
    small, large = results
    names = [
        ("dump", "ours"),
        ("noop", "ours"),
        ("fill", "ours"),
        ("change", "ours"),
        ("commit", "ours"),
        ("commit", "partial"),
    ]
    times = [f"{a if b == 'ours' else b} {large['seconds'][a][b] / small['seconds'][a][b]:.1f}" for a, b in names]
    return f"From {small['peers']:,} to {large['peers']:,} peers (goal ≤ 11 times): " + ", ".join(times) + "."
