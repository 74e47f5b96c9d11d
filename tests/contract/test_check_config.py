"""`wgsyncd check-config --database` enters the database and checks the tables, before a daemon starts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.node import CONFIG
from tests.store_sides import RealMikyunTables
from wgsyncd.cli.commands.check_config import CheckConfigReport
from wgsyncd.cli.main import main
from wgsyncd.demo.mariadb import ACCOUNT

SMALL = "ALTER TABLE customer_devices MODIFY rx_bytes_total INT UNSIGNED DEFAULT 0"
LARGE = "ALTER TABLE customer_devices MODIFY rx_bytes_total BIGINT NOT NULL DEFAULT 0"


@pytest.fixture
def config(real_tables: RealMikyunTables, tmp_path: Path) -> Path:
    server, file = real_tables._server, tmp_path / "wgsyncd.toml"
    where = f'[mikyun.database]\nsocket = "{server.socket}"\npassword_file = "{server.password_file}"\n'
    file.write_text(f'{CONFIG}{where}user = "{ACCOUNT}"\n')
    return file


def test_the_tables_are_checked_with_the_database(
    real_tables: RealMikyunTables, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["check-config", "--config", str(config)]
    try:
        real_tables.sql(SMALL)
        assert main(command) == 0, "without the option, nobody enters the database"
        assert "good, node r640" in capsys.readouterr().out
        assert main([*command, "--database"]) == 1
        said = capsys.readouterr().out
        assert "fault: customer_devices: rx_bytes_total is of type int(10) unsigned" in said
        assert f"mariadb --socket {real_tables._server.socket} -e" in said
        assert main([*command, "--database", "--json"]) == 1
        report = msgspec.json.decode(capsys.readouterr().out, type=CheckConfigReport)
        assert any("rx_bytes_total" in one.message for one in report.database)
    finally:
        real_tables.sql(LARGE)
    assert main([*command, "--database"]) == 0
    assert "rx_bytes_total" not in capsys.readouterr().out


def test_a_database_that_is_away_is_a_finding(config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = config.read_text()
    config.write_text(text.replace(text.partition('socket = "')[2].partition('"')[0], str(tmp_path / "nobody")))
    assert main(["check-config", "--config", str(config), "--database"]) == 1
    assert "2002" in (said := capsys.readouterr().out) or "2003" in said
