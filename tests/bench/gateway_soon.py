"""How soon a committed change of NexaVPN's tables is in the kernel, with a running daemon.

A second client blocks a device at a random moment, and then lets it in again. The time begins when it sends COMMIT.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable
from functools import partial

from tests.bench.gateway_stage import GatewayStage
from tests.bench.life import PATIENCE, Running
from tests.bench.witness import Witness
from tests.wait import until
from wgsyncd.core.model import decode_key
from wgsyncd.dataplane.nftables import listing
from wgsyncd.dataplane.nftables.netfilter import Netfilter
from wgsyncd.dataplane.nftables.nft import Nft

Await = Callable[[int, bool, int], float]
"""Waits until a device is there, or not any more. Gets the rules' generation of before, returns monotonic seconds."""


def measure(stage: GatewayStage, changes: int) -> dict[str, dict[str, float]]:
    """Returns milliseconds: with a notification and found by the watch, to the peer or to the committed ruleset.

    Peers are watched in the kernel's WireGuard, if no policies are enforced. Otherwise commits to nftables are.
    """
    netfilter = Netfilter()
    daemon = Running(stage)
    witness = None if stage.enforces else Witness(os.getpid(), stage.interface)
    found: dict[str, dict[str, float]] = {}
    if witness is None:
        until(lambda: len(elements()) == stage.peers, PATIENCE, "the ruleset")
        name, wait = "ruleset", partial(_in_ruleset, stage, netfilter)
    else:
        name, wait = "peer", partial(_in_kernel, stage, witness)
    for way in ("notify", "watch"):
        took = sorted(one_by_one(stage, netfilter, changes, wait, notifies=way == "notify"))
        found[f"{way}_to_{name}_ms"] = {f"p{share}": at_share(took, share) for share in (10, 50, 99)}
    netfilter.close()
    if witness is not None:
        witness.close()
    daemon.stop()
    return found


def one_by_one(stage: GatewayStage, netfilter: Netfilter, changes: int, wait: Await, *, notifies: bool) -> list[float]:
    """Returns the milliseconds from COMMIT for each change."""
    dice, took = random.Random(1), list[float]()
    for _ in range(changes // 2):
        number = dice.randrange(stage.peers)
        for status in ("blocked", "active"):
            time.sleep(dice.uniform(0.1, 1.0))  # at any moment between two looks of the daemon
            generation = netfilter.generation()
            stage.sql("BEGIN")
            stage.sql("UPDATE devices SET status = %s WHERE id = %s", status, stage.device(number))
            if notifies:
                stage.sql("SELECT pg_notify('wgsyncd', %s)", str(stage.device(number)))
            began = time.monotonic()
            stage.sql("COMMIT")
            took.append((wait(number, status == "active", generation) - began) * 1000)
    return took


def at_share(some: list[float], percent: int) -> float:
    """Returns the smallest of these sorted times that at least so many percent do not exceed."""
    return round(some[math.ceil(percent / 100 * len(some)) - 1], 1)


def elements() -> dict[str, object]:
    """Returns the elements of the ruleset by device."""
    shown = Nft().show()
    found = listing.decode(shown).ruleset.elements if shown is not None else {}
    return {one.device: one for one in found.values()}


def await_commit(netfilter: Netfilter, generation: int) -> float:
    """Returns the time when the rules were in this generation or a later one, in monotonic seconds."""
    until(lambda: netfilter.generation() >= generation, PATIENCE, "a commit to nftables", every=0.0005)
    return time.monotonic()


def _in_ruleset(stage: GatewayStage, netfilter: Netfilter, number: int, there: bool, generation: int) -> float:
    while True:
        generation += 1
        done = await_commit(netfilter, generation)
        if (str(stage.device(number)) in elements()) is there:
            return done


def _in_kernel(stage: GatewayStage, witness: Witness, number: int, there: bool, _: int) -> float:
    done = witness.until(decode_key(stage.key(number)), there=there, patience=PATIENCE)
    assert done is not None, "no change"
    return done
