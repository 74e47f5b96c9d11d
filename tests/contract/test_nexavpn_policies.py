"""The store reads policies on a real PostgreSQL, with the snapshot, and its digest shows each change of them."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from tests.nexavpn_sides import NexavpnTables, named
from wgsyncd.core.model import DeviceRow
from wgsyncd.core.network import as_networks, parse_host, parse_network
from wgsyncd.core.policies.model import Access, AccessPolicy, Device, Group, PolicySettings, PolicyTables, Target
from wgsyncd.core.policies.resolve import Resolver
from wgsyncd.core.state import Condition
from wgsyncd.ports import Store
from wgsyncd.stores.nexavpn.policies import POLICY_FAULTY
from wgsyncd.stores.nexavpn.settings import Nexavpn, Policies

OFFICE = named("office")


@pytest.fixture
def nexa(nexa: NexavpnTables) -> NexavpnTables:
    nexa.insert(5)
    nexa.sql("UPDATE gateways SET dns_servers = %s", ["10.0.0.53", "fd00::53"])
    nexa.policy("office", "allow", "10.1.0.0/16", "fd01::/16", to=[("user", named("alice"))])
    nexa.policy("all", "Deny", to=[("device", nexa.id(5))], priority=7, full_tunnel=True)
    nexa.sql("INSERT INTO groups (id, name) VALUES (%s, 'staff')", named("staff"))
    nexa.sql("INSERT INTO group_memberships VALUES (%s, %s, %s)", named("m"), named("staff"), named("alice"))
    return nexa


def policies(store: Store) -> PolicyTables:
    found = store.snapshot().policies
    assert found is not None
    return found


def by_name(store: Store) -> dict[str, AccessPolicy]:
    return {one.name: one for one in policies(store).policies}


def access(store: Store) -> Access:
    snapshot = store.snapshot()
    assert snapshot.policies is not None
    (row,) = snapshot.rows
    return Resolver(snapshot.policies, PolicySettings()).access(_device(row))


def _device(row: DeviceRow) -> Device:
    assert row.key is not None
    return Device(row.device, row.owner, as_networks(map(parse_host, row.addresses)), row.interface, row.key)


def test_a_policy_is_read_with_its_targets_and_destinations(nexa: NexavpnTables) -> None:
    store = nexa.store()
    found = by_name(store)
    alice = Target("user", str(named("alice")))
    assert found["office"] == AccessPolicy(
        OFFICE, "office", 100, "allow", (alice,), found["office"].destinations, False, True, False
    )
    assert sorted(found["office"].destinations) == ["10.1.0.0/16", "fd01::/16"]
    everything = found["all"]
    assert (everything.priority, everything.effect, everything.full_tunnel) == (7, "Deny", True)
    assert everything.targets == (Target("device", str(nexa.id(5))),)
    tables = policies(store)
    assert tables.groups == (Group(str(named("staff")), frozenset({str(named("alice"))}), name="staff"),)
    assert tables.dns_servers == {parse_host("10.0.0.53"), parse_host("fd00::53")}
    assert tables.owners == {str(nexa.id(5)): str(named("alice"))}


def test_a_device_has_the_access_of_its_owner(nexa: NexavpnTables) -> None:
    store = nexa.store()
    assert access(store).is_empty, "the deny comes first"
    nexa.update("policies", named("all"), is_active=False)
    assert access(store) == Access.of(as_networks([parse_host("10.1.0.0/32")])).plus(access(store))
    assert not access(store).is_empty
    nexa.sql("UPDATE policy_targets SET target_type = 'group', target_id = %s", named("staff"))
    assert not access(store).is_empty
    nexa.update("groups", named("staff"), deleted_at="2026-01-01")
    assert access(store).is_empty


CHANGES = {
    "name": "UPDATE policies SET name = 'new' WHERE id = '{office}'",
    "priority": "UPDATE policies SET priority = 8 WHERE id = '{office}'",
    "effect": "UPDATE policies SET effect = 'maybe' WHERE id = '{office}'",
    "inactive": "UPDATE policies SET is_active = false WHERE id = '{office}'",
    "full tunnel": "UPDATE policies SET full_tunnel = true WHERE id = '{office}'",
    "deleted": "UPDATE policies SET deleted_at = now() WHERE id = '{office}'",
    "destination": "UPDATE policy_destinations SET destination = '10.2.0.0/16'",
    "destination gone": "DELETE FROM policy_destinations",
    "target type": "UPDATE policy_targets SET target_type = 'team'",
    "target gone": "DELETE FROM policy_targets",
    "member gone": "DELETE FROM group_memberships",
    "group deleted": "UPDATE groups SET deleted_at = now()",
    "DNS": "UPDATE gateways SET dns_servers = '{{10.0.0.54}}'",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_each_change_is_read_and_is_in_the_digest(nexa: NexavpnTables, change: str) -> None:
    store = nexa.store()
    digest, before = store.digest(), policies(store)
    assert store.digest() == digest
    nexa.sql(change.format(office=OFFICE))
    assert policies(store) != before
    assert store.digest() != digest


def test_without_enforcement_nothing_of_it_is_read(nexa: NexavpnTables, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = nexa.settings

    def leaves(extra: str = "", **node: object) -> object:
        settings = plain(extra, **node)
        assert isinstance(settings.store, Nexavpn)
        own = msgspec.structs.replace(settings.store, policies=Policies(enforce=False))
        return msgspec.structs.replace(settings, store=own)

    monkeypatch.setattr(nexa, "settings", leaves)
    store = nexa.store()
    digest = store.digest()
    assert store.snapshot().policies is None
    nexa.sql("DELETE FROM policy_destinations")
    assert store.digest() == digest


def test_a_text_that_is_no_dns_server_opens_nothing(nexa: NexavpnTables) -> None:
    nexa.sql("UPDATE gateways SET dns_servers = %s", ["10.0.0.53", "0.0.0.0/0", None])
    assert policies(nexa.store()).dns_servers == {parse_host("10.0.0.53")}


def test_a_policy_without_a_target_is_told(nexa: NexavpnTables) -> None:
    nexa.policy("nobody's", "allow", "10.9.0.0/16")
    nexa.policy("a draft", "allow", "10.9.0.0/16", is_active=False)
    odd = str(named("nobody's"))
    assert nexa.store().snapshot().conditions == frozenset({Condition(POLICY_FAULTY, odd, odd, "no target")})


def test_an_effect_that_is_cut_off_is_no_effect(nexa: NexavpnTables) -> None:
    nexa.update("policies", OFFICE, effect="allow" + 300 * " " + "not")
    assert by_name(nexa.store())["office"].effect.strip() != "allow"


def test_policies_of_other_gateways_devices_are_not_seen(nexa: NexavpnTables) -> None:
    nexa.user("bob")
    nexa.policy("bobs", "allow", "10.9.0.0/16", to=[("user", named("bob"))])
    assert set(by_name(nexa.store())) == {"office", "all"}
    assert all(isinstance(one.id, UUID) for one in policies(nexa.store()).policies)


def test_the_routes_of_a_client_are_read_with_changed_policies(nexa: NexavpnTables) -> None:
    store, device = nexa.store(), str(nexa.id(5))
    assert policies(store).routes == {device: ()}
    nexa.sql("UPDATE wireguard_peers SET allowed_ips = ARRAY['10.1.0.0/16', 'fd01::/16', NULL]::cidr[]")
    nexa.policy("more", "allow", "10.9.0.0/16", to=[("user", named("alice"))])
    assert policies(store).routes == {device: as_networks(map(parse_network, ("10.1.0.0/16", "fd01::/16")))}
    nexa.sql("UPDATE wireguard_peers SET deleted_at = now()")
    assert policies(nexa.store()).routes == {}


def test_a_policy_that_leaves_a_doubt_is_a_condition(nexa: NexavpnTables) -> None:
    store = nexa.store()
    assert store.snapshot().conditions == frozenset()
    nexa.sql("UPDATE policies SET effect = 'maybe' WHERE name = 'office'")
    nexa.sql("UPDATE policy_targets SET target_type = 'robot' WHERE policy_id = %s", OFFICE)
    assert store.snapshot().conditions == frozenset(
        {Condition(POLICY_FAULTY, str(OFFICE), str(OFFICE), "effect, target")}
    )
    nexa.sql("UPDATE policies SET is_active = false WHERE name = 'office'")
    assert store.snapshot().conditions == frozenset()
