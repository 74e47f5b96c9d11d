"""The typed, frozen settings with their defaults.

etc/wgsyncd.toml explains each setting. wgsyncd.config.load reads the file. The settings that only one control plane
needs are in the folder of its store.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Literal
from zoneinfo import ZoneInfo

import msgspec

from wgsyncd.config.system_zone import system_zone
from wgsyncd.core.model import PublicKey
from wgsyncd.core.network import Network, as_networks, parse_host
from wgsyncd.core.policies.model import PolicySettings
from wgsyncd.core.shaping.profiles import Counted, Profile, ShapingPolicy


class Seconds(float):
    """A duration in seconds, written like ``15s``, ``500ms``, ``5min``, ``24h``, ``400d``."""


class BitRate(float):
    """Bits per second, written like ``25Gbit``."""


class Size(int):
    """Bytes, written like ``500GiB`` or ``2TB``."""


class Node(msgspec.Struct, frozen=True):
    """The server on which this daemon runs."""

    name: str = ""
    zone: ZoneInfo = msgspec.field(default_factory=system_zone)
    ignored_interfaces: tuple[str, ...] = ()
    active_address: str = ""  # of a pair of nodes: the one that has it is active. "": there is no pair


Check = Callable[[bool, str, str], None]
"""Reports a fault unless its first argument is true. Then follow the key and what is wrong with it."""


class StoreSettings(msgspec.Struct, frozen=True):
    """The settings of a control plane, in the table with its name. Each control plane has a subclass with its keys."""

    owner_word: ClassVar[str] = "owner"  # what the control plane calls an owner, for people
    gives_networks: ClassVar[bool] = False  # whether its gateways have a network, for interfaces without `networks`

    zone_effect: ClassVar[str] = "Days and months begin at other times"  # what another `node.zone` does
    has_groups: ClassVar[bool] = False  # of owners
    bounds_devices: ClassVar[bool] = False  # whether owners have a number of devices that they may have
    counts_months: ClassVar[bool] = False  # whether it has the bytes of an owner's month

    def check(self, check: Check) -> None:
        """Check values that no type checks. Keys are dotted, below the table of the control plane."""

    def policy_settings(self) -> PolicySettings | None:
        """What is set about policies. None: the control plane has no policies."""
        return None

    def secret_files(self) -> Mapping[str, Path | None]:
        """The files with secrets, by key. None: the key is not set."""
        return {}


class Interface(msgspec.Struct, frozen=True):
    """One WireGuard interface of this node."""

    networks: tuple[Network, ...] = ()  # empty: the network of the gateway, if the control plane gives it
    store_name: str = ""
    addresses: tuple[str, ...] = ()  # "10.200.0.1/24"
    persistent_keepalive: Seconds = Seconds(0)
    line_rate: BitRate = BitRate(25e9)
    create: bool = False
    private_key_file: Path | None = None
    listen_port: int = 0
    mtu: int = 0  # 0: the kernel's choice

    @property
    def own_hosts(self) -> frozenset[Network]:
        return frozenset(parse_host(address.partition("/")[0]) for address in self.addresses)


class Peers(msgspec.Struct, frozen=True):
    """Peers in the kernel that no row names."""

    foreign: Literal["remove", "keep", "report"] = "remove"
    always_keep: tuple[PublicKey, ...] = ()


class Guard(msgspec.Struct, frozen=True):
    """How many removals are applied without an administrator's approval."""

    always_allowed: int = 10
    max_share: float = 0.2
    small_node: int = 3


class Schedule(msgspec.Struct, frozen=True):
    """The intervals of the daemon's periodic work."""

    poll_interval: Seconds = Seconds(15)
    resync_interval: Seconds = Seconds(60)
    watch_interval: Seconds = Seconds(0.25)


class Usage(msgspec.Struct, frozen=True):
    """The accounting of traffic."""

    bucket_width: Seconds = Seconds(900)
    retention: Seconds = Seconds(400 * 86400)


class Metrics(msgspec.Struct, frozen=True):
    """The HTTP server for Prometheus."""

    listen: str = "127.0.0.1:9586"
    per_peer: bool = False
    per_peer_limit: int = 1000  # peers
    page: bool = False

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port. None: the server is off."""
        host, _, port = self.listen.rpartition(":")
        return (host.strip("[]"), int(port)) if self.listen else None


class Log(msgspec.Struct, frozen=True):
    """Which lines are logged, and in which format."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json", "logfmt"] = "auto"


class Shaping(msgspec.Struct, frozen=True):
    """Whether and how the traffic of devices is limited."""

    mode: Literal["off", "enforce"] = "off"
    default: str = ""  # the profile of contracts that name none, or an unknown one
    exempt: tuple[Network, ...] = ()
    by_group: dict[str, str] = {}  # with NexaVPN: the profile of a group's users. The first group of a user counts


class Bandwidth(msgspec.Struct, frozen=True):
    """One profile, which contracts name."""

    down: BitRate = BitRate(0)  # 0: not limited, like up
    up: BitRate = BitRate(0)
    shared: bool = True
    monthly: Size = Size(0)  # bytes. 0: there is no cap
    beyond: str = ""
    counts: Literal["both", "down", "up"] = "both"


class DeviceLimits(msgspec.Struct, frozen=True):
    """What happens to contracts that have more devices than they have bought."""

    devices: Literal["ignore", "report", "reject"] = "report"


class Settings(msgspec.Struct, frozen=True):
    """The whole configuration. The kernel's interface names are the keys of ``interfaces``.

    The names of profiles are the keys of ``bandwidth``.
    """

    interfaces: dict[str, Interface]
    control_plane: str = ""  # the loader sets it
    store: StoreSettings = StoreSettings()  # in the file this table has the name of the control plane
    node: Node = Node()
    peers: Peers = Peers()
    guard: Guard = Guard()
    schedule: Schedule = Schedule()
    usage: Usage = Usage()
    metrics: Metrics = Metrics()
    shaping: Shaping = Shaping()
    limits: DeviceLimits = DeviceLimits()
    bandwidth: dict[str, Bandwidth] = {}
    log: Log = Log()

    @property
    def shaping_policy(self) -> ShapingPolicy:
        """The settings of shaping as the core knows them."""
        profiles = {
            name: Profile(
                down=int(one.down) // 8 or None,
                up=int(one.up) // 8 or None,
                shared=one.shared,
                monthly=int(one.monthly) or None,
                beyond=one.beyond,
                counts=Counted(one.counts),
            )
            for name, one in self.bandwidth.items()
        }
        shaping = self.shaping
        return ShapingPolicy(shaping.mode == "enforce", shaping.default, as_networks(shaping.exempt), profiles)
