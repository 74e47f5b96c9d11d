"""Makes a StoreError of everything that can go wrong at the border to MariaDB and its driver.

What the driver raises, and an answer that makes no sense, is trouble that passes. It never ends the daemon.
"""

import re

from wgsyncd.errors import SchemaError, StoreError, StoreErrorCode
from wgsyncd.stores.mikyun import cures
from wgsyncd.stores.mikyun.settings import Database

# Error numbers of MariaDB (mariadb.com/kb: "MariaDB Error Codes") for which wgsyncd knows what to do.
NO_SUCH_TABLE, SYNTAX, LOCK_WAIT_TIMEOUT, DEADLOCK, DENIED, TIMED_OUT = 1146, 1064, 1205, 1213, 1045, 1969
TOO_MANY, LOST = 1040, 2013
# The texts of these errors quote hosts, accounts, tables, columns and variables, but never values.
NAMES_ONLY = frozenset((
    2002, 2003, 2005, 2026, 2059, 1044, 1045, 1048, 1049, 1054, 1142, 1143, 1146, 1176, 1193, 1226, 1227, 1264, 1265,
    1184, 1267, 1270, 1290, 1356, 1364, 1370, 1406, 1449, 1698,
))  # fmt: skip
_FREE_TEXT = frozenset((1644,))  # the text is the application's own (SIGNAL)
_ADVICE = {
    DENIED: ". The account that made a view or a trigger there is gone: make it again",
    1044: ". Is mikyun.database.name right?",
    1049: ". Is mikyun.database.name right? Was it lost? Then restore it. Only if no application makes it, make it",
    NO_SUCH_TABLE: ". The application makes its tables: see Tables in man wgsyncd-install",
    TOO_MANY: ". Programs keep connections open",
    LOCK_WAIT_TIMEOUT: ". Another connection holds a lock. The longest one that sleeps is the likely one",
    1133: ". Create the account first: CREATE USER",
    TIMED_OUT: ". A trigger or a view there may be slow",
    SYNTAX: ". The server or a proxy does not know this SQL, or it is a bug of wgsyncd",
}
# What shows the cause to root. MariaDB keeps one connection more for its administrator.
_ASKED = {TOO_MANY: "SHOW FULL PROCESSLIST", LOCK_WAIT_TIMEOUT: cures.SESSIONS}
_ADVICE_OF_ROWS = dict.fromkeys(
    (1044, 1142, 1143, 1227, 1370), ". The account that made a trigger lacks this right: grant it, or drop the trigger"
)
# Only while connecting do these numbers speak of our account.
_ADVICE_AT_LOGIN = {
    DENIED: ". Check mikyun.database.user and its password. An account with REQUIRE SSL needs tls_ca",
    1698: ". It does not exist, or only the system's user of that name may enter, through the socket: see Account in"
    " man wgsyncd-install",
}
_VALUES = re.compile(r"(?<![A-Za-z])'(?:[^'\\]|\\.)*'")  # not the apostrophe of "Can't connect"
_NAME_FOLLOWS = re.compile(r"\b(column|field|key|table|view|variable|database|user|plugin|constraint|trigger) $", re.I)
_ACCOUNT = re.compile(r"\buser ('[^']*'@'[^']*')")
_CODES = {
    **dict.fromkeys((2002, 2003, 2006, LOST), StoreErrorCode.UNREACHABLE),
    2005: StoreErrorCode.UNRESOLVED,
    **dict.fromkeys((1044, 1045, 1142, 1143, 1227, 1698), StoreErrorCode.DENIED),
    **dict.fromkeys((1049, NO_SUCH_TABLE), StoreErrorCode.SCHEMA),
    **dict.fromkeys((LOCK_WAIT_TIMEOUT, DEADLOCK), StoreErrorCode.LOCKED),
}


class MariaDBError(StoreError):
    """An error of the server or the driver. ``number`` is MariaDB's, None if MariaDB gave no number."""

    def __init__(self, text: str, number: int | None, todo: str = "") -> None:
        self.number = number
        super().__init__(text, _CODES.get(number or 0, StoreErrorCode.OTHER), todo)


def translate(
    error: Exception, database: Database, *, known: bool, at_login: bool = False, of_rows: bool = False
) -> StoreError:
    """A StoreError for an error: its number, its text, and what to do about it at this database.

    ``of_rows``: the error is of a change of rows, so a trigger may have caused it.

    ``known``: the driver says by this error what the server said. Any other error is an answer that the driver could
    not read, and its text may hold anything, so the error's type stands for it. Quoted values are left out, because
    they may be keys.
    """
    if not known:
        if isinstance(error, OSError):
            return MariaDBError(f"the connection failed: {error.strerror or error}", None)
        return MariaDBError(f"the server's answer cannot be read ({type(error).__name__})", None)
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    text = str(error.args[1]) if len(error.args) > 1 else str(error) or type(error).__name__
    if number == NO_SUCH_TABLE and "wgsyncd_" in text:
        return SchemaError("wgsyncd's own tables are missing", cures.init_db(database))
    special = _ADVICE_AT_LOGIN if at_login else _ADVICE_OF_ROWS if of_rows else {}
    if at_login and number == DENIED and "using password: NO" in text:
        special = {DENIED: ". It does not exist, or it needs a password: see Account in man wgsyncd-install"}
    advice = special.get(number or 0) or _ADVICE.get(number or 0, "")
    if number == LOST and "timed out" in text:
        advice = ". The server hangs or is too slow: it did not answer within mikyun.database.timeout"
    todo = _todo(database, number or 0, text, at_login=at_login) if at_login or number not in special else ""
    return MariaDBError(f"{f'{number}: ' if number else ''}{_masked(text, number)[:300]}{advice}", number, todo)


def _todo(database: Database, number: int, text: str, *, at_login: bool) -> str:
    """The command that helps, for root. "": only a look at the configuration can tell it."""
    if number in (1044, 1142, 1143):
        account = _ACCOUNT.search(text)
        return cures.init_db(database, account[1] if account else "ACCOUNT")
    if number in _ASKED:
        return cures.mariadb(database, _ASKED[number])
    return cures.login(database, number) if at_login or number == 1049 else ""


def _masked(text: str, number: int | None) -> str:
    """The text without quoted values. Quoted names stay, because an admin needs them."""
    if number in NAMES_ONLY:
        return text

    def mask(quoted: re.Match[str]) -> str:
        is_name = number not in _FREE_TEXT and _NAME_FOLLOWS.search(text, max(0, quoted.start() - 20), quoted.start())
        return quoted[0] if is_name else "'…'"

    return _VALUES.sub(mask, text)
