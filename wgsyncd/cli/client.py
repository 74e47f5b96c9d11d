"""How a command asks the running daemon, and what it says if it reads everything by itself."""

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec

from wgsyncd.cli import output
from wgsyncd.daemon import control_socket, lock
from wgsyncd.errors import ConfigError, StoreError, StoreErrorCode, UserError, WgsyncdError
from wgsyncd.redact import DEFAULT_CONFIG

_UNHEARD = "wgsyncd runs (pid {pid}), but nobody listens. If it has not just started: systemctl restart wgsyncd"
START = "Start it: systemctl start wgsyncd"
_AGAIN = 1.0  # seconds between two alarms
Report = TypeVar("Report", bound=msgspec.Struct)
T = TypeVar("T")


class Absence(Enum):
    """Why no daemon answered."""

    NONE = "it answered"
    STOPPED = "no daemon runs"
    HANGS = "one runs, and cannot be asked"
    UNKNOWN = "one may run, and the command may not ask it"


class Silence(NamedTuple):
    """Why no daemon answered, also in words."""

    absence: Absence
    text: str


ANSWERED = Silence(Absence.NONE, "")
NOT_RUNNING = Silence(Absence.STOPPED, "wgsyncd does not run")


class NobodyListensError(UserError):
    """No daemon has the socket open."""


class SilentDaemonError(UserError):
    """A daemon has the socket open and does not answer."""


class OtherConfigurationError(UserError):
    """The daemon runs with another configuration file."""


class _Connection(HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(control_socket.path()))


def ask(path: str, method: str = "GET", body: Mapping[str, Any] | None = None, timeout: float = 130.0) -> bytes:
    """The daemon's answer as JSON. UserError with what the daemon says, or with the reason why it says nothing."""
    file = control_socket.path()
    connection = _Connection("localhost", timeout=timeout)
    try:
        with contextlib.suppress(BrokenPipeError):  # A refused client may have its answer already.
            connection.request(method, path, json.dumps(body or {}) if method == "POST" else None)
        answer = connection.getresponse()
        if answer.length is None:
            raise HTTPException("the head is not complete")
        said = answer.read()
        refusal = json.loads(said) if answer.status >= 400 else {}
        if not isinstance(refusal, dict):
            raise ValueError("not what a daemon says")
    except (TimeoutError, BlockingIOError):  # EAGAIN of connect(2): too many others wait for it
        why = f"the daemon does not answer within {timeout:g} s: `wgsyncd status` shows how it is"
        raise SilentDaemonError(why) from None
    except (FileNotFoundError, ConnectionRefusedError):
        with contextlib.suppress(UserError):
            if pid := running_daemon():
                raise NobodyListensError(_UNHEARD.format(pid=pid)) from None
        raise NobodyListensError(f"no wgsyncd runs here: nobody listens on {file}. {START}") from None
    except PermissionError:
        raise UserError(f"{file}: not permitted: run this as root or in the group wgsyncd") from None
    except (OSError, HTTPException, ValueError, RecursionError, OverflowError, MemoryError):
        raise UserError(f"{file}: the daemon went away before its answer was complete") from None
    finally:
        connection.close()
    if answer.status == 409 and refusal.get("key") == "config":
        raise OtherConfigurationError(str(refusal.get("error")))
    if refusal.get("key") == "database":
        raise StoreError(str(refusal.get("error")), StoreErrorCode.UNREACHABLE)
    if answer.status >= 400:
        raise UserError(str(refusal.get("error")))
    return said


def decode(answer: bytes, kind: type[Report]) -> Report:
    """The daemon's answer as the report that it is. UserError if another version of wgsyncd made it."""
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UserError(f"the daemon is of another version than this command: {error}") from None


def ask_daemon(
    args: argparse.Namespace, kind: type[Report], path: str, method: str = "POST",
    body: Mapping[str, Any] | None = None, timeout: float = 130.0,
) -> tuple[Report | None, Silence]:  # fmt: skip
    """The daemon's report. None, and why, if none runs, if it has another configuration, or with ``--no-daemon``."""
    if getattr(args, "no_daemon", False):
        return None, Silence(Absence.UNKNOWN, "wgsyncd was not asked")
    if args.config != DEFAULT_CONFIG:
        path += ("&" if "?" in path else "?") + urlencode({"config": os.fsencode(args.config.resolve())})
    try:
        return decode(ask(path, method, body, timeout), kind), ANSWERED
    except OtherConfigurationError as error:
        return None, Silence(Absence.UNKNOWN, str(error))
    except NobodyListensError:
        try:
            pid = running_daemon(args.config)
        except UserError as error:
            return None, Silence(Absence.UNKNOWN, str(error))
        return None, Silence(Absence.HANGS, _UNHEARD.format(pid=pid)) if pid else NOT_RUNNING


def running_daemon(config: Path = DEFAULT_CONFIG) -> int | None:
    """The pid of the daemon, even if the files in its directory are gone. None: no daemon runs. UserError: unknown."""
    from wgsyncd.config import load

    pid = lock.holder(lock.path())
    if pid is None:
        with contextlib.suppress(ConfigError):
            pid = lock.running(load.load(config).node.name)
    return pid


class _OutOfTimeError(BaseException):
    """The alarm of :func:`within`. Nothing on the way that reacts to an error of wgsyncd or of a library catches it."""


def within(seconds: float, error: WgsyncdError, work: Callable[[], T]) -> T:
    """What ``work`` returns. Raise ``error`` in the main thread if it takes longer, even if a peer sends byte by byte.

    This is no context manager, because an alarm may come between its last line and the end of a ``with``. The alarm
    comes again, because Python drops an exception that a finalizer raises.
    """

    def over(*_: object) -> None:
        raise _OutOfTimeError

    def disarm() -> None:
        signal.setitimer(signal.ITIMER_REAL, *outer)
        signal.signal(signal.SIGALRM, before)

    outer = signal.getitimer(signal.ITIMER_REAL)
    before = signal.signal(signal.SIGALRM, over)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
            return work()
        finally:
            disarm()
    except _OutOfTimeError:
        disarm()
        raise error from None


def print_note(why: str) -> None:
    """Say on standard error that the command read everything by itself, and why."""
    print(output.sanitize(f"wgsyncd: {why}: this is what the command sees by itself"), file=sys.stderr)
