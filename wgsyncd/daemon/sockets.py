"""Keeps the daemon's three sockets open: for metrics, for notifications, and for admins.

The daemon also runs without them. A socket that cannot be had is a warning, and is tried again.
"""

from collections.abc import Callable

from wgsyncd import log
from wgsyncd.daemon import control_socket, lock, notify_socket
from wgsyncd.daemon.change_watch import ChangeWatcher
from wgsyncd.daemon.control_socket import ControlSocket
from wgsyncd.daemon.events import Event, EventQueue
from wgsyncd.daemon.http import Routes
from wgsyncd.daemon.monitoring import MonitoringServer
from wgsyncd.errors import UserError


class Sockets:
    """Opens what is not open. ``answers``: the paths for admins. The control socket also serves the metrics."""

    def __init__(
        self, monitoring: MonitoringServer, watcher: ChangeWatcher, answers: Callable[[], Routes], events: EventQueue
    ) -> None:
        self._monitoring, self._watcher, self._answers, self._events = monitoring, watcher, answers, events
        self._control: ControlSocket | None = None
        self._log, self._changed = log.get("daemon"), log.OnChange()

    def open(self, metrics: tuple[str, int] | None) -> None:
        """Open the sockets that are not open, or whose files somebody has removed. ``metrics``: their address."""
        if not lock.path().exists():
            self._try("no lock file", lambda: lock.acquire(lock.path()))
        if metrics is not None and self._monitoring.address is None:
            self._try("no metrics", lambda: self._monitoring.listen(metrics))
        if not self._watcher.is_listening:
            put = self._events.put
            self._try("no notifications", lambda: self._watcher.listen(notify_socket.path(), lambda: put(Event.NOTIFY)))
        self._watcher.follow_agent()
        if self._control is None or not self._control.is_there:
            self._try("no commands to the running daemon", self._open_control)

    def close(self) -> None:
        self._watcher.close()
        if self._control is not None:
            self._control.close()
        self._monitoring.close()

    def _open_control(self) -> None:
        if self._control is not None:
            self._control.close()
        self._control = ControlSocket(control_socket.path(), {**self._monitoring.routes, **self._answers()})

    def _try(self, trouble: str, opening: Callable[[], object]) -> None:
        why = None
        try:
            opening()
        except (UserError, OSError) as error:  # OSError: no descriptor is free
            why = str(error)
        if self._changed(trouble, why) and why:
            self._log.warning(f"{trouble}, and the daemon tries again", why=why)
