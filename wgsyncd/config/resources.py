"""Finds the files that come with wgsyncd: its SQL and the example configuration."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def text(name: str) -> str:
    """The text of ``etc/NAME``, such as ``sql/mikyun/wgsyncd.sql``. FileNotFoundError if no such file is shipped.

    An installed wgsyncd has these files in ``wgsyncd/etc/``. A source checkout has them in its top-level ``etc/``.
    """
    installed = resources.files("wgsyncd").joinpath("etc", *name.split("/"))
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parents[2] / "etc" / name).read_text(encoding="utf-8")
