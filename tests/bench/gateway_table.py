"""The results of NexaVPN become rows of the table in etc/doc/benchmarks.md, one for each part."""

from __future__ import annotations

import datetime
import re
from typing import Any

from tests.bench.__main__ import PAGE
from tests.bench.timing import condition, short

BEGIN, END = "<!-- nexavpn: the last results -->\n", "<!-- nexavpn: end -->\n"


def put(result: dict[str, Any]) -> None:
    """Puts a result into the page, in place of the row of the same work."""
    whole = PAGE.read_text(encoding="utf-8")
    head, rest = whole.split(BEGIN)
    block, tail = rest.split(END)
    rows = block.splitlines()
    new = row(result)
    name = new.partition("|")[2].partition("|")[0]
    kept = [one for one in rows if one.partition("|")[2].partition("|")[0] != name]
    PAGE.write_text(head + BEGIN + "\n".join([*kept, new]) + "\n" + END + tail, encoding="utf-8")


def row(result: dict[str, Any]) -> str:
    """Returns the row of one result: work, devices, what was measured, goal, and when."""
    work, told, goal = _TEXTS[_kind(result)]
    day = datetime.datetime.now(tz=datetime.UTC).date()
    kernel = re.sub(r"^(\d+\.\d+).*", r"\1", result["kernel"])
    when = f"{day}, Linux {kernel}, {condition(result['disturbance']).split(':')[0]} ({result['disturbance']:.1f})"
    policies = "" if result["policies"] else ", without policies"
    return f"| {work}{policies} | {result['peers']:,} | {told(result)} | {goal} | {when} |"


def _kind(result: dict[str, Any]) -> str:
    return f"{result['part']} of {'rulesets' if result['policies'] else 'peers'}" if result["part"] == "soon" else result["part"]  # fmt: skip


def _side(result: dict[str, Any], name: str) -> str:
    return f"{short(result[name]['wall'])} s (processor {short(result[name]['processor'])} s)"


def _ratio(result: dict[str, Any], ours: str, theirs: str) -> str:
    return " / ".join(
        short(result[ours][kind] / result[theirs][kind]) if result[theirs][kind] else "–"
        for kind in ("wall", "processor")
    )


def _books(result: dict[str, Any]) -> str:
    return (
        f"{_side(result, 'ours')}. Bare with literals: {_side(result, 'literals')},"
        f" ratio {_ratio(result, 'ours', 'literals')}. Bare without values: {_side(result, 'bare')},"
        f" ratio {_ratio(result, 'ours', 'bare')}"
    )


def _cycle(result: dict[str, Any]) -> str:
    return f"{_side(result, 'ours')}. MariaDB: {_side(result, 'mariadb')}, ratio {_ratio(result, 'ours', 'mariadb')}"


def _access(result: dict[str, Any]) -> str:
    names = (("commit", "nft's transaction"), ("read_back", "reading back"), ("cycle", "the whole cycle"))
    return ", ".join(f"{words} {_side(result, name)}" for name, words in names)


def _repair(result: dict[str, Any]) -> str:
    wall, processor = result["repair_ms"], result["processor_ms"]
    return f"p10 {wall['p10']}, p50 {wall['p50']}, worst {wall['p100']} ms. Processor: p50 {processor['p50']} ms"


def _judge(result: dict[str, Any]) -> str:
    beyond = result["beyond_ns"]
    return f"out {beyond['out'] / 1000:.2f} µs, back {beyond['back'] / 1000:.2f} µs of processor time"


def _memory(result: dict[str, Any]) -> str:
    return f"{result['rss_mib']} MiB, at its peak {result['rss_peak_mib']} MiB"


def _soon(result: dict[str, Any]) -> str:
    times = {name.partition("_")[0]: some for name, some in result.items() if name.endswith("_ms")}
    return ". ".join(
        f"{way}: p10 {some['p10']}, p50 {some['p50']}, p99 {some['p99']} ms" for way, some in times.items()
    )


_TEXTS = {
    "books": ("post a poll in which all moved", _books, "≤ 2.0 of bare with literals, processor"),
    "cycle": ("a whole cycle, nothing changed", _cycle, "≤ 1 of MariaDB"),
    "access": ("one device's access changes", _access, "transaction ≤ 50 ms"),
    "repair": ("`nft flush ruleset` put right", _repair, "≤ 100 ms"),
    "judge": ("a packet, beyond tracking", _judge, "≤ 1.5 µs"),
    "memory": ("memory of the daemon", _memory, "≤ 75 MiB"),
    "soon of peers": ("from COMMIT to the peer", _soon, "notify p50 ≤ 15, p99 ≤ 60, watch p99 ≤ 400 ms"),
    "soon of rulesets": ("from COMMIT to the ruleset", _soon, "notify p99 ≤ 80 ms"),
}
