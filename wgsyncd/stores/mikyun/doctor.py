"""The checks of `wgsyncd doctor` on the database: access, tables, rights, time zone and clocks."""

import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import NTP, Finding, fault, ok, warning
from wgsyncd.core.usage.aside import Obstacle, SetAside
from wgsyncd.core.words import counted
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun import cures
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.trouble import MariaDBError
from wgsyncd.stores.reaching import show_way

_CLOCK = 2.0  # seconds by which the server's clock may differ
_FUTURE = 120.0  # seconds by which a time that the application wrote may lie in the future


@dataclass(frozen=True, slots=True)
class Database:
    """Facts about a database and wgsyncd's account in it. The texts name only accounts, tables and columns."""

    version: str  # as the server writes it: "10.11.19-MariaDB-0+deb12u1"
    account: str  # as GRANT expects it: 'mikyun'@'localhost'
    socket: str
    schema: str  # what is wrong with wgsyncd's own tables, or ""
    newer: bool  # the tables are of a newer version than this wgsyncd knows
    nodes: tuple[str, ...]  # nodes that have a node state in the database
    lacking: tuple[str, ...]  # rights that the shipped script grants and the account does not have
    secrets: tuple[str, ...]  # columns that the account can read and must not be able to read
    extra: tuple[str, ...]  # rights that the account has and does not need
    session_offset: int  # seconds east of UTC in wgsyncd's session
    server_offset: int  # seconds east of UTC for a client that sets no time zone
    ahead: float  # seconds by which the server's clock is ahead of this machine's clock, plus or minus ``doubt``
    doubt: float  # seconds
    newest: float | None  # UNIX seconds of the latest time that the application wrote, read in the node's zone
    set_aside: tuple[SetAside, ...] = ()  # devices with bytes that wait for their row
    unwritten: int = 0  # audit rows that wait, because admin_logs refused them
    holder: str = ""  # which host runs the node, and its last heartbeat
    application: tuple[Finding, ...] = ()  # what is wrong with the application's tables and the server


def check(settings: Settings, examine: Callable[[Settings], Database]) -> Iterator[Finding]:
    """All findings about the database. ``examine`` asks the database for the facts.

    Where the database cannot be entered, there is one finding, with the command that helps.
    """
    database = mikyun(settings).database
    where = database.socket or f"{database.host}:{database.port}"
    try:
        facts = examine(settings)
    except StoreError as error:
        file = database.password_file
        if os.geteuid() and (not os.access(file, os.R_OK) if file is not None else _number(error) == 1698):
            why = f"{file} is not for you to read" if file is not None else f"you are not the user {database.user}"
            yield warning("database", f"{where}: not entered: {why}", "sudo wgsyncd doctor")
            return
        yield fault("database", f"{where}: {error.text}", _entering(settings, error))
        return
    yield ok("database", f"{where}, {database.name} as {facts.account}")
    yield ok("server", f"MariaDB {facts.version}")
    yield _schema(facts, settings)
    yield _rights(facts, settings)
    yield _secrets(facts, settings)
    yield _rows(facts, settings)
    if facts.unwritten:
        rows = counted(facts.unwritten, "audit row waits", "audit rows wait")
        why = f"{rows} in wgsyncd_unwritten, refused by admin_logs"
        yield warning("audit trail", why, "journalctl -u wgsyncd -g 'admin_logs refuses' -n 5 --no-pager")
    yield from facts.application or [ok("application", "its tables and the server are as wgsyncd needs them")]
    yield _zone(facts, settings)
    yield _application(facts, settings)
    yield _clock(facts)


def _number(error: StoreError) -> int | None:
    return error.number if isinstance(error, MariaDBError) else None


def _entering(settings: Settings, error: StoreError) -> str:
    if error.todo:
        return error.todo
    number = _number(error)
    database = mikyun(settings).database
    if number == 2005 or (number in (2003, 2026) and (not database.is_local or "ssl" in str(error).lower())):
        return show_way(error, database.host, database.port, "mysql", database.tls_ca)
    if number in (2002, 2003):
        return "systemctl start mariadb && journalctl -u mariadb -n 20 --no-pager"
    if database.tls_ca is not None and "tls_ca" in str(error):
        authority = shlex.quote(str(database.tls_ca))
        return f"ls -l {authority} && openssl x509 -in {authority} -noout -subject -dates"
    look = f"timeout 5 {cures.mariadb(database, 'SHOW FULL PROCESSLIST')}"  # a server that hangs lets in, and is silent
    return f"{look} || systemctl status mariadb" if database.is_local else look


def _init(facts: Database, settings: Settings) -> str:
    return cures.init_db(mikyun(settings).database, facts.account, facts.socket)


def _asks(facts: Database, settings: Settings, sql: str) -> str:
    return cures.mariadb(mikyun(settings).database, sql, facts.socket)


def _schema(facts: Database, settings: Settings) -> Finding:
    if facts.newer:
        return fault("tables", facts.schema, "apt-get install ./wgsyncd_*.deb  # a later one, see man wgsyncd-install")
    if facts.schema:
        return fault("tables", facts.schema, _init(facts, settings))
    if facts.nodes and settings.node.name not in facts.nodes:
        return warning(
            "tables", f"{settings.node.name} has no node state, but {', '.join(facts.nodes)}: was this server renamed?",
            "wgsyncd plan",
        )  # fmt: skip
    holder = f". {settings.node.name}: {facts.holder}" if facts.holder else ""
    return ok("tables", f"wgsyncd's own are there, for {', '.join(facts.nodes) or 'no node yet'}{holder}")


def _rights(facts: Database, settings: Settings) -> Finding:
    if facts.lacking:
        return fault("rights", f"{facts.account} lacks {'; '.join(facts.lacking)}", _init(facts, settings))
    if facts.extra:
        return warning("rights", f"{facts.account} also has {'; '.join(facts.extra)}", _anew(facts, settings))
    return ok("rights", f"{facts.account} has what it needs, column by column, and no more")


def _secrets(facts: Database, settings: Settings) -> Finding:
    if facts.secrets:
        return fault("secrets", f"{facts.account} can read {', '.join(facts.secrets)}", _anew(facts, settings))
    return ok("secrets", "private keys, passphrases and personal data cannot be read")


def _rows(facts: Database, settings: Settings) -> Finding:
    refused = [one for one in facts.set_aside if one.obstacle is Obstacle.REFUSED]
    if refused:
        first, name = f"{refused[0].device}: {refused[0].detail}", mikyun(settings).database.name
        return fault(
            "rows", f"the server refuses to change {len(refused)}, so bytes are set aside: {first}",
            _asks(facts, settings, f"SHOW TRIGGERS FROM `{name}`; SHOW CREATE TABLE `{name}`.customer_devices"),
        )  # fmt: skip
    if facts.set_aside:
        return fault(
            "rows", f"another program has locked {len(facts.set_aside)}, so bytes are set aside",
            _asks(facts, settings, "SELECT * FROM information_schema.innodb_trx"),
        )  # fmt: skip
    return ok("rows", "no bytes are set aside")


def _anew(facts: Database, settings: Settings) -> str:
    revoked = _asks(facts, settings, f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {facts.account}")
    return f"{revoked} && {_init(facts, settings)}"


def _offset(zone: Settings) -> int:
    delta = datetime.fromtimestamp(time.time(), zone.node.zone).utcoffset()
    return int(delta.total_seconds()) if delta is not None else 0


def _hours(offset: int) -> str:
    return f"{'-' if offset < 0 else '+'}{abs(offset) // 3600:02}:{abs(offset) % 3600 // 60:02}"


def _zone(facts: Database, settings: Settings) -> Finding:
    ours = _offset(settings)
    if facts.session_offset != ours:
        return fault(
            "time zone", f"our session is at {_hours(facts.session_offset)}, {settings.node.zone} is at {_hours(ours)}",
            _asks(facts, settings, "SELECT @@global.init_connect, @@global.time_zone"),
        )  # fmt: skip
    if facts.server_offset != ours:
        return warning(
            "time zone", f"node.zone is {settings.node.zone} ({_hours(ours)}), the server's default is"
            f" {_hours(facts.server_offset)}. If the application sets no zone of its own, QR codes end at a wrong time."
            " Then set node.zone to the zone in which the application writes",
            "editor /etc/wgsyncd/wgsyncd.toml && wgsyncd reload",
        )  # fmt: skip
    return ok("time zone", f"{settings.node.zone}, {_hours(ours)}, here and by the server's default")


def _application(facts: Database, settings: Settings) -> Finding:
    if facts.newest is not None and (ahead := facts.newest - time.time()) > _FUTURE:
        return fault(
            "written times", f"the latest device was created or issued {ahead / 3600:.1f} h from now: the application"
            f" does not write times of {settings.node.zone}, so QR codes end that much too late. Set node.zone to the"
            " zone in which it writes",
            _asks(facts, settings, "SELECT @@global.time_zone, @@system_time_zone, NOW(), UTC_TIMESTAMP()"),
        )  # fmt: skip
    return ok("written times", "no device was created or issued in the future")


def _clock(facts: Database) -> Finding:
    if abs(facts.ahead) > _CLOCK + facts.doubt:
        return fault(
            "database clock", f"it is {abs(facts.ahead):.1f} s {'ahead of' if facts.ahead > 0 else 'behind'} ours",
            NTP,
        )  # fmt: skip
    return ok("database clock", f"agrees with ours within {max(facts.doubt, 0.01):.2f} s")
