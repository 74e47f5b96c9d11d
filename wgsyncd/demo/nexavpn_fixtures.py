"""The rows that NexaVPN's tables hold when the demo begins, as statements of the application."""

import secrets
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wgsyncd.demo.postgres import quote

NETWORKS = {"fra1": "10.200.0", "tyo1": "10.251.0"}  # by gateway: the first three numbers of the addresses
ROTATED = "fra1-2"  # the id of the second key of gateway fra1
KEY_IDS = ("fra1", "tyo1", ROTATED)
USERS = {"alice": "engineering", "bob": "engineering", "carol": "sales", "dave": "sales"}  # by name: the group


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A device as its rows are when the demo begins."""

    name: str
    gateway: str
    number: int  # the last of the address
    approved: bool = True
    status: str = "active"
    has_client: bool = False
    is_allocated: bool = True

    @property
    def user(self) -> str:
        return self.name.partition("-")[0]

    @property
    def address(self) -> str:
        return f"{NETWORKS[self.gateway]}.{self.number}"

    @property
    def id(self) -> str:
        return identify("devices", self.name)

    @property
    def peer_id(self) -> str:
        return identify("wireguard_peers", self.name)

    @property
    def wants_peer(self) -> bool:
        return self.approved and self.status == "active" and self.is_allocated


LAPTOP = DeviceSpec("alice-laptop", "fra1", 11, has_client=True)
WAITING = DeviceSpec("bob-phone", "fra1", 12, approved=False, has_client=True)
TRAVELLER = DeviceSpec("carol-tablet", "fra1", 13, has_client=True)
OF_DAVE = (DeviceSpec("dave-laptop", "fra1", 15, has_client=True), DeviceSpec("dave-phone", "tyo1", 25))
UNALLOCATED = DeviceSpec("carol-printer", "fra1", 99, is_allocated=False)
DEVICES = (
    LAPTOP, WAITING, TRAVELLER, *OF_DAVE, UNALLOCATED,
    DeviceSpec("bob-desktop", "fra1", 16),
    DeviceSpec("alice-phone", "tyo1", 21),
    DeviceSpec("bob-laptop", "tyo1", 22),
    DeviceSpec("carol-lost", "tyo1", 23, status="revoked"),
)  # fmt: skip


def identify(table: str, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{table}/{name}"))


def role(gateway: str) -> str:
    """The role with which the node of a gateway logs in."""
    return f"wgsyncd_{gateway}"


def rows_of_all(public_keys: Mapping[str, str], port: int) -> Iterator[str]:
    """INSERT gateways, users in groups, and a policy that lets the groups reach the gateways.

    ``public_keys``: by gateway. ``port``: at which each gateway listens.
    """
    user_role, policy = identify("roles", "user"), identify("policies", "gateways")
    yield _insert("roles", id=user_role, name="user")
    yield _insert("policies", id=policy, name="gateways")
    for name, net in NETWORKS.items():
        yield _insert(
            "gateways", id=identify("gateways", name), name=name, endpoint=f"{name}.vpn.example:{port}",
            public_key=public_keys[name], listen_port=str(port), vpn_cidr=f"{net}.0/24",
        )  # fmt: skip
        yield _insert("policy_destinations", policy_id=policy, destination=f"{net}.1/32")
    for group in sorted(set(USERS.values())):
        yield _insert("groups", id=identify("groups", group), name=group)
        yield _insert("policy_targets", policy_id=policy, target_type="group", target_id=identify("groups", group))
    for user, group in USERS.items():
        one, secret = identify("users", user), f"$argon2id${secrets.token_hex(16)}"
        yield _insert("users", id=one, role_id=user_role, username=user, display_name=user, password_hash=secret)
        yield _insert("group_memberships", group_id=identify("groups", group), user_id=one)


def rows_of_device(spec: DeviceSpec, public_key: str, envelope: str) -> Iterator[str]:
    """INSERT a device, its peer with the envelope of its preshared key, and its address."""
    gateway, user = identify("gateways", spec.gateway), identify("users", spec.user)
    yield _insert(
        "devices", id=spec.id, user_id=user, gateway_id=gateway, name=spec.name, platform="linux",
        device_fingerprint=spec.name, public_key=public_key, status=spec.status,
        approved_at="now" if spec.approved else None,
    )  # fmt: skip
    yield _insert(
        "wireguard_peers", id=spec.peer_id, device_id=spec.id, gateway_id=gateway, public_key=public_key,
        assigned_ip=spec.address, preshared_key_ciphertext=envelope,
    )  # fmt: skip
    if spec.is_allocated:
        yield _insert("ip_allocations", gateway_id=gateway, device_id=spec.id, address=spec.address)


def _insert(table: str, **columns: str | None) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(map(quote, columns.values()))});"  # noqa: S608
