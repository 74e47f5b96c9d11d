"""The shipped configuration is the R640's, and all faults are reported at once without the password."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from tests.configuring import LEAST, faults
from tests.samples import key, loose_base64, text
from wgsyncd.config import resources
from wgsyncd.config.load import load, parse
from wgsyncd.config.schema import Settings
from wgsyncd.config.system_zone import system_zone
from wgsyncd.core.network import parse_host, parse_network
from wgsyncd.errors import ConfigError
from wgsyncd.stores.mikyun.settings import mikyun


def test_the_shipped_example_is_the_r640s() -> None:
    settings = parse(resources.text("wgsyncd.toml"))
    assert list(settings.interfaces) == ["wg0", "wg1"]
    wg0, wg1 = settings.interfaces.values()
    assert (wg0.store_name, wg0.networks, wg0.own_hosts) == (
        "wg0", (parse_network("10.200.0.0/24"),), frozenset((parse_host("10.200.0.1"),))
    )  # fmt: skip
    assert (wg1.store_name, wg1.networks, wg1.own_hosts) == (
        "wg1", (parse_network("10.251.0.0/24"),), frozenset((parse_host("10.251.0.1"),))
    )  # fmt: skip
    assert not wg0.create
    assert (float(wg0.line_rate), float(wg0.persistent_keepalive)) == (25e9, 0)
    database = mikyun(settings).database
    assert (database.socket, database.name, database.user, float(database.timeout)) == (
        "/run/mysqld/mysqld.sock", "mikyun_cloud", "wgsyncd", 4
    )  # fmt: skip
    assert settings.node.zone == system_zone()
    assert (settings.guard.always_allowed, settings.guard.max_share, settings.guard.small_node) == (10, 0.2, 3)
    assert [
        float(one)
        for one in (
            settings.schedule.poll_interval,
            settings.schedule.resync_interval,
            settings.schedule.watch_interval,
        )
    ] == [15, 60, 0.25]
    assert (settings.peers.foreign, settings.peers.always_keep) == ("remove", ())
    assert [
        float(one) for one in (mikyun(settings).qr.lifetime, settings.usage.bucket_width, settings.usage.retention)
    ] == [
        86400,
        900,
        400 * 86400,
    ]
    assert (settings.control_plane, mikyun(settings).language, mikyun(settings).perspective) == (
        "mikyun",
        "en",
        "server",
    )
    assert settings.metrics.address == ("127.0.0.1", 9586)


def test_no_default_is_one_customers() -> None:
    """mikyun's server has a file of its own, with the same meaning as before."""
    mikyuns = parse(resources.text("examples/mikyun.toml"))
    assert (mikyuns.node.zone, mikyun(mikyuns).language) == (ZoneInfo("Asia/Tokyo"), "ja")
    assert mikyuns.interfaces == parse(resources.text("wgsyncd.toml")).interfaces
    assert "Tokyo" not in resources.text("wgsyncd.toml")


def test_the_zone_is_the_systems(tmp_path: Path) -> None:
    zones = Path("/usr/share/zoneinfo")
    (tmp_path / "timezone").write_text("America/Havana\n")
    assert system_zone(tmp_path) == ZoneInfo("America/Havana"), "no link, but Debian's file"
    (tmp_path / "localtime").symlink_to(zones / "Europe/Berlin")
    assert system_zone(tmp_path).key in ("Europe/Berlin", "America/Havana"), "which zones are installed depends"
    (tmp_path / "localtime").unlink()
    for nonsense in ("", "Mars/Olympus", "../../etc/passwd", "/etc", "\0", "Europe"):
        (tmp_path / "timezone").write_text(nonsense)
        assert system_zone(tmp_path) == ZoneInfo("UTC"), nonsense
    (tmp_path / "timezone").unlink()
    assert system_zone(tmp_path) == ZoneInfo("UTC")
    (tmp_path / "localtime").symlink_to("localtime")
    assert system_zone(tmp_path) == ZoneInfo("UTC"), "a link to itself"


def test_the_example_shows_the_defaults() -> None:
    shown, least = parse(resources.text("wgsyncd.toml")), parse(LEAST)
    for section in Settings.__struct_fields__:
        if section not in ("interfaces", "store"):
            assert getattr(shown, section) == getattr(least, section)
    # A server on a network address needs other values, and these are the defaults.
    database = msgspec.structs.replace(mikyun(shown).database, socket=None, user=mikyun(least).database.user)
    assert msgspec.structs.replace(mikyun(shown), database=database) == mikyun(least)


def test_the_least_that_is_needed() -> None:
    settings = parse(LEAST)
    assert settings.interfaces["wg0"].store_name == "wg0"
    assert settings.node.name == socket.gethostname().partition(".")[0]


# Each line is one fault: section, line, key and a part of the message. A test below puts all lines into one file.
ONE_BY_ONE = [
    ("node", 'zone = "Mars/Olympus"', "node.zone", "is not a time zone"),
    ("node", "ignored_interfaces = 5", "node.ignored_interfaces", "a list of texts"),
    ("node", f'name = "{"n" * 65}"', "node.name", "longer than 64"),
    ("mikyun.database", "port = 0", "mikyun.database.port", "is not a port"),
    ("mikyun.database", 'host = ["a"]', "mikyun.database.host", "a text in quotes"),
    ("mikyun.database", 'timeout = "4"', "mikyun.database.timeout", "number with a unit"),
    ("mikyun.database", 'name = ""', "mikyun.database.name", "is not a database's name"),
    ("mikyun.database", 'tls_ca = "ca.pem"', "mikyun.database.tls_ca", "not an absolute path"),
    ("interfaces.wg0", 'addresses = ["10.200.0.1"]', "interfaces.wg0.addresses", "needs a prefix length"),
    ("interfaces.wg0", 'line_rate = "25GB"', "interfaces.wg0.line_rate", "number with a unit"),
    ("interfaces.wg0", 'persistent_keepalive = "1500ms"', "interfaces.wg0.persistent_keepalive", "whole seconds"),
    ("interfaces.wg0", "listen_port = 65536", "interfaces.wg0.listen_port", "is not a port"),
    ("interfaces.wg0", "mtu = 100", "interfaces.wg0.mtu", "is not between"),
    ("interfaces.wg0", "create = true", "interfaces.wg0.private_key_file", "is needed"),
    ("interfaces.wg0", "colour = 5", "interfaces.wg0.colour", "is not a key"),
    ("peers", 'foreign = "delete"', "peers.foreign", "is none of remove, keep, report"),
    ("peers", f'always_keep = ["{loose_base64(key(1))}"]', "peers.always_keep", "not canonical"),
    ("guard", "always_allowed = -1", "guard.always_allowed", "between 0 and"),
    ("guard", "small_node = -1", "guard.small_node", "between 0 and"),
    ("guard", "max_share = 1.5", "guard.max_share", "is not between 0 and 1"),
    ("schedule", 'poll_interval = "100ms"', "schedule.poll_interval", "is not between 1s and 24h"),
    ("schedule", 'resync_interval = "0s"', "schedule.resync_interval", "is not between 1s and 24h"),
    ("schedule", 'watch_interval = "50ms"', "schedule.watch_interval", "is neither 0s (off) nor from 100ms to 24h"),
    ("mikyun.qr", 'lifetime = "0s"', "mikyun.qr.lifetime", "not above 0"),
    ("mikyun.qr", 'life = "1h"', "mikyun.qr.life", "is not a key"),
    ("usage", 'bucket_width = "7min"', "usage.bucket_width", "divide an hour"),
    ("usage", 'retention = "61d"', "usage.retention", "below 62d"),
    ("mikyun", 'perspective = "mine"', "mikyun.perspective", "is none of server, device"),
    ("mikyun", 'language = "de"', "mikyun.language", "is none of ja, en"),
    ("metrics", 'listen = "9586"', "metrics.listen", "is not host:port"),
    ("metrics", 'per_peer = "yes"', "metrics.per_peer", "true or false, without quotes"),
    ("metrics", "per_peer_limit = -1", "metrics.per_peer_limit", "between 0 and"),
    ("log", 'level = "loud"', "log.level", "is none of debug, info, warning, error"),
    ("mikyun.database", 'user = "a\\u0000b"', "mikyun.database.user", "NUL"),
    ("mikyun.database", 'tls_ca = "/a\\u0000b"', "mikyun.database.tls_ca", "NUL"),
    ("mikyun.database", 'timeout = "31s"', "mikyun.database.timeout", "is not between 100ms and 30s"),
    ("schedule", 'poll_interval = "25h"', "schedule.poll_interval", "is not between 1s and 24h"),
    ("schedule", 'resync_interval = "2d"', "schedule.resync_interval", "is not between 1s and 24h"),
    ("schedule", 'watch_interval = "25h"', "schedule.watch_interval", "from 100ms to 24h"),
    ("mikyun.qr", 'lifetime = "36501d"', "mikyun.qr.lifetime", "longer than a hundred years"),
    ("lgo", "level = 5", "lgo", "is not a section"),
]


def written(lines: list[tuple[str, str, str, str]]) -> str:
    sections: dict[str, list[str]] = {"interfaces.wg0": ['networks = ["10.200.0.0/24"]']}
    for section, line, *_ in lines:
        sections.setdefault(section, []).append(line)
    return "\n".join(f"[{name}]\n" + "\n".join(some) for name, some in sections.items())


@pytest.mark.parametrize("one", ONE_BY_ONE, ids=[f"{section}: {line[:30]}" for section, line, *_ in ONE_BY_ONE])
def test_a_fault_names_key_value_and_reason(one: tuple[str, str, str, str]) -> None:
    _, line, where, why = one
    fault = faults(written([one]))[where]
    assert why in fault.why
    as_written = repr(next(iter(tomllib.loads(line).values())))
    # `lgo` is a section, and `private_key_file` is a key that the file lacks.
    hidden = where in ("lgo", "interfaces.wg0.private_key_file")
    assert fault.value == ("" if hidden else as_written)


def test_all_faults_are_told_at_once() -> None:
    once = {where: one for one in ONE_BY_ONE for where in [one[2]]}  # TOML allows each key once
    found = faults(written(list(once.values())))
    assert set(found) >= {where for _, _, where, _ in ONE_BY_ONE}


@pytest.mark.parametrize(
    ("text_", "where", "why"),
    [
        ("", "interfaces", "is missing"),
        ("interfaces = 5", "interfaces", "is not a table"),
        ("[interfaces]\nwg0 = 5", "interfaces.wg0", "is not a table"),
        ("[interfaces.wg0]\n", "interfaces.wg0.networks", "is missing or empty"),
        ("[interfaces.wg0]\nnetworks = []", "interfaces.wg0.networks", "is missing or empty"),
        ('[interfaces.wg0]\nnetworks = "10.200.0.0/24"', "interfaces.wg0.networks", "not a list"),
        ('[interfaces.wg0]\nnetworks = ["10.200.0.1/24"]', "interfaces.wg0.networks", "host bits"),
        ('[interfaces."a/b"]\nnetworks = ["10.0.0.0/8"]', "interfaces.a/b", "not an interface name"),
        ('[interfaces.a234567890123456]\nnetworks = ["10.0.0.0/8"]', "interfaces.a234567890123456", "15 bytes"),
        (
            LEAST + LEAST.replace("wg0", "wg1") + 'store_name = "wg0"',
            "interfaces.wg1.store_name",
            "also interfaces.wg0's",
        ),
        (
            LEAST + '[node]\nignored_interfaces = ["wg0"]',
            "interfaces.wg0.store_name",
            "stands in node.ignored_interfaces",
        ),
        ('control_plane = "other"\n' + LEAST, "control_plane", "is none of mikyun"),
        (LEAST + "[mikyun]\ndatabase = 5", "mikyun.database", "is not a table"),
        ("[node", "(file)", "is not TOML"),
        (LEAST + LEAST, "(file)", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_followed(text_: str, where: str, why: str) -> None:
    assert why in faults(text_)[where].why


def test_every_bad_entry_of_a_list_is_told_by_its_place() -> None:
    nets = faults('[interfaces.wg0]\nnetworks = ["10.200.0.0/24", "10.200.0.1/24", "x", "10.251.0.0/24"]')
    why = nets["interfaces.wg0.networks"].why
    assert "entry 2: " in why
    assert "host bits" in why
    assert "entry 3: " in why
    assert "entry 1" not in why
    assert "entry 4" not in why
    keys = faults(LEAST + f'[peers]\nalways_keep = ["{text(1)}", "short", "{loose_base64(key(1))}"]')
    assert keys["peers.always_keep"].why == "entry 2: is not base64; entry 3: is not canonical base64"


def test_a_control_plane_may_give_networks() -> None:
    """Then nobody knows which IP versions they have."""
    exempt = '[shaping]\nexempt = ["fd00::1/128"]\n'
    found = parse(f'control_plane = "nexavpn"\n[interfaces.wg0]\n{exempt}')
    assert found.interfaces["wg0"].networks == ()
    assert "shaping.exempt" in faults(f'control_plane = "nexavpn"\n{LEAST}{exempt}')


def test_networks_are_asked_for_beside_other_faults() -> None:
    """The missing networks are reported together with the misspelt key, not only after an admin has corrected it."""
    found = faults(
        '[interfaces.wg0]\nmtu = "big"\ncolour = 5\n[interfaces.wg1]\nnetworks = 5\n[usage]\nbucket_width = "7min"'
    )
    assert set(found) == {
        "interfaces.wg0.mtu", "interfaces.wg0.colour", "interfaces.wg0.networks", "interfaces.wg1.networks", "usage.bucket_width"
    }  # fmt: skip
    assert "missing or empty" in found["interfaces.wg0.networks"].why


def test_load_asks_no_such_file(tmp_path: Path) -> None:
    """A password file that is away at this moment is no reason to refuse a reload."""
    file = tmp_path / "wgsyncd.toml"
    file.write_text(LEAST + '[mikyun.database]\npassword_file = "/nowhere"')
    assert mikyun(load(file)).database.password_file == Path("/nowhere")


def test_load_reads_a_file_and_names_it(tmp_path: Path) -> None:
    file = tmp_path / "wgsyncd.toml"
    with pytest.raises(ConfigError, match=r"wgsyncd\.toml: .*cannot be read"):
        load(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(file)
    file.write_text(LEAST)
    assert load(file) == parse(LEAST)
