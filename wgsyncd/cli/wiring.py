"""The wiring: the one module that names the concrete store, data plane and spool."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsyncd.config.schema import Settings
    from wgsyncd.engine.agent import Agent
    from wgsyncd.engine.agent_state import AgentState
    from wgsyncd.engine.status import DaemonStatus
    from wgsyncd.ports import Reports


def open_agent(settings: Settings) -> Agent:
    """The agent of a command, which looks and writes by itself."""
    from wgsyncd import log
    from wgsyncd.dataplane.wireguard.local import LocalWireGuard
    from wgsyncd.engine.agent import Agent
    from wgsyncd.engine.agent_state import AgentState
    from wgsyncd.engine.status import DaemonStatus
    from wgsyncd.ports import Clock
    from wgsyncd.stores import spool
    from wgsyncd.stores.mikyun.store import MariaDBStore

    log.configure("warning")  # to standard error: standard output is the command's answer
    clock = Clock(time.time, time.monotonic)
    samples = spool.FileSpool(spool.directory(), settings.node.name)
    return Agent(settings, LocalWireGuard(), MariaDBStore(settings), samples, DaemonStatus(), clock, AgentState())


def daemon_agents(status: DaemonStatus) -> Callable[[Settings, AgentState], Agent]:
    """What makes the daemon's agent, again after every reload."""
    from wgsyncd.dataplane.wireguard.local import LocalWireGuard
    from wgsyncd.engine.agent import Agent
    from wgsyncd.ports import Clock
    from wgsyncd.stores import spool
    from wgsyncd.stores.mikyun.store import MariaDBStore

    wireguard = LocalWireGuard(endpoints=False)  # a daemon has no use for endpoints
    clock = Clock(time.time, time.monotonic)

    def build(settings: Settings, state: AgentState) -> Agent:
        samples = spool.FileSpool(spool.directory(), settings.node.name)
        return Agent(settings, wireguard, MariaDBStore(settings), samples, status, clock, state)

    return build


def open_reports(settings: Settings) -> Reports:
    """The store's reports, which only commands ask for."""
    from wgsyncd.stores.mikyun.reports import MariaDBReports

    return MariaDBReports(settings)
