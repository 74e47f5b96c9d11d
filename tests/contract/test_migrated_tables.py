"""The tests of the store pass on tables that `init-db` brought from versions 1 and 2, with data in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.contract import (
    test_store,
    test_store_holder,
    test_store_posting,
    test_store_quarantine,
    test_store_removals,
    test_store_usual,
)
from tests.samples import TOKYO
from tests.store_sides import RealMikyunTables
from wgsyncd.config import resources
from wgsyncd.demo.mariadb import ACCOUNT, PrivateServer
from wgsyncd.stores.mikyun import schema
from wgsyncd.stores.mikyun.settings import Database

VERSION_2 = Path(__file__).parents[1] / "real" / "tables_of_version_2.sql"
OWN = [
    one.split()[5] for one in schema.statements(resources.text("sql/mikyun/wgsyncd.sql")) if "IF NOT EXISTS w" in one
]
DATA = """INSERT INTO wgsyncd_nodes VALUES ('old', 7, NULL, 1700000000, '');
    INSERT INTO wgsyncd_peers VALUES ('old', 'wg0', x'aa', 1, 'old', '0001', '10.200.0.9/32', x'aa', 'present', 'boot:3', 1, 2, 0, 1);
    INSERT INTO wgsyncd_buckets VALUES (1, 900, 11, 12);
    INSERT INTO wgsyncd_days VALUES (1, '2020-01-01', 11, 12);
"""
VERSION_1 = "ALTER TABLE wgsyncd_nodes DROP COLUMN begun, DROP COLUMN spool; UPDATE wgsyncd_schema SET version = 1"
MODULES = (
    test_store, test_store_holder, test_store_posting, test_store_quarantine, test_store_removals, test_store_usual,
)  # fmt: skip
# pytest collects them here once more, with the fixtures of this file.
globals().update({
    name: one for module in MODULES for name, one in vars(module).items() if name.startswith("test_")
})  # fmt: skip


def shape(server: PrivateServer) -> list[str]:
    """What makes the tables: columns, keys and character sets, without the next number."""
    made = [server.sql(f"SHOW CREATE TABLE {name}")[0]["Create Table"] for name in OWN]
    return [str(one).partition(") ENGINE")[0] for one in made]


@pytest.fixture(scope="module", params=[1, 2])
def mariadbd(request: pytest.FixtureRequest) -> Iterator[PrivateServer]:
    with PrivateServer() as server:
        server.load()
        server.create_account()
        server.sql(f"DROP TABLE {', '.join(OWN)}; {VERSION_2.read_text()}; {DATA}")
        if request.param == 1:
            server.sql(VERSION_1)
        admin = Database().for_admin(str(server.connect_args["user"]), str(server.socket), None)
        assert schema.init(admin, TOKYO, f"'{ACCOUNT}'@'localhost'")[0].startswith(f"tables of version {request.param}")
        yield server


@pytest.fixture
def tables(mariadbd: PrivateServer) -> Iterator[RealMikyunTables]:
    with ExitStack() as stack:
        yield RealMikyunTables(mariadbd, stack)


any_tables = row_tables = tables
sent = test_store_usual.sent


def test_migrated_tables_are_those_that_are_made_now(tables: RealMikyunTables) -> None:
    with PrivateServer() as other, ExitStack() as stack:
        other.load()
        assert shape(RealMikyunTables(other, stack)._server) == shape(tables._server)
