"""The commands that help root against trouble with the MariaDB server of the settings in use."""

import shlex

from wgsyncd.config import resources
from wgsyncd.stores.account import init_db_with_password, is_known
from wgsyncd.stores.mikyun.settings import AdminDatabase, Database

SOCKET = "/run/mysqld/mysqld.sock"  # Debian's, which the program mariadb takes by itself
# A session that waits holds back nobody else for long. One that sleeps may hold tables by LOCK TABLES or a transaction.
SESSIONS = (
    "SELECT CONCAT('KILL ', id) AS ends_it, user, host, db, command, time, info FROM"
    " information_schema.processlist WHERE id <> CONNECTION_ID() AND command <> 'Daemon' AND state NOT LIKE 'Waiting%'"
    " ORDER BY time DESC"
)


def socket_of(database: Database, known: str = "") -> str:
    """The unix socket at which root may enter the server. "": root has to come by the network, with a password.

    ``known``: what the server says of its socket, which is on another machine for a server of another machine.
    """
    if database.socket is not None or not database.is_local:
        return database.socket or ""
    socket = known or SOCKET
    return "" if socket == SOCKET and database.port != Database().port else socket  # that port leads to another server


def mariadb(database: Database, sql: str, known: str = "", name: str = "") -> str:
    """A command by which root runs statements at the server. ``name``: the database of names without one."""
    socket = socket_of(database, known)
    where = "" if socket == SOCKET else f" --socket {shlex.quote(socket)}"
    if not socket:
        where = f" --host {shlex.quote(database.host)} --port {database.port} --user root --password"
    return f"mariadb{where}{f' {shlex.quote(name)}' if name else ''} -e {quoted(sql)}"


def init_db(database: Database, account: str = "", known: str = "") -> str:
    """The command that makes wgsyncd's own tables. ``account``: which one gets its rights, as GRANT writes it."""
    grants = f" --grants {quoted(account)}" if account else ""
    if socket := socket_of(database, known):
        return f"wgsyncd init-db --socket {shlex.quote(socket)}{grants}"
    return init_db_with_password(database.host, grants)


def login(database: Database, number: int) -> str:
    """What helps if the server refuses the account. "" if only a look at the configuration can tell it."""
    user, file = database.user, database.password_file
    account = f"'{user}'@'localhost'"
    if number == 1049:
        tables = resources.path("sql/mikyun/mikyun_cloud.sql")
        made = mariadb(database, f"CREATE DATABASE `{database.name}` CHARACTER SET utf8mb4")
        return f"{made} && {mariadb(database, f'SOURCE {tables}', name=database.name)}"
    if number == 1045 and file is not None:
        restart = "" if isinstance(database, AdminDatabase) else " && systemctl restart wgsyncd"
        return f"editor {shlex.quote(str(file))}{restart}"
    if isinstance(database, AdminDatabase):  # root came by the network, and without a password
        return init_db(database) if number in (1045, 1698) and not (database.socket or file) else ""
    if number in (1045, 1698) and database.socket and user == "wgsyncd" and is_known(user):  # man wgsyncd-install
        made = f"CREATE OR REPLACE USER {account} IDENTIFIED VIA unix_socket"
        return f"{mariadb(database, made)} && {init_db(database, account)}"
    if number == 4151 and database.socket:  # somebody locked the account
        return mariadb(database, f"ALTER USER {account} ACCOUNT UNLOCK")
    if number == 1045:
        return mariadb(database, f"SELECT host, plugin FROM mysql.user WHERE user = '{user}'")  # noqa: S608
    return f"id {shlex.quote(user)}" if number == 1698 else ""  # MariaDB knows the account by the system's user


def quoted(text: str) -> str:
    """A text as one word of a shell. It stands in double quotes where these are enough."""
    return f'"{text}"' if not set(text) & set('"$`\\!\n') else shlex.quote(text)
