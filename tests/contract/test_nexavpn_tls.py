"""A PostgreSQL on another machine has to prove its name, and a node may prove its own by a certificate."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nexavpn_database import BERLIN, ROLES, NexavpnDatabase
from tests.postgres import PrivatePostgres
from wgsyncd.errors import StoreError
from wgsyncd.stores.nexavpn import login

# Addresses of this process alone, so that no port has to be free. The certificate is for the first one.
_OF_PROCESS = f"{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250}"
PROVEN, UNPROVEN = f"127.{_OF_PROCESS}.1", f"127.{_OF_PROCESS}.2"
ROLE = ROLES[BERLIN]
_HBA = f"""local all all trust
hostssl all {ROLE} 127.0.0.0/8 cert
"""


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Makes a certificate that signs itself. Returns it and its key, which belongs to the user of the directory."""
    made, secret = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
               "-addext", f"subjectAltName=IP:{PROVEN}", "-keyout", str(secret), "-out", str(made)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return made, secret


@pytest.fixture(scope="module")
def nexa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NexavpnDatabase]:
    """Yields a database of a server that listens with TLS. Its client's certificates are in the same directory."""
    server = PrivatePostgres()
    own, secret = certificate(server.directory, "own")
    shutil.chown(secret, *[server.directory.owner(), server.directory.group()])
    client, _ = certificate(server.directory, ROLE)
    certificate(server.directory, "stranger")
    tls = f"-c ssl=on -c ssl_cert_file={own} -c ssl_key_file={secret} -c ssl_ca_file={client}"
    server.options = f"-c listen_addresses={PROVEN},{UNPROVEN} {tls}"
    with server:
        (server.directory / "data" / "pg_hba.conf").write_text(_HBA, encoding="utf-8")
        made = NexavpnDatabase(server, "tls")
        made.init()
        with made.admin() as admin:
            admin.execute("SELECT pg_reload_conf()")
        yield made


def query(nexa: NexavpnDatabase, host: str = PROVEN, authority: str = "own", client: str = ROLE) -> list[tuple[object]]:
    """What the server says of this session's TLS."""
    files = nexa.server.directory
    more: dict[str, Any] = (
        {"tls_certificate": files / f"{client}.pem", "tls_key": files / f"{client}.key"} if client else {}
    )
    if authority:
        more["tls_ca"] = files / f"{authority}.pem"
    with nexa.connected(hosts=(host,), **more) as made:
        return made.query("SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid()")


def test_the_right_certificates_are_taken(nexa: NexavpnDatabase) -> None:
    assert query(nexa) == [(True,)]


def test_without_an_authority_of_its_own_debians_are_asked(
    nexa: NexavpnDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path(login.AUTHORITIES).stat().st_size > 100_000
    with pytest.raises(StoreError, match="certificate verify failed"):
        query(nexa, authority="")
    monkeypatch.setattr(login, "AUTHORITIES", str(nexa.server.directory / "own.pem"))
    assert query(nexa, authority="") == [(True,)]


REFUSED = {
    "certificate verify failed": {"authority": "stranger"},
    "does not match host name": {"host": UNPROVEN},
    "valid client certificate": {"client": ""},
    "unknown ca": {"client": "stranger"},
}


@pytest.mark.parametrize("why", REFUSED)
def test_any_other_is_refused(nexa: NexavpnDatabase, why: str) -> None:
    with pytest.raises(StoreError, match=why):
        query(nexa, **REFUSED[why])


def test_a_server_without_tls_is_refused(nexa: NexavpnDatabase) -> None:
    third = f"127.{_OF_PROCESS}.3"
    with PrivatePostgres(f"-c listen_addresses={third}"), pytest.raises(StoreError, match="does not support SSL"):
        query(nexa, third)


FILES = {"tls_ca": "pem", "tls_certificate": "pem", "tls_key": "key"}


@pytest.mark.parametrize("key", FILES)
def test_a_pipe_in_the_place_of_a_file_holds_nobody(nexa: NexavpnDatabase, key: str, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    files: dict[str, Any] = {name: nexa.server.directory / f"{ROLE}.{end}" for name, end in FILES.items()}
    with pytest.raises(StoreError, match=f"database.{key} = {pipe} cannot be read: is not a plain file"):
        nexa.connected(hosts=(PROVEN,), **{**files, key: pipe}).__enter__().query("SELECT 1")
