"""Hears at once when the application says that rows changed.

A thread listens on a connection of its own (LISTEN). A notification is a hint and never an instruction. Without this
connection, the digest still finds every change.
"""

import contextlib
import threading
import time
from collections.abc import Callable

from wgsyncd.stores.nexavpn.login import TROUBLE, Session, log_in
from wgsyncd.stores.nexavpn.settings import Database
from wgsyncd.stores.resolving import Resolver

CHANNEL = "wgsyncd"
_TURN = 1.0  # seconds after which the thread looks whether it should end
_CHECK = 30.0  # seconds of silence after which the server is asked for an answer
_RETRY = 5.0  # seconds until the next attempt to connect


class Listener:
    """Calls ``put`` with the text of each notification, from its thread. An empty text means all rows."""

    def __init__(self, settings: Database, put: Callable[[bytes], None]) -> None:
        self._settings, self._put, self._end = settings, put, threading.Event()
        self._resolver = Resolver()
        threading.Thread(target=self._run, name="listen", daemon=True).start()

    def _run(self) -> None:
        while not self._end.is_set():
            with (
                contextlib.suppress(*TROUBLE),
                contextlib.closing(log_in(self._settings, self._settings.timeout, self._resolver)) as live,
            ):
                self._listen(live)
            self._end.wait(_RETRY)

    def _listen(self, live: Session) -> None:
        """Hear notifications until the connection breaks, or until nobody wants them any more."""
        live.execute(f"LISTEN {CHANNEL}")
        self._put(b"")  # what was said before now is lost
        while not self._end.is_set():
            live.left = self._settings.timeout
            live.execute("SELECT 1")  # a stopped server answers nothing and breaks no connection
            silent = time.monotonic() + _CHECK
            while not self._end.is_set() and time.monotonic() < silent:
                live.left = 2 * _TURN  # notifies() ends after one turn, so this never passes
                for one in live.notifies(timeout=_TURN):
                    self._put(one.payload.encode())

    def close(self) -> None:
        """Let the thread end soon."""
        self._end.set()
