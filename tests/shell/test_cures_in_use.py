"""Each printed command uses the server, the account and the files of the settings in use, not the usual ones."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.shell.test_cures import PROGRAM, texts, trees
from tests.shell.test_doctor_checks import OURS
from wgsyncd.config.load import parse
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun import doctor
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.trouble import translate
from wgsyncd.stores.nexavpn import connection
from wgsyncd.stores.nexavpn.settings import Database as Nexavpns

LOGIN = "Access denied for user 'other'@'10.0.0.7' to database 'shop'"
SOCKET = "--socket /run/mysqld/mysqld.sock"
WAYS = {
    # the settings of the server, and the options with which root enters it
    "another socket": ('socket = "/run/other.sock"', "--socket /run/other.sock", "--socket /run/other.sock"),
    "the usual server": ("port = 3306", "(shop )?-e", SOCKET),
    "another port": ("port = 3307", "--host 127.0.0.1 --port 3307 --user root --password", "--password-file "),
    "another machine": ('host = "db.example"\nport = 3307', "--host db.example --port 3307 --user root --password",
                        "--password-file "),
}  # fmt: skip


def configured(database: str) -> Any:
    file = 'password_file = "/srv/secret/db pass"'
    return parse(
        f'[mikyun.database]\n{database}\nname = "shop"\nuser = "other"\n{file}\n'
        '[interfaces.wg0]\nnetworks = ["10.200.0.0/24"]'
    )


def findings(settings: Any, **changes: Any) -> list[str]:
    return [one.fix for one in doctor.check(settings, lambda _: replace(OURS, **changes)) if one.fix]


@pytest.mark.parametrize("way", WAYS)
def test_root_enters_the_server_in_use(way: str) -> None:
    database, client, admin = WAYS[way]
    settings = configured(database)
    found = [
        translate(Exception(number, LOGIN), mikyun(settings).database, known=True, at_login=at_login).todo
        for number in (1040, 1044, 1049, 1142, 1205, 1045)
        for at_login in (True, False)
    ]
    refused = (SetAside("x", Obstacle.REFUSED, "why", 1.0),)
    found += findings(
        settings, schema="of version 1", lacking=("SELECT on x",), secrets=("x",), session_offset=0, newest=9e9,
        set_aside=refused,
    )  # fmt: skip
    found += findings(settings, extra=("DROP on everything",))
    wgsyncds = [one for one in found if "wgsyncd init-db" in one]
    clients = [one for command in found for one in re.split(" && ", command) if one.startswith("mariadb")]
    assert len(wgsyncds) >= 5
    assert len(clients) >= 6
    assert not [one for one in wgsyncds if f"wgsyncd init-db {admin}" not in one]
    assert not [one for one in clients if not re.match(f"mariadb {client} ", one)]


def test_a_refused_password_names_its_file() -> None:
    settings = configured('socket = "/run/other.sock"')
    refused = Exception(1045, "Access denied for user 'other'@'localhost' (using password: YES)")
    found = translate(refused, mikyun(settings).database, known=True, at_login=True)
    assert isinstance(found, StoreError)
    assert found.todo == "editor '/srv/secret/db pass' && systemctl restart wgsyncd"
    admin = mikyun(settings).database.for_admin("root", None, Path("/etc/wgsyncd/admin"))
    assert translate(refused, admin, known=True, at_login=True).todo == "editor /etc/wgsyncd/admin"


@pytest.mark.parametrize("number", [1045, 1698])
@pytest.mark.parametrize("way", WAYS)
def test_an_administrator_without_a_password_is_told_how_to_enter(way: str, number: int) -> None:
    entry, _, entrance = WAYS[way]
    admin = mikyun(configured(entry)).database.for_admin("root", None, None)
    refused = translate(Exception(number, "Access denied"), admin, known=True, at_login=True)
    assert (f"wgsyncd init-db {entrance}" in refused.todo) is (way != "another socket")


def test_a_database_that_is_not_there_is_made_by_a_command() -> None:
    missing = Exception(1049, "Unknown database 'shop'")
    found = translate(missing, mikyun(configured("")).database, known=True, at_login=True).todo
    *_, statement = shlex.split(found)
    assert Path(statement.removeprefix("SOURCE ")).read_text(encoding="utf-8").count("CREATE TABLE") >= 3


@pytest.mark.parametrize("error", [psycopg.errors.InsufficientPrivilege("x"), psycopg.errors.UndefinedTable("x")])
@pytest.mark.parametrize(
    ("host", "mend"), [("/run/postgresql", "wgsyncd init-db"), ("db.example", "wgsyncd init-db --password-file ")]
)
def test_tables_and_rights_of_a_postgresql_elsewhere(
    monkeypatch: pytest.MonkeyPatch, error: psycopg.Error, host: str, mend: str
) -> None:
    def log_in(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(connection, "log_in", log_in)
    with pytest.raises(StoreError) as refused:
        connection.Connection(Nexavpns(hosts=(host,))).query("SELECT 1")
    assert any(one.startswith(mend) for one in refused.value.todo.split(" && "))
    assert ("password" in refused.value.todo) is (host == "db.example")


def test_one_file_alone_knows_how_root_enters_mariadb() -> None:
    """Elsewhere a text could only name the usual server."""
    found = {
        file.relative_to(PROGRAM): text
        for file, tree in trees()
        for text in texts(tree)
        if re.search(r"(?<!-u )\bmariadb(-admin)? [-p]|/run/mysqld|\bpsql -c", text) and file.parts[-2] != "demo"
    }
    assert found.keys() == {Path("stores/mikyun/cures.py")}, found
