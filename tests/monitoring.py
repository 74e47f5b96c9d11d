"""Reads the alerts of etc/prometheus and the dashboard of etc/grafana for tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wgsyncd

TOP = Path(wgsyncd.__file__).resolve().parent.parent
RULES = TOP / "etc" / "prometheus" / "wgsyncd.rules.yml"
RULE_TESTS = sorted((RULES.parent / "tests").glob("*.yml"))
DASHBOARD = TOP / "etc" / "grafana" / "wgsyncd.json"

_LABEL_LISTS = re.compile(r"\b(?:on|by|without|ignoring|group_left|group_right) ?\([^)]*\)|\[[^\]]*\]")
_SELECTOR = re.compile(r"\b[a-zA-Z_:][\w:]*\b(?:\{[^}]*\})?(?!\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset"}


@dataclass(frozen=True)
class Alert:
    """One alerting rule, with its text as it is in the file."""

    name: str
    text: str

    @property
    def expr(self) -> str:
        """The PromQL expression of the rule."""
        block = re.search(r"expr: \|-\n((?: {10}.*\n)+)", self.text)
        if block:
            return block[1]
        line = re.search(r"expr: (.+)", self.text)
        assert line, self.name
        return line[1]

    def field(self, name: str) -> str:
        """The value of a field that has one line. Empty if the rule does not have the field."""
        found = re.search(rf"\b{name}: ([^\n}}]+)", self.text)
        return found[1].strip('"') if found else ""


def alerts(text: str = "") -> list[Alert]:
    """The alerts of ``text``, or of the shipped rules.

    Regular expressions read the file, because we decide its form. In other tests real Prometheus reads it.
    """
    parts = re.split(r"^      - alert: ", text or RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [Alert(part.partition("\n")[0], part) for part in parts]


def dashboard() -> dict[str, Any]:
    """The dashboard, decoded."""
    decoded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return decoded


def panels() -> Iterator[dict[str, Any]]:
    """All panels of the dashboard, also the panels in closed rows."""
    for panel in dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries() -> list[tuple[str, str]]:
    """The title of its panel and the expression of each query of the dashboard."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", ())]


def selectors(expr: str) -> set[str]:
    """The series that an expression selects, each with its labels. Functions, keywords and label lists are left out."""
    return {found[0] for found in _SELECTOR.finditer(_LABEL_LISTS.sub("", expr))} - _WORDS


def names(expr: str) -> set[str]:
    """The names of the series that an expression selects, without labels."""
    return {selector.partition("{")[0] for selector in selectors(expr)}
