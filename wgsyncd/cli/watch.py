"""Keeps a screen up to date until `q` or ^C. `p` shows the plan, and `/` filters what is shown.

Keys need a terminal as standard input. Every end gives the terminal its old mode back.
"""

import codecs
import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from wgsyncd.cli import output
from wgsyncd.cli.output import Parts
from wgsyncd.errors import WgsyncdError

_VSUSP = 10  # c_cc index of ^Z on Linux, which would leave a stopped program's screen behind


@dataclass(slots=True)
class WatchView:
    """What the person at the keyboard wants to see."""

    width: int = 80
    height: int = 24  # lines that the drawing may have
    text: str = ""  # the filter
    plan: bool = False  # the plan in place of everything else
    is_typing: bool = False  # the filter is being typed

    def press(self, typed: str) -> bool:
        """Follow what was typed. False: the person wants to leave."""
        if typed.startswith("\x1b") and len(typed) > 1:
            return True  # an arrow or another special key
        for key in typed:
            if self.is_typing:
                self._type(key)
            elif key in ("q", "Q"):
                return False
            elif key == "p":
                self.plan = not self.plan
            elif key == "/":
                self.is_typing, self.plan = True, False
            elif key == "\x1b":
                self.text, self.plan = "", False
        return True

    def _type(self, key: str) -> None:
        if key in "\r\n":
            self.is_typing = False
        elif key == "\x1b":
            self.text, self.is_typing = "", False
        elif key in "\x7f\b":
            self.text = self.text[:-1]
        elif key == "\x15":  # ^U
            self.text = ""
        elif key.isprintable():
            self.text += key


Draw = Callable[[WatchView], tuple[Sequence[Parts], str]]
"""Makes the lines of a view, and the time that they are of."""


def watch(draw: Draw, every: float) -> None:
    """Draw again after ``every`` seconds and after each key, until `q` or a signal."""
    view, at = WatchView(), ""
    with _ends(), _keys() as keys, output.screen() as show:
        while True:
            view.width, view.height = output.size()
            view.height -= 2
            try:
                lines, at = draw(view)
            except WgsyncdError as error:
                lines = [(str(error), "fault")]
            shown = output.drawn(lines, view.width, copied=False)
            if (more := len(shown) - view.height) > 0:
                shown[view.height - 1 :] = output.drawn([(f"… {more + 1} more lines", "dim")], view.width)
            empty: list[Parts] = [("", "")] * (view.height + 1 - len(shown))
            show([*shown, *output.drawn([*empty, _foot(view, at, every, keys is not None)], view.width)])
            if keys is None:
                time.sleep(every)
            elif not view.press(keys(every)):
                return


def _foot(view: WatchView, at: str, every: float, has_keys: bool) -> Parts:
    if view.is_typing:
        return [("/" + view.text, "head"), ("▏" if output.can_draw("▏") else "_", "head")]
    keys = "q quit, p plan, / filter" if has_keys else "^C ends"
    chosen = f"   /{view.text} (Esc clears)" if view.text else ""
    return [(f"{at}, every {every:g} s   {keys}", "dim"), (chosen, "head")]


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str] | None]:
    """Read single keys, without an echo. None if standard input is no terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def typed(seconds: float) -> str:
        """What was typed within some seconds."""
        if not select.select([fd], [], [], seconds)[0]:
            return ""
        if not (data := os.read(fd, 1024)):
            raise KeyboardInterrupt  # the terminal is gone
        return decoder.decode(data)

    try:
        tty.setcbreak(fd)
        mode = termios.tcgetattr(fd)
        mode[6][_VSUSP] = b"\0"
        termios.tcsetattr(fd, termios.TCSANOW, mode)
        yield typed
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)


@contextlib.contextmanager
def _ends() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the program as ^C does, so that the terminal is left as it was."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_DFL]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
