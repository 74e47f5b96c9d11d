"""The shipped configuration is the R640's, and all faults are reported at once without the password."""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import key, loose_base64, text
from wgsyncd.config import resources
from wgsyncd.config.load import check_files, load, parse
from wgsyncd.config.schema import CREDENTIAL, Database, Interface, Settings
from wgsyncd.core.network import parse_host, parse_network
from wgsyncd.errors import ConfigError, ConfigIssue

LEAST = '[interfaces.wg0]\nnetworks = ["10.200.0.0/24"]\n'


def faults(written: str) -> dict[str, ConfigIssue]:
    with pytest.raises(ConfigError) as caught:
        parse(written)
    return {fault.key: fault for fault in caught.value.faults}


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
    database = settings.mikyun.database
    assert (database.host, database.port, database.name, database.user, float(database.timeout)) == (
        "127.0.0.1", 3306, "mikyun_cloud", "mikyun", 4
    )  # fmt: skip
    assert settings.node.zone == ZoneInfo("Asia/Tokyo")
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
        float(one) for one in (settings.mikyun.qr.lifetime, settings.usage.bucket_width, settings.usage.retention)
    ] == [
        86400,
        900,
        400 * 86400,
    ]
    assert (settings.control_plane, settings.mikyun.language, settings.mikyun.perspective) == ("mikyun", "ja", "server")
    assert settings.metrics.address == ("127.0.0.1", 9586)


def test_the_example_shows_the_defaults() -> None:
    shown, least = parse(resources.text("wgsyncd.toml")), parse(LEAST)
    for section in Settings.__struct_fields__:
        if section not in ("interfaces", "mikyun"):
            assert getattr(shown, section) == getattr(least, section)
    database = msgspec.structs.replace(shown.mikyun.database, password_file=None)
    assert msgspec.structs.replace(shown.mikyun, database=database) == least.mikyun


def test_the_least_that_is_needed() -> None:
    settings = parse(LEAST)
    assert settings.interfaces["wg0"].store_name == "wg0"
    assert settings.node.name == socket.gethostname().partition(".")[0]


# Each line is one fault: section, line, key and a part of the message. A test below puts all lines into one file.
ONE_BY_ONE = [
    ("node", 'zone = "Mars/Olympus"', "node.zone", "is not a time zone"),
    ("node", "ignored_interfaces = 5", "node.ignored_interfaces", "Expected"),
    ("node", f'name = "{"n" * 65}"', "node.name", "longer than 64"),
    ("mikyun.database", "port = 0", "mikyun.database.port", "is not a port"),
    ("mikyun.database", 'host = ["a"]', "mikyun.database.host", "Expected `str`"),
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
    ("guard", "always_allowed = -1", "guard.always_allowed", "below 0"),
    ("guard", "small_node = -1", "guard.small_node", "below 0"),
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
    ("metrics", 'per_peer = "yes"', "metrics.per_peer", "Expected `bool`"),
    ("metrics", "per_peer_limit = -1", "metrics.per_peer_limit", "is below 0"),
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
        ("interfaces = 5", "interfaces", "is missing"),
        ("[interfaces]\nwg0 = 5", "interfaces.wg0", "is not a table"),
        ("[interfaces.wg0]\n", "interfaces.wg0.networks", "is missing or empty"),
        ("[interfaces.wg0]\nnetworks = []", "interfaces.wg0.networks", "is missing or empty"),
        ('[interfaces.wg0]\nnetworks = "10.200.0.0/24"', "interfaces.wg0.networks", "not a list"),
        ('[interfaces.wg0]\nnetworks = ["10.200.0.1/24"]', "interfaces.wg0.networks", "host bits"),
        ('[interfaces."a/b"]\nnetworks = ["10.0.0.0/8"]', "interfaces.a/b", "not an interface name"),
        ('[interfaces.a234567890123456]\nnetworks = ["10.0.0.0/8"]', "interfaces.a234567890123456", "15 characters"),
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


def test_networks_are_asked_for_beside_other_faults() -> None:
    """The missing networks are reported together with the misspelt key, not only after an admin has corrected it."""
    found = faults(
        '[interfaces.wg0]\nmtu = "big"\ncolour = 5\n[interfaces.wg1]\nnetworks = 5\n[usage]\nbucket_width = "7min"'
    )
    assert set(found) == {
        "interfaces.wg0.mtu", "interfaces.wg0.colour", "interfaces.wg0.networks", "interfaces.wg1.networks", "usage.bucket_width"
    }  # fmt: skip
    assert "missing or empty" in found["interfaces.wg0.networks"].why


def test_a_private_key_in_the_file_is_pointed_elsewhere() -> None:
    fault = faults(LEAST + f'private_key = "{SECRET}"')["interfaces.wg0.private_key"]
    assert "private_key_file" in fault.why
    assert fault.value == ""


SECRET = "hunter2-correct-horse"  # No message may show this value.
LEAKS = [
    f'[mikyun.database]\npassword = "{SECRET}"',
    f'[mikyun.database]\nPassword = "{SECRET}"',
    f'[mikyun.database]\npassword1 = "{SECRET}"',
    f'[mikyun.database]\ndb_password = ["{SECRET}"]',
    f'[mikyun.database]\nsecret = "{SECRET}"',
    f'[mikyun.database]\npassword_file = "{SECRET}"',
    f'[mikyun.database.auth]\npassword = "{SECRET}"',
    f'[mikyun.database]\nauth = {{ pass = "{SECRET}" }}',
    f'[mikyun.database]\nlist = [{{ pass = "{SECRET}" }}]',
    f'database = "mysql://mikyun:{SECRET}@127.0.0.1/mikyun_cloud"',
    f'[mikyun.database]\nurl = "mysql://mikyun:{SECRET}@127.0.0.1/mikyun_cloud"',
    f'[database]\npassword = "{SECRET}"',  # An earlier version had the password in this section.
    f'mikyun = "mysql://mikyun:{SECRET}@127.0.0.1/mikyun_cloud"',
    f'password = "{SECRET}"',
    f'[password]\nvalue = "{SECRET}"',
    f'[interfaces.wg1]\nnetworks = ["10.251.0.0/24"]\nprivate_key = "{SECRET}"',
    f'[interfaces.wg1]\nnetworks = ["10.251.0.0/24"]\nprivate_key_file = "{SECRET}"',
    f'[interfaces.wg1]\nnetworks = ["10.251.0.0/24"]\npreshared_key = "{SECRET}"',
    f'[mikyun.database]\npassword = "{SECRET}',
    f'[mikyun.database]\nname = "mysql://mikyun:{SECRET}@127.0.0.1/of a database"',
    f'[metrics]\nlisten = "http://mikyun:{SECRET}@127.0.0.1:x"',
]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_password_is_never_shown(leak: str) -> None:
    top = leak.startswith(("database =", "mikyun =", "password ="))
    with pytest.raises(ConfigError) as caught:
        parse(leak + "\n" + LEAST if top else LEAST + leak)
    assert caught.value.faults
    assert "hunter2" not in str(caught.value) + repr(caught.value.faults) + repr(caught.value.__cause__)


def test_a_password_in_the_file_is_pointed_elsewhere() -> None:
    fault = faults(LEAST + f'[mikyun.database]\npassword = "{SECRET}"')["mikyun.database.password"]
    assert "secrets stand in files: password_file, private_key_file" in fault.why
    assert fault.value == ""


def test_the_password_is_the_files_first_then_the_credentials_then_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert Database().password() == ""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Database().password() == ""
    (tmp_path / CREDENTIAL).write_text("from the credential\n")
    assert Database().password() == "from the credential"
    (tmp_path / "file").write_bytes("pass wörd \r\n".encode())
    assert Database(password_file=tmp_path / "file").password() == "pass wörd "


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_password_file_that_cannot_be_read_is_named_and_not_quoted(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "db-password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Database(password_file=file).password()
    (fault,) = caught.value.faults
    assert (fault.key, fault.value) == ("mikyun.database.password_file", str(file))


def with_files(password: Path, key_file: Path) -> Settings:
    return parse(f'{LEAST}private_key_file = "{key_file}"\n[mikyun.database]\npassword_file = "{password}"')


def test_files_that_the_configuration_names_are_looked_at(tmp_path: Path) -> None:
    good, empty, none = tmp_path / "good", tmp_path / "empty", tmp_path / "none"
    good.write_text(SECRET)
    empty.write_text("\n")
    check_files(with_files(good, good), "x")
    check_files(parse(LEAST), "x")
    for password, private, said in (
        (none, empty, {"mikyun.database.password_file": "cannot be read: No such file", "interfaces.wg0.private_key_file": "is empty"}),
        (empty, tmp_path, {"mikyun.database.password_file": "is empty", "interfaces.wg0.private_key_file": "Is a directory"}),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            check_files(with_files(password, private), "the path")
        assert caught.value.path == "the path"
        assert {f.key: f.value for f in caught.value.faults} == dict(
            zip(said, map(str, (password, private)), strict=True)
        )
        assert all(said[f.key] in f.why for f in caught.value.faults)
        assert SECRET not in str(caught.value)


def test_load_asks_no_such_file(tmp_path: Path) -> None:
    """A password file that is away at this moment is no reason to refuse a reload."""
    file = tmp_path / "wgsyncd.toml"
    file.write_text(LEAST + '[mikyun.database]\npassword_file = "/nowhere"')
    assert load(file).mikyun.database.password_file == Path("/nowhere")


def test_load_reads_a_file_and_names_it(tmp_path: Path) -> None:
    file = tmp_path / "wgsyncd.toml"
    with pytest.raises(ConfigError, match=r"wgsyncd\.toml: .*cannot be read"):
        load(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(file)
    file.write_text(LEAST)
    assert load(file) == parse(LEAST)


DURATIONS = {"15s": 15, "500ms": 0.5, "5min": 300, "24h": 86400, "1.5h": 5400, "1 s": 1}


@pytest.mark.parametrize(("written_", "seconds"), DURATIONS.items())
def test_durations(written_: str, seconds: float) -> None:
    assert (
        parse(LEAST + f'[mikyun.database]\ntimeout = "4s"\n[mikyun.qr]\nlifetime = "{written_}"').mikyun.qr.lifetime
        == seconds
    )


@pytest.mark.parametrize("bad", ['""', '"s"', '"-5s"', '"5 m"', '"5S"', '"1e3s"', "5", '"5s\\u0000"', "true"])
def test_what_is_no_duration(bad: str) -> None:
    fault = faults(LEAST + f"[mikyun.qr]\nlifetime = {bad}")["mikyun.qr.lifetime"]
    assert "number with a unit" in fault.why


def test_create_with_all_it_needs() -> None:
    extra = 'create = true\nprivate_key_file = "/k"\nlisten_port = 51820\naddresses = ["10.200.0.1/24"]\n'
    assert parse(LEAST + extra).interfaces["wg0"].create
    assert set(faults(LEAST + "create = true")) == {
        f"interfaces.wg0.{name}" for name in ("private_key_file", "listen_port", "addresses")
    }


def test_keys_that_are_always_kept() -> None:
    assert parse(LEAST + f'[peers]\nalways_keep = ["{text(1)}"]').peers.always_keep == (key(1),)


@pytest.mark.parametrize(
    ("listen", "address"),
    [("127.0.0.1:9586", ("127.0.0.1", 9586)), ("[::1]:9586", ("::1", 9586)), ("", None)],
)
def test_where_metrics_listen(listen: str, address: tuple[str, int] | None) -> None:
    assert parse(LEAST + f'[metrics]\nlisten = "{listen}"').metrics.address == address


ODD = ["5", "-1", "1e400", "nan", "9223372036854775807", "true", '""', '"\\u0000"', '"x"', '"📱"', '"a:²"', '"²s"', "[]", "[5]",
       '[""]', '["x/²"]', "[[]]", "{}", "{ a = 1 }", "2026-01-01", "12:00:00", "2026-01-01T00:00:00Z", '"/"', '"1e9d"',
       '"10.200.0.5/32"', '["10.200.0.5/33"]', '["::/129"]', '["fe80::1%a/64"]', f'"{"9" * 400}s"']  # fmt: skip


def tables(kind: type[msgspec.Struct], path: str) -> Iterator[tuple[str, str]]:
    """Yields every key below a table: the header of its table and the name of the key."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from tables(field.type, f"{path}.{field.name}".lstrip("."))
        elif path:
            yield f"[{path}]", field.name


KEYS = [*tables(Settings, ""), *(("", name) for name in Interface.__struct_fields__ if name != "networks")]


@pytest.mark.parametrize(("section", "name"), KEYS)
def test_any_value_is_taken_or_is_a_fault(section: str, name: str) -> None:
    for value in ODD:
        try:
            parse(f"{LEAST}{section}\n{name} = {value}\n")
        except ConfigError as error:
            assert name in str(error)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_error(anything: str) -> None:
    with pytest.raises(ConfigError):
        parse(anything)
