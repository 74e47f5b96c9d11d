"""The parts of a daemon are put together as the command does it, for one thread to control."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.bench.timing import Moment
from wgsyncd import stores
from wgsyncd.config.load import parse
from wgsyncd.core.model import Change, InterfaceState
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.daemon.change_watch import ChangeWatcher
from wgsyncd.daemon.tasks import Tasks
from wgsyncd.dataplane.wireguard.local import LocalWireGuard
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.state_cache import never
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.ports import Clock, NewInterface, Plane, WireGuard
from wgsyncd.stores.spool import FileSpool

TIMEOUT = 120.0  # seconds for one answer of the kernel, where a daemon waits 5


class AnyStage(Protocol):
    """Describes the tables of one control plane and one interface."""

    folder: Path
    interface: str

    def config(self, **more: str) -> str:
        """Returns the configuration, with other lines by section."""

    def writes(self) -> Any:
        """Returns what changes when wgsyncd writes to the database."""


class Watched:
    """Wraps the real WireGuard and counts its changes. The next read returns `dump` if a dump is set."""

    def __init__(self, real: WireGuard | None = None) -> None:
        self.real = real or LocalWireGuard(TIMEOUT)
        self.changes = 0
        self.dump: InterfaceState | None = None
        self.changed_at = Moment()  # the end of the last change

    @property
    def retries(self) -> int:
        return self.real.retries

    def read(self, interface: str) -> InterfaceState:
        return self.real.read(interface) if self.dump is None else self.dump

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        self.changes += len(changes)
        failed = self.real.apply(interface, changes)
        self.changed_at = Moment()
        return failed

    def create(self, creation: NewInterface) -> None:
        self.real.create(creation)

    def close(self) -> None:
        self.real.close()


class Machine:
    """Holds agent, store and WireGuard on a stage."""

    def __init__(self, stage: AnyStage, wireguard: WireGuard | None = None, planes: Sequence[Plane] = ()) -> None:
        settings = parse(stage.config())
        self.stage = stage
        self.wireguard, self.store = Watched(wireguard), stores.open_store(settings).store(lambda: None)
        clock, spool = Clock(time.time, time.monotonic), FileSpool(stage.folder / "state", settings.node.name)
        status = DaemonStatus()
        self.agent = Agent(settings, self.wireguard, self.store, spool, status, clock, AgentState(), planes=planes)
        self.watcher = ChangeWatcher(lambda: self.agent, Tasks(status), lambda: None, status, 1.0)

    def cycle(self) -> None:
        """Does the work of one reconcile of the daemon."""
        self.watcher.reconcile(never)

    def look(self) -> None:
        """Looks for changed rows, as the daemon does a few times each second, and reconciles them."""
        assert self.watcher.check_digest()

    @property
    def writes(self) -> tuple[int, Any]:
        """Returns the changes sent to the kernel, and the counters of statements that write to the database."""
        return self.wireguard.changes, self.stage.writes()

    def right(self, peers: int) -> None:
        """Asserts that every peer is there, and that another cycle finds nothing to do."""
        before = self.writes
        assert self.agent.reconcile().plan.changes == ()
        assert len(self.wireguard.real.read(self.stage.interface).peers) == peers
        assert self.writes == before, "a cycle with nothing changed has written"

    def close(self) -> None:
        """Closes connection and socket."""
        self.store.close()
        self.wireguard.close()
