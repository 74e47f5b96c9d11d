"""Manual pages of section 7, from pages of etc/doc."""

from __future__ import annotations

import subprocess
from pathlib import Path

from etc.debian.roff import ascii_only, head

PAGES = {
    "install": "install wgsyncd on a server",
    "runbook": "what to do about each alert of wgsyncd",
}


def markdown_page(name: str) -> str:
    """wgsyncd-NAME(7) from etc/doc/NAME.md, by lowdown."""
    text = Path(__file__).parents[1].joinpath("doc", f"{name}.md").read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    assert title.startswith("# "), title
    # The page's title becomes the manual page's name, so its sections move up by one level.
    argv = ["lowdown", "-tman", "--nroff-nolinks", "-M", "shiftheadinglevelby=-1"]
    made = subprocess.run(argv, input=f"\n{rest}", capture_output=True, text=True, check=True).stdout
    body = ascii_only(made.strip()).replace("\\fC", "\\fB")  # `code` is bold, as in the other pages
    above = ["'\\\" t", *head(f"wgsyncd-{name}", 7, PAGES[name]), ".SH DESCRIPTION"]  # the first line: man needs tbl(1)
    below = [".SH SEE ALSO", "\\fBwgsyncd\\fR(8), \\fBwgsyncd.toml\\fR(5), /usr/share/doc/wgsyncd/etc/doc"]
    return "\n".join([*above, body, *below]) + "\n"
