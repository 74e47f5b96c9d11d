"""Faults hit a pair of nodes for one gateway: the address moves, daemons and the server die, and every byte counts.

    python -m tests.faults.pair [--seed N] [--minutes M]

As root, with the packages that tests/run names. No peer goes, so the truth is what wg(8) shows on both nodes.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from tests.postgres import PrivatePostgres
from tests.real.pair_bench import EAST, SERVER, WEST, Pair, opened
from tests.real.running import Ear, wait
from wgsyncd.core.model import Counters

DEVICES = (5, 6, 7)
STORM, PAUSE = 12.0, 1.2  # seconds of a round, and on average between two faults
MIB = 1 << 20


class Run:
    """One run: the pair, its clients, and what has happened."""

    def __init__(self, pair: Pair, server: PrivatePostgres, dice: random.Random) -> None:
        self._pair, self._server, self._dice = pair, server, dice
        self._clients = {number: pair.customer(number) for number in DEVICES}
        self._transfers: dict[int, subprocess.Popen[bytes]] = {}
        self._has_server, self._active = True, EAST
        self.faults: Counter[str] = Counter()
        self.wrong: list[str] = []
        target = [("device", pair.tables.id(number)) for number in DEVICES]
        pair.tables.policy("sink", "allow", f"{SERVER}/32", to=target)
        for name in pair.nodes:
            wait(lambda n=name: all(pair.peer(n, number) for number in DEVICES), f"the peers on {name}")

    def play(self) -> None:
        """One round: faults under traffic, then everything is healed, and the sums of both nodes are compared."""
        end = time.monotonic() + STORM
        while time.monotonic() < end:
            self._send()
            kind = self._dice.choice(("kill", "kill", "kill both", "move", "move", "server"))
            self.faults[kind] += 1
            match kind:
                case "move":
                    self._move(WEST if self._active == EAST else EAST)
                case "server" if self._has_server:
                    self._server.stop()
                    self._has_server = False
                case "server":
                    self._start_server()
                case _:
                    names = (EAST, WEST) if kind == "kill both" else (self._dice.choice((EAST, WEST)),)
                    self._kill(*names)
            time.sleep(self._dice.expovariate(1 / PAUSE))
        self._heal()
        self._compare()

    def _send(self) -> None:
        for number, client in self._clients.items():
            one = self._transfers.get(number)
            if one is None or one.poll() is not None:
                self._transfers[number] = client.transfer(up=MIB, down=2 * MIB, seconds=2)

    def _move(self, to: str) -> None:
        """Moves the address, under traffic. The clients make new sessions, for which they would wait 15 s by themselves.

        The daemons may be dead meanwhile: keepalived and the kernel alone serve the clients.
        """
        self._pair.nodes[EAST].set_cable("up" if to == EAST else "down")
        wait(lambda: self._pair.nodes[to].has_address, f"the address is on {to}")
        self._active = to
        for number, client in self._clients.items():
            interface = self._pair.nodes[EAST].world.interfaces["wg0"]
            client.configure(interface, self._pair.keys[number], f"10.200.0.{number}")

    def _kill(self, *names: str) -> None:
        daemons = [self._pair.nodes[name].daemon for name in names]
        for daemon in daemons:
            daemon.kill()
            self.faults["killed daemons"] += 1
        for daemon in daemons:
            daemon.start(ready=False)

    def _start_server(self) -> None:
        self._server.start()
        self._pair.tables.connect()
        self._has_server = True

    def _heal(self) -> None:
        if not self._has_server:
            self._start_server()
        if self._active == WEST:
            self._move(EAST)
        for one in self._transfers.values():
            one.kill()
            one.wait()
        self._transfers.clear()
        for node in self._pair.nodes.values():
            if node.daemon.process is None or node.daemon.process.poll() is not None:
                node.daemon.start(ready=False)

    def _compare(self) -> None:
        try:
            wait(lambda: all(map(self._pair.is_posted, DEVICES)), "all bytes of both nodes are posted")
        except AssertionError:
            for number in DEVICES:
                counted, posted = self._counted(number), self._pair.tables.posted(number)
                if counted != posted:
                    self.wrong.append(f"device {number}: counted {counted}, posted {posted}")

    def _counted(self, number: int) -> Counters:
        found = [one for name in self._pair.nodes if (one := self._pair.peer(name, number)) is not None]
        return Counters(sum(one.rx for one in found), sum(one.tx for one in found))

    def data(self) -> dict[str, object]:
        """The report. ``bytes``: by node and in the view."""
        sums = {name: [sum(one.rx for one in node.peers().values()), sum(one.tx for one in node.peers().values())]
                for name, node in self._pair.nodes.items()}  # fmt: skip
        view = [self._pair.tables.posted(number) for number in DEVICES]
        told = {what: len(self._pair.told(what)) for what in ("node_active", "node_standby", "usage_anomaly")}
        return {"faults": dict(self.faults), "bytes": sums, "view": [sum(one.rx for one in view), sum(one.tx for one in view)],
                "audited": told, "wrong": self.wrong}  # fmt: skip


def main() -> int:
    """Exit status: 0 every byte of both nodes is posted once, 1 not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--minutes", type=float, default=5, help="no round begins later")
    args = parser.parse_args()
    began, rounds = time.monotonic(), 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wgsyncd-pair-")))
        server = stack.enter_context(PrivatePostgres())
        pair = stack.enter_context(opened(server, Ear(folder / "heard"), folder))
        run = Run(pair, server, random.Random(args.seed))
        while not rounds or time.monotonic() < began + 60 * args.minutes:
            run.play()
            rounds += 1
            print(f"{time.monotonic() - began:7.1f} round {rounds}: {dict(run.faults)}", file=sys.stderr, flush=True)
        found = {"seed": args.seed, "rounds": rounds, "seconds": round(time.monotonic() - began), **run.data()}
    print(json.dumps(found))
    return int(bool(run.wrong))


if __name__ == "__main__":
    sys.exit(main())
