"""Answers the requests of admins as the daemon does, without its loop, on a node in memory."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.node import Node
from wgsyncd.core.peers.guard import Decision
from wgsyncd.daemon import control_socket, lock
from wgsyncd.daemon.admin import AdminRequests
from wgsyncd.daemon.control_socket import ControlSocket
from wgsyncd.daemon.device_list import DeviceList
from wgsyncd.daemon.monitoring import pages
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.reports import status as status_report
from wgsyncd.errors import ConfigIssue, StoreError, StoreErrorCode, WgsyncdError


class Work:
    """Stands in for the daemon behind AdminRequests, and notes what it was asked in ``said``."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.last_error: WgsyncdError | None = None
        self.faults: Sequence[ConfigIssue] = ()
        self.said: list[object] = []

    @property
    def agent(self) -> Agent:
        return self.node.agent

    def reconcile_all(self) -> Decision | None:
        self.said.append("all")
        try:
            return self.node.agent.reconcile()
        except StoreError as error:
            self.last_error = error
            return None

    def reconcile_now(self, devices: frozenset[str]) -> bool:
        self.said.append(devices)
        self.last_error = StoreError("2002: no database", StoreErrorCode.UNREACHABLE)
        return "D-9" not in devices

    def reload(self, who: str) -> Sequence[ConfigIssue]:
        self.said.append(who)
        return self.faults


@contextmanager
def running(node: Node, config: Path) -> Iterator[Work]:
    """A running daemon: it holds the lock, serves the control socket, and a thread handles the requests."""
    held = lock.acquire(lock.path())
    status, now = node.status, time.time()
    status.database_up, status.succeeded_at, status.config_loaded_at = True, {"reconcile": now, "account": now}, now
    made = Work(node)
    bell: queue.SimpleQueue[bool] = queue.SimpleQueue()
    orders = AdminRequests(made, config, lambda: node.settings.node.zone, lambda: bell.put(True))
    listed = DeviceList(node.status, lambda: node.settings, orders.ask_usage)
    routes = orders.routes(lambda: status_report.of_daemon(node.status, node.settings, config), listed.report)
    routes = {**pages(lambda: node.status, lambda: True), **routes}
    server = ControlSocket(control_socket.path(), routes)

    def obey() -> None:
        while bell.get():
            orders.wait()
            while orders.delay() is not None:
                orders.handle_next()

    thread = threading.Thread(target=obey)
    thread.start()
    yield made
    bell.put(False)
    thread.join()
    server.close()
    os.close(held)
