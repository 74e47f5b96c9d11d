"""A bar chart of periods: laid out once, written as SVG by hand (it is forty lines) or as PNG by Pillow, which is an
optional extra of the installation: ``wgsyncd[plot]``."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from wgsyncd.core.inspect.periods import Period, in_units
from wgsyncd.errors import Refused

WIDTH, HEIGHT = 960, 400
LEFT, RIGHT, TOP, BOTTOM = 90, 20, 60, 40
RX, TX, GREY, BLACK = "#1f77b4", "#ff7f0e", "#dddddd", "#222222"  # told apart by colour-blind readers too


class Box(NamedTuple):
    """A filled rectangle; ``hint`` is shown where the mouse rests on it."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    hint: str = ""


class Words(NamedTuple):
    """A text: ``anchor`` says what of it is at ``x``: start, middle or end. ``y`` is its baseline."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    size: int = 12


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is to be seen."""

    boxes: tuple[Box, ...]
    words: tuple[Words, ...]


def draw(title: str, legend: tuple[str, str], periods: Sequence[Period]) -> Drawing:
    """Stacked bars, one per period, with a scale in powers of 1024."""
    ticks = _ticks(max((one.rx + one.tx for one in periods), default=0))
    height, width = HEIGHT - TOP - BOTTOM, WIDTH - LEFT - RIGHT
    boxes, words = [], [Words(LEFT, 24, title, size=15)]
    for tick in ticks:
        y = TOP + height * (1 - tick / ticks[-1])
        boxes.append(Box(LEFT, y, width, 1, GREY))
        words.append(Words(LEFT - 8, y + 4, in_units(tick), "end"))
    step = width / max(len(periods), 1)
    every = max(1, -(-len(periods) * 90 // width))  # as many names as have room
    for at, one in enumerate(periods):
        x, below = LEFT + at * step, TOP + float(height)
        for amount, colour, what in ((one.rx, RX, "rx"), (one.tx, TX, "tx")):
            tall = height * amount / ticks[-1]
            below -= tall
            if amount:
                boxes.append(Box(x + step * 0.1, below, step * 0.8, tall, colour, f"{one.name}: {what} {amount} B"))
        if at % every == 0:
            words.append(Words(x + step / 2, HEIGHT - BOTTOM + 18, _short(one.name), "middle", 11))
    for at, (colour, text) in enumerate(zip((RX, TX), legend, strict=True)):
        boxes.append(Box(LEFT + at * 330, 36, 12, 12, colour))
        words.append(Words(LEFT + at * 330 + 18, 46, text))
    return Drawing(tuple(boxes), tuple(words))


def _ticks(most: int) -> list[int]:
    """At most seven round amounts from 0 to above the largest."""
    unit = 1
    while most > unit * 1000:
        unit *= 1024
    step = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if n * 5 * unit >= most) * unit
    return list(range(0, max(-(-most // step), 1) * step + 1, step))


def _short(name: str) -> str:
    date, _, time = name.partition("T")
    return f"{date[5:]} {time[:5]}" if time else date


def svg(drawing: Drawing) -> bytes:
    """As SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for box in drawing.boxes:
        hint = f"<title>{escape(box.hint)}</title>" if box.hint else ""
        lines.append(f'<rect x="{box.x:.2f}" y="{box.y:.2f}" width="{box.width:.2f}" height="{box.height:.2f}"'
                     f" fill={quoteattr(box.colour)}>{hint}</rect>")  # fmt: skip
    for one in drawing.words:
        lines.append(f'<text x="{one.x:.2f}" y="{one.y:.2f}" font-size="{one.size}" text-anchor="{one.anchor}"'
                     f' fill="{BLACK}">{escape(one.text)}</text>')  # fmt: skip
    return "\n".join([*lines, "</svg>\n"]).encode("utf-8")


def png(drawing: Drawing, scale: int = 2) -> bytes:
    """As PNG. Refused where Pillow is not installed."""
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise Refused(
            f"--png needs Pillow: {sys.executable} -m pip install 'Pillow>=10.1' (--svg needs nothing)"
        ) from None
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "#ffffff")
    pen = ImageDraw.Draw(image)
    for box in drawing.boxes:
        x, y = box.x * scale, box.y * scale
        pen.rectangle((x, y, x + max(box.width * scale - 1, 0), y + max(box.height * scale - 1, 0)), fill=box.colour)
    for one in drawing.words:
        font = ImageFont.load_default(one.size * scale)
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[one.anchor]
        pen.text((one.x * scale, one.y * scale), one.text, fill=BLACK, font=font, anchor=anchor)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
