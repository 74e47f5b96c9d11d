"""The script of a run says what happens, when, and for how long, all of it from the seed.

It is complete before anything happens. Times are nominal seconds. A slow machine stretches all of them by the same
factor, which is the pace.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

STORM = 22.0  # seconds of a round in which new faults begin, before everything is healed and the table is compared
SLOW, SLOW_STORM, SLOW_COUNT = 4.0, 5.0, 4  # above this pace, a round is shorter and has this many kinds
INTERFACES = ("wg0", "wg1")
KILL_EVERY = 1.7  # seconds, on average
MOMENTS = ("before", "during", "answered", "after")
WORDS = ("COMMIT of writes", "COMMIT of writes", "COMMIT of writes", "COMMIT of reads", "UPDATE wgsyncd_nodes",
         "STRAIGHT_JOIN customer_devices", "STRAIGHT_JOIN wgsyncd_peers", "INTO wgsyncd_peers", "INTO wgsyncd_days",
         "START TRANSACTION", "SET STATEMENT", "SET STATEMENT", "UPDATE wgsyncd_peers SET open", "INTO admin_logs", "")  # fmt: skip
NEXAVPN_WORDS = ("COMMIT of writes", "COMMIT of writes", "COMMIT of writes", "COMMIT of reads", "wgsyncd.node_states",
                 "UPDATE wgsyncd.peers", "INSERT INTO wgsyncd.peers", "wgsyncd.days", "wgsyncd.totals", "BEGIN",
                 "wgsyncd.audit_logs", "advisory_lock", "wgsyncd.device_times", "COPY pg_temp.stage_",
                 "FROM wgsyncd.node_states", "")  # fmt: skip
AWAY = ("killed", "stopped", "hangs")  # the ways in which the database goes away
RESTORES = (("all", "kill"), ("all", "terminate"), ("all", "runs"), ("own", "kill"), ("own", "terminate"),
            ("own", "runs"), ("rows", "kill"), ("rows", "terminate"))  # fmt: skip
OFFSETS = ("+1h", "-1h", "+1d", "-1d", "midnight", "month")

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """Describes one fault. ``at`` is in seconds after the round's beginning."""

    at: float
    kind: str
    parameters: Parameters

    def __str__(self) -> str:
        return f"{self.kind} {' '.join(f'{k}={v}' for k, v in self.parameters.items())}".strip()


def devices(pace: float) -> int:
    """Returns the number of devices."""
    return 6 if pace <= SLOW else 3


class Dice(random.Random):
    """Draws random numbers, and knows the number of devices."""

    devices = 0

    def some(self, most: int = 3) -> list[int]:
        """Draws some devices, by number."""
        return sorted(self.sample(range(self.devices), self.randint(1, min(most, self.devices))))


def _for(dice: Dice, least: float, most: float) -> float:
    return round(dice.uniform(least, most), 2)


def _trap(dice: Dice, texts: Sequence[str] = WORDS) -> Parameters:
    words = dice.choice(texts)
    return {"words": words, "nth": dice.choice((1, 1, 1, 2)) if words else dice.randint(1, 25)}


Kinds = Mapping[str, Callable[[Dice], Parameters]]
KINDS: Kinds = {
    # faults of the daemon
    "stop": lambda d: {"lasts": _for(d, 2.5, 5)},
    "stop_at": lambda d: {**_trap(d), "moment": d.choice(MOMENTS), "lasts": _for(d, 2.5, 4)},
    "terminate": lambda d: {},
    "reload": lambda d: {},
    "second": lambda d: {"lasts": _for(d, 1.5, 3)},
    "rival": lambda d: {"lasts": _for(d, 3, 5), "kill": d.random() < 0.5},
    "twin": lambda d: {"lasts": _for(d, 4, 8)},
    "stranger": lambda d: {"lasts": _for(d, 4, 8), "how": d.choice(("kill", "terminate")), "beside": d.random() < 0.5},
    "clock": lambda d: {"to": d.choice(OFFSETS), "lasts": _for(d, 4, 7)},
    # faults between daemon and database
    "cut": lambda d: {},
    "cut_at": lambda d: {**_trap(d), "moment": d.choice(MOMENTS[:3])},
    "swallow_commit": lambda d: {"words": "COMMIT of writes", "nth": d.randint(1, 2), "moment": "answered"},
    "hold_answer": lambda d: {**_trap(d), "lasts": _for(d, 2.2, 3.5)},
    "black_hole": lambda d: {"lasts": _for(d, 1, 4)},
    "refuse": lambda d: {"lasts": _for(d, 0.5, 3)},
    "drip": lambda d: {"lasts": _for(d, 2, 4), "every": d.choice((0.001, 0.01, 0.1))},
    "lies": lambda d: {"lasts": _for(d, 2, 4), "seed": d.randrange(10**6)},
    # faults of the database
    "db_kill": lambda d: {"lasts": _for(d, 0, 2.5)},
    "db_kill_at": lambda d: {**_trap(d), "moment": d.choice(MOMENTS[:3]), "lasts": _for(d, 0, 1.5)},
    "db_stop": lambda d: {"lasts": _for(d, 1, 4.5)},
    "db_restart": lambda d: {"lasts": _for(d, 0, 1)},
    "db_read_only": lambda d: {"lasts": _for(d, 1, 3)},
    "db_full": lambda d: {"lasts": _for(d, 2, 4), "hangs": d.random() < 0.5},
    "row_lock": lambda d: {"devices": d.some(), "lasts": _for(d, 1.5, 3.5)},
    "deadlock": lambda d: {"devices": d.some(1)},
    "refused": lambda d: {"devices": d.some(2), "lasts": _for(d, 1.5, 3.5)},
    "restore": lambda d: {"lasts": _for(d, 0.5, 2), **dict(zip(("part", "how"), d.choice(RESTORES), strict=True))},
    # faults of the interfaces
    "interface": lambda d: {"interface": d.choice(INTERFACES), "how": d.choice(("delete", "terminate", "kill")),
                            "lasts": _for(d, 0, 2.5), "away": d.choice(("", "", *AWAY))},
    "foreign_remove": lambda d: {"devices": d.some()},
    "foreign_replace": lambda d: {"devices": d.some()},
    "reboot": lambda d: {"database": d.choice(AWAY), "first": d.choice(("database", "daemon")),
                         "lasts": _for(d, 0, 1.5), "same_index": d.random() < 0.5},
    "liar": lambda d: {"interface": d.choice(INTERFACES), "lasts": _for(d, 2, 4), "seed": d.randrange(10**6)},
    # new names
    "rename_interface": lambda d: {"interface": d.choice(INTERFACES), "lasts": _for(d, 1, 2),
                                   "how": d.choice(("kill", "terminate"))},
    "rename_node": lambda d: {"how": d.choice(("kill", "terminate"))},
    # changes of the table
    "everybody": lambda d: {"budget": d.randint(1, 2), "lasts": _for(d, 2, 4)},
    "pause": lambda d: {"devices": d.some(), "lasts": _for(d, 0.5, 2), "busy": d.random() < 0.3,
                        "how": d.choice(("paused", "revoked", "deleted"))},
    "rekey": lambda d: {"devices": d.some(2), "busy": d.random() < 0.3},
    "move": lambda d: {"devices": d.some(2), "busy": d.random() < 0.3},
    "address": lambda d: {"devices": d.some(2)},
    "preshared_key": lambda d: {"devices": d.some(2)},
    "qr": lambda d: {"devices": d.some(1), "scanned": d.random() < 0.5},
    "reset": lambda d: {"devices": d.some(2), "column": d.choice(("rx_bytes_total", "tx_bytes_total")),
                        "figure": d.choice((0, 0, d.randint(1, 10**9)))},
}  # fmt: skip
"""Maps every kind of fault to a function that draws its parameters. "kill" is not here, because it is everywhere."""


def _of_a_node(draw: Callable[[Dice], Parameters]) -> Callable[[Dice], Parameters]:
    return lambda dice: {**draw(dice), "node": dice.randrange(2)}


NEXAVPN: Kinds = {
    **{kind: KINDS[kind] for kind in (
        "rival", "clock", "cut", "refuse", "db_kill", "db_stop", "db_restart",
        "row_lock", "interface", "foreign_remove", "foreign_replace", "reboot", "rekey", "move", "address",
        "preshared_key",
    )},
    **{kind: _of_a_node(KINDS[kind]) for kind in ("stop", "terminate", "reload", "second")},
    "stop_at": lambda d: {**_trap(d, NEXAVPN_WORDS), "moment": d.choice(MOMENTS), "lasts": _for(d, 2.5, 4)},
    "cut_at": lambda d: {**_trap(d, NEXAVPN_WORDS), "moment": d.choice(MOMENTS[:3])},
    "swallow_commit": KINDS["swallow_commit"],
    "hold_answer": lambda d: {**_trap(d, NEXAVPN_WORDS), "lasts": _for(d, 2.2, 3.5)},
    "black_hole": lambda d: {"lasts": _for(d, 2, 5)},
    "pause": lambda d: {"devices": d.some(), "lasts": _for(d, 0.5, 2), "busy": d.random() < 0.3,
                        "how": d.choice(("blocked", "revoked", "soft-deleted", "deleted", "user off"))},
    "rename": lambda d: {"devices": d.some()},
    "release": lambda d: {"devices": d.some(), "lasts": _for(d, 1, 4)},
}  # fmt: skip
"""The same for the control plane nexavpn. Its faults between daemon and database hit the server's processes."""

POLICIES: Kinds = {
    **NEXAVPN,
    "withdraw": lambda d: {"devices": d.some(), "lasts": _for(d, 1, 4)},
    "swap": lambda d: {"devices": sorted(d.sample(range(d.devices), 2))},
}
"""The same for a node that enforces policies."""

MOVES: Kinds = {
    "move": lambda d: {"devices": d.some(2), "busy": d.random() < 0.7},
    **{kind: NEXAVPN[kind] for kind in ("stop_at", "swallow_commit", "db_kill", "terminate")},
}
"""The same for devices that move between two nodes all the time, mostly under traffic."""

PER_ROUND = 21  # with this many kinds a round, two rounds have all of them


LIARS = ("lies", "lies", "liar", "liar", "drip")


def liars(seed: int, pace: float = 1.0) -> Iterator[list[Step]]:
    """Yields rounds in which nobody dies, and everything that answers the daemon lies or drips again and again."""
    dice = Dice(f"wgsyncd liars {seed}")
    dice.devices = devices(pace)
    while True:
        kinds = [dice.choice(LIARS) for _ in range(10)]
        yield sorted((Step(_for(dice, 0, STORM), kind, KINDS[kind](dice)) for kind in kinds), key=lambda step: step.at)


def rounds(seed: int, pace: float = 1.0, kinds: Kinds = KINDS) -> Iterator[list[Step]]:
    """Yields rounds without end, each as a list of steps in order.

    The same seed, pace and kinds give the same rounds.
    """
    dice = Dice(f"wgsyncd {seed}")
    dice.devices = devices(pace)
    storm, count = (STORM, PER_ROUND) if pace <= SLOW else (SLOW_STORM, SLOW_COUNT)
    deck: list[str] = []
    while True:
        steps = [
            Step(at, "kill", _kill(dice, WORDS if kinds is KINDS else NEXAVPN_WORDS)) for at in _kills(dice, storm)
        ]
        for _ in range(count):
            if not deck:
                deck = sorted(kinds)
                dice.shuffle(deck)
            kind = deck.pop()
            steps.append(Step(_for(dice, 0, storm), kind, kinds[kind](dice)))
        yield sorted(steps, key=lambda step: step.at)


def _kills(dice: Dice, storm: float) -> Iterator[float]:
    at = 0.0
    while True:
        at += max(0.05, dice.expovariate(1 / KILL_EVERY))
        if at > storm:
            return
        yield round(at, 2)


def _kill(dice: Dice, texts: Sequence[str]) -> Parameters:
    """Draws the parameters of a kill: half of them at a random moment, half at an important statement."""
    if dice.random() < 0.5:
        return {"node": dice.randrange(2)} if texts is NEXAVPN_WORDS else {}
    return {**_trap(dice, texts), "moment": dice.choice(MOMENTS)}
