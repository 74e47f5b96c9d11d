"""The commands of `wgsyncd doctor` against an account that the database's server refuses."""

from __future__ import annotations

import pytest

from tests.shell.test_doctor_checks import SETTINGS
from wgsyncd.config.load import parse
from wgsyncd.stores.mikyun import cures, doctor
from wgsyncd.stores.mikyun.doctor import Database
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.trouble import translate

BY_SOCKET = parse(
    '[mikyun.database]\nsocket = "/run/s.sock"\nuser = "wgsyncd"\n[interfaces.wg0]\nnetworks = ["10.0.0.0/24"]'
)


def test_a_missing_right_to_the_database_names_the_account_that_the_server_names() -> None:
    """The host is the one from which the server saw wgsyncd come, not the server's own."""
    refused = translate(
        Exception(1044, "Access denied for user 'mikyun'@'10.0.0.%' to database 'x'"),
        mikyun(SETTINGS).database,
        known=True,
        at_login=True,
    )

    def examine(_: object) -> Database:
        raise refused

    (one,) = doctor.check(SETTINGS, examine)
    assert one.fix == "wgsyncd init-db --socket /run/mysqld/mysqld.sock --grants \"'mikyun'@'10.0.0.%'\""


@pytest.mark.parametrize(
    ("known", "mend"), [(True, 'mariadb --socket /run/s.sock -e "CREATE OR REPLACE USER '), (False, "id wgsyncd")]
)
def test_an_account_that_nobody_has_made(monkeypatch: pytest.MonkeyPatch, known: bool, mend: str) -> None:
    """MariaDB answers 1698 for an account that does not exist, as before the step "Account" of install.md."""
    monkeypatch.setattr(cures, "is_known", lambda _: known)

    def examine(_: object) -> Database:
        raise translate(Exception(1698, "why"), mikyun(BY_SOCKET).database, known=True, at_login=True)

    (one,) = doctor.check(BY_SOCKET, examine)
    assert one.fix.startswith(mend)


def test_an_account_that_somebody_locked() -> None:
    def examine(_: object) -> Database:
        locked = Exception(4151, "Access denied, this account is locked")
        raise translate(locked, mikyun(BY_SOCKET).database, known=True, at_login=True)

    (one,) = doctor.check(BY_SOCKET, examine)
    assert one.fix == "mariadb --socket /run/s.sock -e \"ALTER USER 'wgsyncd'@'localhost' ACCOUNT UNLOCK\""
