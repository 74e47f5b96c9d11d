"""A further store is an added folder and one line: its settings, their checks and its ports come from the folder."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import pytest

from tests.configuring import LEAST, faults
from wgsyncd import stores
from wgsyncd.config.load import check_files, parse
from wgsyncd.core.network import as_networks, parse_network
from wgsyncd.core.policies.model import PolicySettings
from wgsyncd.errors import ConfigError

FOLDER = {
    "__init__.py": "",
    "settings.py": """
        from __future__ import annotations
        from collections.abc import Mapping
        from pathlib import Path
        from typing import Literal
        from wgsyncd.config.schema import Check, Seconds, StoreSettings

        class Users(StoreSettings, frozen=True):
            url: str = "postgresql:///vpn"
            token_file: Path | None = None
            mode: Literal["all", "paid"] = "all"
            timeout: Seconds = Seconds(4)

            def check(self, check: Check) -> None:
                check(self.timeout >= 1, "timeout", "is below 1s")

            def secret_files(self) -> Mapping[str, Path | None]:
                return {"token_file": self.token_file}

        SETTINGS = Users
        """,
    "backend.py": """
        class Backend:
            def __init__(self, settings):
                self.url = settings.store.url

            def install(self, options):
                yield f"{self.url}: {options.schema_name} created"
        """,
    "init.py": """
        def register_init(parser):
            parser.add_argument("--schema-name", default="vpn")
        """,
}
USERS = 'control_plane = "users"\n' + LEAST


@pytest.fixture(autouse=True)
def second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds the folder, and the line to the table of control planes."""
    folder = tmp_path / "users_store"
    folder.mkdir()
    for name, text in FOLDER.items():
        (folder / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(stores.CONTROL_PLANES, "users", "users_store")


def test_its_table_is_read() -> None:
    settings = parse(USERS + '[users]\nurl = "postgresql://db/vpn"\nmode = "paid"\ntimeout = "2s"')
    assert settings.control_plane == "users"
    assert [getattr(settings.store, key) for key in ("url", "mode", "timeout")] == ["postgresql://db/vpn", "paid", 2.0]
    assert parse(USERS).store == stores.settings_type("users")(), "every key has a default"
    assert parse(LEAST).control_plane == "mikyun", "the first of the table is the default"


@pytest.mark.parametrize(
    ("lines", "key", "why"),
    [
        ('[users]\nmode = "some"', "users.mode", "is none of all, paid"),
        ('[users]\ntimeout = "4"', "users.timeout", "number with a unit"),
        ('[users]\ntimeout = "1ms"', "users.timeout", "is below 1s"),
        ("[users]\ncolour = 5", "users.colour", "is not a key that wgsyncd knows"),
        ("[users]\nurl = 5", "users.url", "a text in quotes"),
        ("[user]\nurl = 5", "user", "is not a section that wgsyncd knows"),
        ("[mikyun]\nlanguage = 5", "mikyun", "belongs to a control plane that control_plane does not name"),
    ],
)
def test_a_fault_of_its_table_is_clear(lines: str, key: str, why: str) -> None:
    found = faults(USERS + lines)
    assert set(found) == {key}
    assert why in found[key].why


def test_an_unknown_control_plane_is_told_the_known_ones() -> None:
    assert faults('control_plane = "xyz"\n' + LEAST)["control_plane"].why == "is none of mikyun, nexavpn, users"
    assert faults('control_plane = ["users"]\n' + LEAST)["control_plane"].why.startswith(
        "is none of mikyun, nexavpn, users"
    )


def test_its_secret_files_are_checked(tmp_path: Path) -> None:
    settings = parse(USERS + f'[users]\ntoken_file = "{tmp_path / "missing"}"')
    with pytest.raises(ConfigError, match=r"users\.token_file = .*missing: cannot be read"):
        check_files(settings, "wgsyncd.toml")


def test_its_backend_and_its_options_of_init_db() -> None:
    parser = argparse.ArgumentParser()
    stores.register_init(parser)
    options = parser.parse_args(["--schema-name", "wg"])
    backend = stores.open_store(parse(USERS))
    assert list(backend.install(options)) == ["postgresql:///vpn: wg created"]


def test_control_planes_may_have_options_of_the_same_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stores.CONTROL_PLANES, "another", stores.CONTROL_PLANES["mikyun"])
    parser = argparse.ArgumentParser()
    stores.register_init(parser)
    assert parser.parse_args(["--user", "admin"]).user == "admin"
    assert parser.parse_args([]).user is None  # each control plane has its own


NEXAVPN = 'control_plane = "nexavpn"\n' + LEAST


@pytest.mark.parametrize(
    ("line", "key", "why"),
    [
        ('order = "lowest"', "order", "is none of lowest-first, highest-first"),
        ('dns = "yes"', "dns", "true or false"),
        ('always = ["10.0.0.1/8"]', "always", "host bits set"),
        ('refuse = "deny"', "refuse", "is none of drop, reject"),
        ('local = "free"', "local", "is none of judge, leave"),
        ('free_sources = ["10.0.0.0/8", "0.0.0.0/0"]', "free_sources", "nothing would be refused"),
        ("enforce = 1", "enforce", "true or false"),
        ("force = true", "force", "is not a key that wgsyncd knows"),
    ],
)
def test_faults_of_nexavpns_policies_are_clear(line: str, key: str, why: str) -> None:
    found = faults(f"{NEXAVPN}[nexavpn.policies]\n{line}")
    assert set(found) == {f"nexavpn.policies.{key}"}
    assert why in found[f"nexavpn.policies.{key}"].why


def test_all_faults_of_nexavpns_policies_are_told_at_once() -> None:
    found = faults(f'{NEXAVPN}[nexavpn.policies]\norder = "x"\nrefuse = "x"\nlocal = "x"')
    assert set(found) == {f"nexavpn.policies.{key}" for key in ("order", "refuse", "local")}


def test_what_is_set_about_nexavpns_policies() -> None:
    assert parse(NEXAVPN).store.policy_settings() == PolicySettings()
    assert parse(LEAST).store.policy_settings() is None, "mikyun_cloud has no policies"
    written = """[nexavpn.policies]
        enforce = false
        order = "highest-first"
        dns = false
        always = ["10.0.0.1/32"]
        refuse = "reject"
        local = "leave"
        free_sources = ["10.2.0.0/16"]
        """
    always, free = (as_networks([parse_network(text)]) for text in ("10.0.0.1/32", "10.2.0.0/16"))
    assert parse(NEXAVPN + written).store.policy_settings() == PolicySettings(
        lowest_first=False, dns=False, always=always, free_sources=free, judges_local=False, rejects=True, enforce=False
    )
