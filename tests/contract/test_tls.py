"""A server on another machine has to prove its name, and never gets the password without TLS."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.lying_mariadb import LyingServer, Talk
from tests.node import CONFIG
from tests.samples import TOKYO
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Settings
from wgsyncd.demo.mariadb import PrivateServer
from wgsyncd.errors import ConfigError, StoreError, StoreErrorCode
from wgsyncd.stores.mikyun.connection import Connection
from wgsyncd.stores.mikyun.doctor import Database, check
from wgsyncd.stores.mikyun.settings import mikyun

PASSWORD = "only-over-tls"


def _certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Makes a certificate that signs itself, for the address 127.0.0.1 alone. Returns it and its key."""
    certificate, secret = directory / f"{name}.pem", directory / f"{name}.key"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext",
            "subjectAltName=IP:127.0.0.1", "-keyout", str(secret), "-out", str(certificate)]  # fmt: skip
    subprocess.run(made, check=True, capture_output=True)
    return certificate, secret


class Site:
    """A MariaDB whose one account needs TLS, and two authorities: its own, and a stranger's."""

    def __init__(self, directory: Path, port: int, own: Path, stranger: Path) -> None:
        self.directory, self.port, self.own, self.stranger = directory, port, own, stranger

    def settings(self, authority: Path | None, host: str = "127.0.0.1", port: int | None = None) -> Settings:
        password = self.directory / "password"
        password.write_text(PASSWORD)
        tls = f'tls_ca = "{authority}"\n' if authority else ""
        where = f'host = "{host}"\nport = {port or self.port}\nuser = "far"\nname = "information_schema"\n{tls}'
        return parse(f'{CONFIG}[mikyun.database]\npassword_file = "{password}"\n{where}')

    def connection(self, authority: Path | None, host: str = "127.0.0.1", port: int | None = None) -> Connection:
        database = mikyun(self.settings(authority, host, port)).database
        return Connection(database, TOKYO, on_connect=lambda _: None)

    def cure(self, authority: Path | None, host: str = "127.0.0.1", port: int | None = None) -> str:
        """What the command of `wgsyncd doctor` prints."""

        def examine(_: Settings) -> Database:
            self.connection(authority, host, port).query("SELECT 1")
            raise AssertionError("the server is entered")

        (found,) = check(self.settings(authority, host, port), examine)
        done = subprocess.run(["sh", "-c", found.fix], check=False, capture_output=True, text=True)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("tls")
    own, secret = _certificate(directory, "own")
    stranger, _ = _certificate(directory, "stranger")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = (
        "--skip-networking=0",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        f"--ssl-cert={own}",
        f"--ssl-key={secret}",
    )
    with PrivateServer(options=options) as server:
        for account in ("'far'@'127.0.0.1'", "'far'@'localhost'"):
            server.sql(f"CREATE USER {account} IDENTIFIED BY '{PASSWORD}' REQUIRE SSL", database="")
        yield Site(directory, port, own, stranger)


def test_the_right_certificate_is_taken(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymysql.connections.ssl", ModuleType("ssl"))  # the daemon's driver is imported so
    connection = site.connection(site.own)
    assert connection.query("SHOW SESSION STATUS LIKE 'Ssl_version'")[0][1].startswith("TLSv1")
    assert len(connection.query("SELECT REPEAT('x', 5000000)")[0][0]) == 5_000_000
    connection.close()


@pytest.mark.parametrize(("ca", "host"), [("stranger", "127.0.0.1"), ("own", "localhost")], ids=["authority", "name"])
def test_another_certificate_is_refused(site: Site, ca: str, host: str) -> None:
    with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        site.connection(getattr(site, ca), host).query("SELECT 1")
    shown = site.cure(getattr(site, ca), host)
    assert "CN = own" in shown and "IP Address:127.0.0.1" in shown and "notAfter=" in shown
    assert ("verify error:num=62:hostname mismatch" if ca == "own" else "verify error:num=18:self-signed") in shown


def test_doctor_asks_the_server_that_is_named(site: Site) -> None:
    """`systemctl start mariadb` would start another server than the one that does not answer."""
    assert "name.invalid" not in site.cure(site.own, "name.invalid"), (
        "the names of name servers are printed, no address"
    )
    assert "onnect" in site.cure(site.own, "192.0.2.1")


def test_an_authority_that_is_none_is_named(site: Site) -> None:
    (broken := site.directory / "broken.pem").write_text("-----BEGIN CERT")
    with pytest.raises(StoreError, match=f"database.tls_ca = {broken} has no certificate"):
        site.connection(broken).query("SELECT 1")
    assert str(broken) in site.cure(broken)


def test_an_account_that_needs_tls_is_told_so(site: Site) -> None:
    with pytest.raises(StoreError, match="1045: .* An account with REQUIRE SSL needs tls_ca") as caught:
        site.connection(None).query("SELECT 1")
    assert caught.value.code is StoreErrorCode.DENIED


def test_a_greeting_without_tls_gets_nothing(site: Site) -> None:
    def greet(talk: Talk) -> None:
        talk.greet()
        talk.hear()

    with LyingServer(greet) as server:
        with pytest.raises(StoreError, match="SSL is required"):
            site.connection(site.own, port=server.port).query("SELECT 1")
        assert not any(talk.heard for talk in server.talks)


def test_a_key_without_effect_is_told() -> None:
    with pytest.raises(ConfigError, match=r"mikyun\.database\.tls_ca.*: has no effect together with database\.socket"):
        parse(f'{CONFIG}[mikyun.database]\nsocket = "/run/mysqld/mysqld.sock"\ntls_ca = "/etc/ssl/ca.pem"\n')


def test_a_pipe_in_the_place_of_an_authority_holds_nobody(site: Site) -> None:
    os.mkfifo(pipe := site.directory / "pipe")
    with pytest.raises(StoreError, match=f"database.tls_ca = {pipe} cannot be read: is not a plain file"):
        site.connection(pipe).query("SELECT 1")
