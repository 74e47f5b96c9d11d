"""The pictures of README.md and etc/doc: real screens of a real daemon with real WireGuard and MariaDB.

    python -m tests.pictures           # writes etc/pictures, needs root, tmux, libfaketime, chromium and pngquant

tmux shows the commands, and chromium shows the page. Only the time is made: libfaketime sets the daemon's clock again and
again, because nobody waits two weeks. The picture of the console is of tests/real/test_prometheus.py.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.sax.saxutils import escape

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from tests.browser import Browser
from tests.real.bench import PATIENCE, Bench, Device, Ear, real_device, wait
from tests.wait import until
from wgsyncd.core.identity import BEAT
from wgsyncd.demo.mariadb import PrivateServer

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
PICTURES = Path(__file__).resolve().parents[1] / "etc" / "pictures"
WIDTH = 112  # columns
CELL, LINE = 8.4, 18  # the width of a column and the height of a line
COLOURS = ("", "red", "green", "yellow", "blue", "magenta", "cyan", "")  # of a terminal, by number
STYLE = """\
<style>
text{fill:#1f2328;font:14px monospace} rect{fill:#fff;stroke:#d1d9e0} .bold{font-weight:bold}
.dim{fill:#59636e} .red{fill:#cf222e} .green{fill:#1a7f37} .yellow{fill:#9a6700} .blue{fill:#0969da} .magenta{fill:#8250df} .cyan{fill:#1b7c83}
@media(prefers-color-scheme:dark){
text{fill:#e6edf3} rect{fill:#0d1117;stroke:#3d444d}
.dim{fill:#9198a1} .red{fill:#ff7b72} .green{fill:#3fb950} .yellow{fill:#d29922} .blue{fill:#58a6ff} .magenta{fill:#bc8cff} .cyan{fill:#39c5cf}
}
</style>"""  # the colours of github.com, where most readers see the pictures
DAYS = 14
STEPS = [*(f"-{day}d" for day in range(DAYS - 1, 0, -1)), *(f"-{minutes}m" for minutes in range(1410, 0, -30)), "+0"]
"""How far the daemon's clock is behind: first by days, and then the last day by half hours."""
CROWD = (("0001-DEV-001", 11), ("0001-DEV-002", 12), ("0002-DEV-001", 21))


def main() -> None:
    """Two weeks of three devices, then the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, PrivateServer() as database:
        top = Path(name)
        database.load()
        database.create_account()
        bench = Bench(top, database, "userspace", Ear(top / "heard"))
        try:
            bench.open()
            bench.sql("UPDATE contracts SET contract_status = 'active';"
                      "INSERT INTO contracts (contract_number, contract_id, contract_status) VALUES (3, '0003', 'active')")  # fmt: skip
            bench.configure({"node.name": "r640", "node.zone": "UTC", "metrics.page": True})
            play(bench, top)
            pictures(bench)
        finally:
            bench.close()


def play(bench: Bench, top: Path) -> None:
    """Who has which device, and what they move each day."""
    crowd = [real_device(name, f"10.200.0.{at}", contract=name[:4]) for name, at in CROWD]
    bench.insert(*crowd)
    bench.insert(Device("0002-DEV-002", "10.251.0.22", "wg1", contract="0002"))
    clock = top / "clock"
    clock.write_text(f"{STEPS[0]}\n")
    os.utime(bench.daemon.config, (0, 0))  # before the daemon's start, by its clock
    bench.daemon.start({"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
                        "DONT_FAKE_MONOTONIC": "1"})  # fmt: skip
    customers = [bench.customer(one) for one in crowd]
    chance = random.Random(7)
    for number, step in enumerate(STEPS):
        (top / "new").write_text(f"{step}\n")
        (top / "new").rename(clock)
        wait(lambda number=number: len(bench.daemon.lines(event="the clock was set")) >= number, "the clock was set")
        size = 120 if step.endswith("d") else 4  # of a day, or of half an hour
        work = [one.transfer(up=size * chance.randrange(30, 150) << 10, down=size * chance.randrange(200, 1000) << 10)
                for one in customers]  # fmt: skip
        assert [one.wait(PATIENCE) for one in work] == [0, 0, 0]
        polls = bench.daemon.cycles("account")
        wait(lambda polls=polls: bench.daemon.cycles("account") > polls + 1, "posted")
    beats = bench.daemon.cycles("heartbeat")
    until(lambda: bench.daemon.cycles("heartbeat") > beats, 2 * BEAT, "a heartbeat by the real clock")
    bench.insert(Device("0001-DEV-003", "10.0.0.13"))  # no address of wg0: rejected
    bench.insert(
        Device("0003-DEV-001", "10.200.0.31", contract="0003"), Device("0003-DEV-002", "10.200.0.32", contract="0003")
    )
    wait(lambda: len(bench.peers()) == 5, "new devices")
    bench.sql("UPDATE customer_devices SET status = 'paused' WHERE device_id = '0003-DEV-002'")
    wait(lambda: len(bench.peers()) == 4, "one is paused")
    for one, seconds in zip(customers, (90, 75, 60), strict=True):
        one.transfer(up=6 << 20, down=24 << 20, seconds=seconds)


def pictures(bench: Bench) -> None:
    """Take the pictures of the bench's daemon."""
    since = datetime.now(UTC).date() - timedelta(days=DAYS - 1)
    # A line of rates: both directions of wg0.
    status, usage = "status --watch 1", f"usage --since {since}"
    record("status", f"wgsyncd {status}", of_daemon(bench, status), lines=36, until=r"wg0 .*( [0-9.]+ [KMG]iB){4}")
    record("usage", f"wgsyncd {usage}", of_daemon(bench, usage), lines=DAYS + 8, until=r"sent by the server")
    devices = "devices --all --sort 24h"
    record("devices", f"wgsyncd {devices}", of_daemon(bench, devices), lines=12, until=r"0003-DEV-002")
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile), bench.world.server.inside(())) as browser:
        browser.show(1000, 760)
        browser.open("http://127.0.0.1:9586/")
        browser.picture(PICTURES / "page.png", whole=False)
    subprocess.run(["pngquant", "--force", "--nofs", "--ext=.png", "64", PICTURES / "page.png"], check=True)


def of_daemon(bench: Bench, command: str) -> list[str]:
    """A command beside the bench's daemon, as an argument list."""
    words = shlex.split(command)
    daemon = bench.daemon
    settings = [f"{key}={value}" for key, value in daemon.environment.items()]
    return bench.world.server.inside(
        ["env", *settings, sys.executable, "-m", "wgsyncd", words[0], "--config", str(daemon.config), *words[1:]]
    )


def record(name: str, title: str, argv: list[str], *, lines: int, until: str) -> None:
    """Run a command in a terminal of its own until it shows that text, and draw what is seen."""
    server = ["tmux", "-L", f"wgsyncd-{secrets.token_hex(4)}"]
    size = ["-x", str(WIDTH), "-y", str(lines)]
    subprocess.run([*server, "new-session", "-d", *size, f"env COLORTERM=truecolor {shlex.join(argv)}; sleep 60"],
                   check=True)  # fmt: skip
    try:

        def seen() -> str:
            argv = [*server, "capture-pane", "-p", "-e"]
            return subprocess.run(argv, capture_output=True, text=True, check=True).stdout

        def plain() -> str:
            return re.sub(r"\x1b\[[0-9;]*m| +", lambda found: found[0][:1].strip("\x1b"), seen())

        wait(lambda: re.search(until, plain()), until)
        draw(name, title, seen())
    finally:
        subprocess.run([*server, "kill-server"], check=False)


def draw(name: str, title: str, screen: str) -> None:
    """Write the screen as an SVG, in the fixed-width font of the reader's machine."""
    lines = Text.from_ansi(screen.rstrip()).split("\n")
    height = (len(lines) + 2) * LINE
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {(WIDTH + 2) * CELL:g} {height}">']
    svg += [STYLE, f'<rect x=".5" y=".5" width="{(WIDTH + 2) * CELL - 1:g}" height="{height - 1}" rx="6"/>']
    svg += [f'<text x="{CELL}" y="{LINE}" class="bold">{escape(title)}</text>']
    for number, line in enumerate(lines):
        column = 1
        for segment in line.render(Console(width=WIDTH)):
            svg += _text(column, (number + 2.5) * LINE, segment)
            column += len(segment.text)
    (PICTURES / f"{name}.svg").write_text("\n".join([*svg, "</svg>"]) + "\n", encoding="utf-8")


def _text(column: int, y: float, segment: Segment) -> Iterator[str]:
    """The text of one style. Its length is given, so that columns stay columns in every font."""
    words, style = segment.text.strip(), segment.style or Style()
    if not words:
        return
    x = (column + len(segment.text) - len(segment.text.lstrip())) * CELL
    classes = ["bold"] * bool(style.bold) + ["dim"] * bool(style.dim)
    if style.color is not None and style.color.number is not None:
        classes.append(COLOURS[style.color.number % len(COLOURS)])
    kind = f' class="{" ".join(classes)}"' if classes else ""
    length = f'textLength="{len(words) * CELL:g}" lengthAdjust="spacingAndGlyphs"'
    spaced = escape(words).replace(" ", "\N{NO-BREAK SPACE}")  # a browser shows several spaces as one
    yield f'<text x="{x:g}" y="{y:g}" {length}{kind}>{spaced}</text>'


if __name__ == "__main__":
    main()
