"""The log: one event is one line, and no line holds a key.

Only this module imports structlog. The log goes to standard error without a buffer of ours. A line that cannot be
written is lost: neither a full disk nor a pipe that nobody reads may stop the daemon. The next line that can be written
says how many were lost.

Under the journal an event is an entry with a field for each value, such as WGSYNCD_DEVICE, and with the MESSAGE_ID of
its kind, see :func:`message_id`. An entry that the journal does not take becomes a line of standard error, which begins
with its priority (``<6>``, sd-daemon(3)).

Only the daemon calls :func:`configure`. A process that does not is a command, and says its warnings in sentences.
"""

import contextlib
import logging
import os
import select
import socket
import sys
import time
import traceback
from collections.abc import Hashable
from functools import partial
from importlib.util import find_spec
from typing import ClassVar, Literal, TextIO, cast

from wgsyncd import hollow, without
from wgsyncd.errors import WgsyncdError
from wgsyncd.redact import clean

# rich takes 3 MiB: structlog shows exceptions with it, which _exception has replaced. OpenSSL takes 4: asyncio, which
# structlog loads, would load it for TLS, and hashlib for hashes. Python has its own, if it was built with them.
# structlog uses no more of pickle than an error.
_ABSENT = ("rich", "ssl", *(["_hashlib"] if find_spec("_sha256") or find_spec("_sha2") else ()))
with without(*_ABSENT), hollow("pickle"):
    import hashlib
    import hmac  # noqa: F401 - for `secrets`

    import structlog
    from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
_PATIENCE = 100.0  # milliseconds for a reader who is slow
_LISTED = 20  # entries of a list in a line
JOURNAL = "/run/systemd/journal/socket"  # it takes entries with fields: systemd's native journal protocol
_AGAIN = 3600.0  # seconds until trouble that lasts is told of again
_FIRST = ("timestamp", "level", "event")


def _name(logger: WrappedLogger, _: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _clean(escape: bool, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Remove keys from an event. With ``escape``, escape control characters, too. JSON does so itself."""
    order = sorted(event, key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))
    return {key: clean(event[key], escape=escape) for key in order}


def _exception(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by ``error`` (with its causes) and, for a bug, by ``trace`` (innermost frame last)."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else None
    if given and error is None:
        error = sys.exc_info()[1]
    if error is None:
        return event
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    event["error"] = " <- ".join(f"{type(one).__name__}: {one}" for one in chain)
    if method in ("error", "critical") and not isinstance(error, WgsyncdError):
        frames = [frame for one in chain for frame in traceback.extract_tb(one.__traceback__)]  # no locals: keys
        event["trace"] = [f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in frames]
    return event


def message_id(event: str) -> str:
    """The MESSAGE_ID of a kind of event. The catalog of the journal has a text for some of them."""
    return hashlib.sha256(f"wgsyncd: {event}".encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _for_journal(
    render: Processor, logger: WrappedLogger, method: str, event: EventDict
) -> tuple[tuple[str, bytes], dict[str, object]]:
    """The line with its priority, and the entry in the journal's own protocol. A list is several fields."""
    priority = _PRIORITIES.get(method, 3)
    message = str(render(logger, method, event)).removeprefix(f"level={method} ")
    named = {"device" if key == "devices" else key: one for key, one in event.items() if key != "level"}
    fields = {f"WGSYNCD_{key.upper()}": one for key, one in named.items()} | {
        "MESSAGE": message,
        "MESSAGE_ID": message_id(str(event["event"])),
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": "wgsyncd",
    }
    pairs = [
        (key.encode(), str(one).encode("utf-8", "backslashreplace"))
        for key, values in fields.items()
        for one in (values if isinstance(values, list) else [values])
    ]
    entry = b"".join(key + b"\n" + len(one).to_bytes(8, "little") + one + b"\n" for key, one in pairs)
    return (f"<{priority}>{message}", entry), {}


def _logfmt(render: Processor, logger: WrappedLogger, method: str, event: EventDict) -> str:
    """A line of logfmt. It has no lists, so a list is written as ``a, b``."""

    def text(one: object) -> object:
        more = f" and {len(one) - _LISTED} more" if isinstance(one, list) and len(one) > _LISTED else ""
        return ", ".join(map(str, one[:_LISTED])) + more if isinstance(one, list) else one

    return str(render(logger, method, {key: text(one) for key, one in event.items()}))


def _sentence(_: WrappedLogger, __: str, event: EventDict) -> str:
    """A line of a command for people: what happened, and then its facts."""
    facts = [str(one) if key in ("error", "why", "what") else f"{key} {one}"
             for key, one in event.items() if key not in (*_FIRST, "logger")]  # fmt: skip
    return ": ".join(["wgsyncd", str(event["event"]), *facts])


class _Output:
    """Writes rendered lines, each with one write. ``stream``: None is what standard error is at that moment."""

    lost: ClassVar[int] = 0  # lines since the last one that could be written, of all loggers together

    def __init__(self, stream: TextIO | None, name: str = "wgsyncd") -> None:
        self.stream, self.name = stream or sys.stderr, name

    def msg(self, line: str, entry: bytes = b"") -> None:
        """Send the entry, or write the line. A full disk, a closed pipe, or a pipe that nobody reads loses it."""
        if entry and not _Output.lost:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
                journal.sendto(entry, socket.MSG_DONTWAIT, JOURNAL)
                return
        lost = _Output.lost
        before = f"{lost} lines of the log were lost, because nobody read them\n" if lost else ""
        try:
            written = self._write(f"{before}{line}\n")
        except (OSError, ValueError):  # ValueError: the stream is closed
            written = False
        _Output.lost = 0 if written else lost + 1

    def _write(self, text: str) -> bool:
        """Whether all was written. A pipe that is ready takes 4096 bytes without blocking (PIPE_BUF in pipe(7))."""
        try:
            descriptor = self.stream.fileno()
        except (OSError, AttributeError):  # a stream in memory, which takes everything
            self.stream.write(text)
            return True
        ready = select.poll()
        ready.register(descriptor, select.POLLOUT)
        data = text.encode(self.stream.encoding or "utf-8", "backslashreplace")
        for at in range(0, len(data), select.PIPE_BUF):
            if not ready.poll(0 if _Output.lost else _PATIENCE):
                return False
            os.write(descriptor, data[at : at + select.PIPE_BUF])
        return True

    debug = info = warning = error = critical = msg


class _Standard(logging.Handler):
    """Takes the messages that libraries send through the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # the library's arguments do not fit its own format
            text = str(record.msg)
        level = max(record.levelno // 10 * 10, logging.DEBUG)
        get(record.name).log(min(level, logging.CRITICAL), text, exc_info=record.exc_info)


def _is_journal(stream: TextIO) -> bool:
    """Whether the journal reads this stream: JOURNAL_STREAM has its device and inode (systemd.exec(5))."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


def configure(
    level: str = "info",
    format: Literal["auto", "console", "json", "logfmt", "sentence"] = "auto",  # noqa: A002 - the configuration's word
    stream: TextIO | None = None,
) -> None:
    """Set the log up, at start and again on reload. ``stream`` is standard error, or another one in a test.

    ``format``: "sentence" is how a command speaks. The configuration has the others.
    """
    out = sys.stderr if stream is None else stream
    journal = format != "sentence" and _is_journal(out)
    style = format if format != "auto" else "console" if out.isatty() else "logfmt"
    lowest = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Processor] = [structlog.processors.add_log_level, _name]
    if style == "console":
        processors.append(structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False))
    elif style != "sentence" and not journal:
        processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    processors += [_exception, partial(_clean, style != "json")]
    render: Processor
    if style == "json":
        render = structlog.processors.JSONRenderer()
    elif style == "console":
        colours = out.isatty() and not os.environ.get("NO_COLOR")
        render = structlog.dev.ConsoleRenderer(0, colors=colours, pad_level=False)
    elif style == "sentence":
        render = _sentence
    else:
        render = partial(_logfmt, structlog.processors.LogfmtRenderer(bool_as_flag=False))
    structlog.configure(
        processors=[*processors, partial(_for_journal, render) if journal else render],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=partial(_Output, stream if style == "sentence" else out),
        cache_logger_on_first_use=False,  # so that a reload's level reaches the loggers that exist
    )
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _Standard)]:
        root.removeHandler(handler)
    root.addHandler(_Standard())
    root.setLevel(max(lowest, logging.WARNING))


def get(name: str) -> FilteringBoundLogger:
    """A logger whose lines show ``name`` as ``logger``. It may be called before :func:`configure`."""
    return cast(FilteringBoundLogger, structlog.get_logger(name))


class OnChange:
    """Tells when a state changed, so that trouble is logged when it starts and when it ends.

    A state that is true is trouble. While it lasts, it is logged every hour.
    """

    def __init__(self) -> None:
        self._states: dict[Hashable, tuple[object, float, float]] = {}  # state, its begin, and when it was last told of

    def __call__(self, key: Hashable, state: object) -> bool:
        """Whether to tell of ``state``. The last state of an unknown key is None."""
        now = time.monotonic()
        before, since, told = self._states.get(key, (None, now, now))
        if before != state:
            since = now if state and not before else since  # Another kind of trouble is the same trouble.
            self._states[key] = state, since, now
            return True
        if again := bool(state) and now - told >= _AGAIN:
            self._states[key] = state, since, now
        return again

    def lasting(self, key: Hashable) -> str:
        """How long the present trouble of ``key`` has lasted, or the last one."""
        seconds = int(time.monotonic() - self._states[key][1]) if key in self._states else 0
        return f"{seconds // 3600} h {seconds // 60 % 60} min" if seconds >= 60 else f"{seconds} s"


configure("warning", "sentence")
