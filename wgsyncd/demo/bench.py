"""What the demos of all control planes share: samples, waiting for them, and crashes amid traffic."""

import contextlib
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from wgsyncd.demo.node import Node
from wgsyncd.demo.observation import Check, Outcome, R, Sample
from wgsyncd.demo.processes import CommandFailed
from wgsyncd.demo.testbed import Customer, WgPeer

UP, DOWN = 300_000, 900_000  # bytes that a customer sends and receives
GIB = 1 << 30
_SOME = 40_000  # bytes: enough to see that traffic flows


class Database(Protocol):
    """A private server that a scenario ends and starts."""

    def start(self) -> None:
        """Start the server and wait until it answers."""

    def kill(self) -> None:
        """End the server, as a crash does."""


class Probe(NamedTuple):
    """A device whose traffic a scenario watches. ``name``: its key in :attr:`Sample.rows`."""

    key: str
    name: str
    customer: Customer


class Bench(ABC, Generic[R]):
    """Does what admins and customers do to a database, a testbed and the nodes.

    ``pace``: 1 on an ordinary machine. All waiting times are multiplied by it. ``show`` is called with every sample.
    The page of the first of the ``nodes`` is shown.
    """

    database: Database

    def __init__(self, *, pace: float, show: Callable[[Sample[Any]], None]) -> None:
        self.pace, self.nodes, self._show = pace, list[Node](), show
        self._last: Sample[R] = Sample(0, {}, {}, [])

    @abstractmethod
    def read(self) -> tuple[dict[str, R], list[tuple[str, str]]]:
        """The rows by device, and action and target of each audit row. CommandFailed while the database is away."""

    @abstractmethod
    def peers(self) -> dict[tuple[str, str], WgPeer]:
        """The peers as wg(8) shows them, by where they are and public key."""

    @abstractmethod
    def clients(self) -> list[Customer]:
        """All customers with their wire to the server that they use."""

    def keep_running(self) -> str:
        """Start the daemons once more, with traffic. Returns the address of the first one's page."""
        for node in self.nodes[1:]:
            node.start()
        page = self.nodes[0].start_with_page()
        for number, customer in enumerate(self.clients(), 1):
            if customer.server:
                customer.transfer(up=number * GIB, down=4 * number * GIB, seconds=10 * 3600)
        return page

    def sample(self) -> Sample[R]:
        """Read the rows, the peers and the audit rows. While the database is away, its last rows are returned."""
        rows, audit = self._last.rows, self._last.audit
        with contextlib.suppress(CommandFailed):  # a scenario killed the database: none can succeed with old rows
            rows, audit = self.read()
        self._last = sample = Sample(time.monotonic(), rows, self.peers(), audit)
        self._show(sample)
        return sample

    def until(self, check: Check[R]) -> Outcome:
        """Sample until the outcome is as expected, a daemon has failed, or time is up. Returns the last outcome.

        A scenario that fails must leave time for the others.
        """
        deadline = time.monotonic() + 10 * self.pace
        while True:
            outcome = check(self.sample())
            if outcome.ok or time.monotonic() > deadline:
                return outcome
            for node in self.nodes:
                if node.daemon.poll() not in (None, 0, -signal.SIGKILL):  # only scenarios stop or kill a daemon
                    return outcome._replace(kernel=f"the daemon ended with {node.daemon.returncode}, {outcome.kernel}")
            time.sleep(0.05)

    def wait(self, condition: Callable[[Sample[R]], bool]) -> bool:
        """Sample until the condition holds. Returns whether it held in time."""
        return self.until(lambda sample: Outcome("", "", condition(sample))).ok

    def finish(self, *transfers: subprocess.Popen[bytes]) -> bool:
        """Wait for transfers. Returns whether all of them succeeded."""
        ended = self.wait(lambda _: all(one.poll() is not None for one in transfers))
        return ended and not any(one.returncode for one in transfers)

    def kill_daemon(self, probe: Probe) -> Check[R]:
        """Kill the first daemon amid traffic, and start it again."""
        node = self.nodes[0]

        def crash() -> None:
            node.daemon.kill()
            node.daemon.wait()
            self._await_traffic(probe)
            node.start()

        return self._amid_traffic(probe, crash)

    def kill_database(self, probe: Probe) -> Check[R]:
        """The database is away for some polls. The daemons run on."""
        pids = [node.daemon.pid for node in self.nodes]

        def crash() -> None:
            self.database.kill()
            self._await_traffic(probe)
            began = self.sample().at
            self.wait(lambda sample: sample.at > began + 1.5 * self.pace)
            self.database.start()

        check = self._amid_traffic(probe, crash)
        lives = [node.daemon.pid for node in self.nodes if node.daemon.poll() is None] == pids
        return check if lives else lambda sample: Outcome("a daemon died", check(sample).table, ok=False)

    def _await_traffic(self, probe: Probe) -> None:
        before = self.sample().counted(probe.key)
        self.wait(lambda sample: sample.counted(probe.key).rx > before.rx + _SOME)

    def _amid_traffic(self, probe: Probe, crash: Callable[[], None]) -> Check[R]:
        """``crash`` happens while a customer transfers. No peer may be touched, each byte must be accounted once."""
        before = self.sample()
        then = before.counted(probe.key)
        transfer = probe.customer.transfer(up=UP, down=DOWN, seconds=3 * self.pace)
        self._await_traffic(probe)
        crash()
        touched = self.sample().identities() != before.identities()
        through = self.finish(transfer)

        def check(sample: Sample[R]) -> Outcome:
            counted, total = sample.counted(probe.key), sample.rows[probe.name].total
            grown = counted.rx > then.rx + UP and counted.tx > then.tx + DOWN
            same = not touched and sample.identities() == before.identities()
            kernel = f"{counted}, {'no' if same else 'A'} peer touched"
            return Outcome(kernel, str(total), through and same and grown and counted == total)

        return check


E = TypeVar("E", bound=Bench[Any])


class Scenario(NamedTuple, Generic[E]):
    name: str
    expected: str
    play: Callable[[E], Check[Any]]


Opener = Callable[..., AbstractContextManager[Bench[Any]]]
"""Opens an environment below a directory, whose daemons do not run yet, and ends it: see ``opened`` of each one."""
