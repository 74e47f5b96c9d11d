"""Draws posted bytes as an SVG bar chart, by pygal: the optional extra ``wgsyncd[plot]``."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from wgsyncd.cli.usage_report import PeriodBytes
from wgsyncd.core.inspect.periods import format_bytes
from wgsyncd.errors import UserError

WIDTH, HEIGHT = 960, 400
LABEL_WIDTH = 100  # of a period's name below the axis, with room beside it
RECEIVED, SENT = "#1f77b4", "#ff7f0e"  # colour-blind readers can tell these two apart, on white and on black
# A viewer that knows no media queries, such as rsvg-convert, shows the light colours of pygal's own rules.
DARK = "\n".join(
    (
        "inline:",
        "@media (prefers-color-scheme: dark) {",
        "#chart-usage { background-color: #16181d }",
        "#chart-usage .graph > .background, #chart-usage .plot > .background { fill: #16181d }",
        "#chart-usage .title, #chart-usage .legends .legend text, #chart-usage text.no_data { fill: #dddddd }",
        "#chart-usage .axis text, #chart-usage .axis text.major { fill: #dddddd }",
        "#chart-usage .axis .line, #chart-usage .axis .major.line { stroke: #dddddd }",
        "#chart-usage .axis .guide.line { stroke: #444444 }",
        "}",
    )
)


def check(file: Path) -> None:
    """UserError if pygal is not installed, or if nothing can be written where the picture is to be."""
    if importlib.util.find_spec("pygal") is None:
        raise UserError(f"--svg needs pygal: {sys.executable} -m pip install 'pygal>=3.0.5,<4'")
    if not file.absolute().parent.is_dir():
        raise UserError(f"{file} cannot be written: there is no directory {file.absolute().parent}")


def svg(title: str, legend: tuple[str, str], periods: Sequence[PeriodBytes]) -> bytes:
    """Stacked bars, one for each period, with a scale in powers of 1024."""
    import pygal
    from pygal.style import Style

    # pygal's finder of plugins has no find_spec(), so Python warns about it at later imports. No plugin is used here.
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]
    chart = pygal.StackedBar(
        width=WIDTH,
        height=HEIGHT,
        title=title,
        value_formatter=format_bytes,
        y_labels=_ticks(max((one.total_bytes for one in periods), default=0)),
        x_labels=[_label(one.period) for one in periods],
        x_labels_major_every=max(1, -(-len(periods) * LABEL_WIDTH // WIDTH)),
        show_minor_x_labels=False,
        truncate_label=-1,
        truncate_legend=-1,
        legend_at_bottom=True,
        js=(),
        css=("file://style.css", "file://graph.css", DARK),
        style=Style(
            background="#ffffff",
            plot_background="#ffffff",
            foreground="#222222",
            foreground_strong="#222222",
            guide_stroke_color="#dddddd",
            major_guide_stroke_color="#dddddd",
            guide_stroke_dasharray="none",
            major_guide_stroke_dasharray="none",
            colors=(RECEIVED, SENT),
            opacity="1",
            font_family="sans-serif",
            label_font_size=12,
            major_label_font_size=12,
            no_data_font_size=24,
        ),
    )
    chart.uuid = "usage"  # instead of a random one: the same bytes make the same file
    chart.add(legend[0], [{"value": one.rx_bytes, "label": f"{one.period}: rx {one.rx_bytes} B"} for one in periods])
    chart.add(legend[1], [{"value": one.tx_bytes, "label": f"{one.period}: tx {one.tx_bytes} B"} for one in periods])
    chart.add_xml_filter(_clean)
    drawn: bytes = chart.render()
    return drawn


def _ticks(most: int) -> list[int]:
    """At most seven round amounts, from 0 to at least the largest."""
    unit = 1
    while most > unit * 1000:
        unit *= 1024
    step = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if n * 5 * unit >= most) * unit
    return list(range(0, max(-(-most // step), 1) * step + 1, step))


def _label(name: str) -> str:
    date, _, time = name.partition("T")
    return f"{date[5:]} {time[:5]}" if time else date


def _clean(root: Element) -> Element:
    """Remove pygal's scripts, and its comments with today's date. Show the label of a bar at the mouse."""
    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag.endswith("script"):
                parent.remove(child)
            elif child.get("class") == "label" and child.tag.endswith("desc"):
                child.tag = child.tag.replace("desc", "title")
    return root
