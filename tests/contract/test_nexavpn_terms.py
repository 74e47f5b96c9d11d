"""NexaVPN's users have the bandwidth profiles of their groups, as the settings name them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.nexavpn_sides import NexavpnTables, named
from wgsyncd.config.schema import Settings
from wgsyncd.core.shaping.profiles import Terms
from wgsyncd.stores.nexavpn.backend import Backend
from wgsyncd.stores.nexavpn.settings import Nexavpn, Policies

SHAPING = """
[shaping]
mode = "enforce"
[bandwidth.fast]
down = "8Mbit"
[bandwidth.slow]
down = "800kbit"
"""


@pytest.fixture
def nexa(nexa: NexavpnTables) -> NexavpnTables:
    nexa.insert(5)
    for group in ("staff", "Guests; DROP", "others"):
        nexa.sql("INSERT INTO groups (id, name) VALUES (%s, %s)", named(group), group)
    return nexa


@pytest.fixture(autouse=True)
def without_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No policies, which need the groups, too. With shaping, two groups have a profile."""
    plain = NexavpnTables.settings

    def settings(self: NexavpnTables, extra: str = "", **node: Any) -> Settings:
        found = plain(self, extra, **node)
        assert isinstance(found.store, Nexavpn)
        own = msgspec.structs.replace(found.store, policies=Policies(enforce=False))
        groups = {"staff": "fast", "Guests; DROP": "slow"} if extra else {}
        shaping = msgspec.structs.replace(found.shaping, by_group=groups)
        return msgspec.structs.replace(found, store=own, shaping=shaping)

    monkeypatch.setattr(NexavpnTables, "settings", settings)


def join(tables: NexavpnTables, group: str) -> None:
    tables.sql("INSERT INTO group_memberships VALUES (%s, %s, %s)", named(f"m {group}"), named(group), named("alice"))


def test_the_first_group_that_the_settings_name_counts(nexa: NexavpnTables) -> None:
    store = nexa.store(SHAPING)
    (row,) = store.snapshot().rows
    assert store.snapshot().terms == {}
    join(nexa, "others")
    assert store.snapshot().terms == {}
    join(nexa, "Guests; DROP")
    assert store.snapshot().terms == {row.owner: Terms("slow")}
    join(nexa, "staff")
    assert store.snapshot().terms == {row.owner: Terms("fast")}
    nexa.update("groups", named("staff"), deleted_at="2026-01-01")
    assert store.snapshot().terms == {row.owner: Terms("slow")}


def test_without_shaping_nobody_asks(nexa: NexavpnTables) -> None:
    join(nexa, "staff")
    assert nexa.store().snapshot().terms == {}


def test_a_changed_group_changes_the_digest_only_with_shaping(nexa: NexavpnTables) -> None:
    shaped, plain = nexa.store(SHAPING), nexa.store()
    before = [one.digest(at_once=True) for one in (shaped, plain)]
    join(nexa, "staff")
    after = [one.digest(at_once=True) for one in (shaped, plain)]
    assert (after[0] != before[0], after[1] != before[1]) == (True, False)
    nexa.sql("UPDATE groups SET name = 'crew' WHERE name = 'staff'")
    assert shaped.digest(at_once=True) != after[0]


def test_doctor_names_groups_without_a_user_of_this_gateway(nexa: NexavpnTables) -> None:
    nexa.store(SHAPING)  # the node gets its gateways
    join(nexa, "staff")
    (found,) = [one for one in Backend(nexa.settings(SHAPING)).check() if one.check == "groups"]
    assert found.message.startswith("no user of this gateway is in Guests; DROP, which shaping.by_group names")
    join(nexa, "Guests; DROP")
    assert not [one for one in Backend(nexa.settings(SHAPING)).check() if one.check == "groups"]
