"""Knows the tables as shipped, and a row that each of wgsyncd's own has to take."""

import re
from collections.abc import Mapping

from wgsyncd.config import resources

# By the beginning of a type: the largest value that wgsyncd may write. Texts begin with the number of the connection.
# So two trials never meet.
_VALUES = {
    r"VARCHAR\((\d+)\)": "LEFT(CONCAT(CONNECTION_ID(), REPEAT('端', {0})), {0})",
    r"TEXT": "REPEAT('端', 2000)",
    r"BINARY\((\d+)\)": "REPEAT('x', {0})",
    r"BIGINT UNSIGNED": "9223372036854775807",
    r"BIGINT": "2000000000000000000",
    r"TINYINT|INT": "1",
    r"DOUBLE": "4000000000.5",
    r"DATE": "'2026-01-02'",
}


def own_tables() -> Mapping[str, Mapping[str, str]]:
    """By table, and by column: its definition. wgsyncd_schema is left out, because the daemon writes nothing there."""
    found: dict[str, dict[str, str]] = {}
    script = re.sub(r"--[^\n]*", "", resources.text("sql/mikyun/wgsyncd.sql"))
    for table, body in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+) \((.*?)\n\)", script, re.DOTALL):
        if table != "wgsyncd_schema":
            lines = (re.fullmatch(r"\s*([a-z_]+)\s+([A-Z].*?),?\s*", line) for line in body.split("\n"))
            found[table] = {one[1]: " ".join(one[2].split()) for one in lines if one}
    return found


def trial(table: str, columns: Mapping[str, str]) -> str:
    """An INSERT of one row with the largest values. It sets no number that the server counts."""
    written = {name: _value(definition) for name, definition in columns.items() if "AUTO_INCREMENT" not in definition}
    return f"INSERT INTO {table} ({', '.join(written)}) VALUES ({', '.join(written.values())})"  # noqa: S608


def as_shipped(definition: str) -> str:
    """A definition for ALTER TABLE. It names the character set, because the table's may be another one by now."""
    if "CHARACTER SET" in definition or not definition.startswith(("VARCHAR", "TEXT")):
        return definition
    return re.sub(r"^(VARCHAR\(\d+\)|TEXT)", r"\1 CHARACTER SET utf8mb4", definition)


def _value(definition: str) -> str:
    for kind, value in _VALUES.items():
        if found := re.match(kind, definition):
            return value.format(*found.groups())
    raise AssertionError(definition)


def reference(table: str, column: str) -> str:
    script = resources.text("sql/mikyun/mikyun_cloud.sql")
    of_table = re.search(rf"CREATE TABLE {table} \((.*?)\n\)", script, re.DOTALL)[1]  # type: ignore[index]
    definition = re.search(rf"^\s*{column}\s+(.*?),?$", of_table, re.MULTILINE)[1]  # type: ignore[index]
    return " ".join(definition.split())
