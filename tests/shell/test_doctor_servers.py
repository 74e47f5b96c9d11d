"""The commands of `wgsyncd doctor` for the database go to the server that answered."""

from __future__ import annotations

from functools import partial

import pytest

from wgsyncd.config.load import parse
from wgsyncd.stores.mikyun import doctor
from wgsyncd.stores.mikyun.doctor import Database
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.trouble import translate


@pytest.mark.parametrize(
    ("entry", "init", "client"),
    [
        ("port = 3306", "--socket /run/mysqld/mysqld.sock", "mariadb -e"),
        ('socket = "/run/copy.sock"', "--socket /run/copy.sock", "mariadb -e"),
        ("port = 3307", "--password-file FILE", "mariadb -e"),
        ('host = "db.example"', "--password-file FILE", "mariadb --host db.example --port 3306 --password -e"),
    ],
)
def test_a_cure_is_for_the_server_that_answered(entry: str, init: str, client: str) -> None:
    """An older copy on another port or machine lacks rights, and the server of this machine is another one."""
    settings = parse(f'[mikyun.database]\n{entry}\n[interfaces.wg0]\nnetworks = ["10.0.0.0/24"]')
    there = mikyun(settings).database.there

    def examine(
        _: object, text: str = "SELECT command denied to user 'w'@'h' for table `c`", number: int = 1142
    ) -> Database:
        raise translate(Exception(number, text), known=True, there=there)

    (one,) = doctor.check(settings, examine)
    assert one.fix == f"wgsyncd init-db {init} --grants \"'w'@'h'\""
    (one,) = doctor.check(settings, partial(examine, text="Too many connections", number=1040))
    assert one.fix == f"{client} 'SHOW FULL PROCESSLIST'"
