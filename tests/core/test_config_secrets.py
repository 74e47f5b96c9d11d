"""No message about the configuration shows a password or a key, and the files with them are checked."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.configuring import LEAST, faults
from wgsyncd.config import secret_file
from wgsyncd.config.load import check_files, parse
from wgsyncd.config.schema import Settings
from wgsyncd.config.secret_file import CREDENTIAL
from wgsyncd.errors import ConfigError
from wgsyncd.stores.mikyun.settings import Database


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


def test_systemds_copy_stands_in_for_a_file_that_only_root_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        if path.parent == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        with open(path, "rb") as file:
            return file.read()

    monkeypatch.setattr(secret_file, "read_plain", refuse)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    database = Database(password_file=tmp_path / "secret")
    with pytest.raises(ConfigError, match="Permission denied"):
        database.password()
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(copies))
    (copies / "db-password").write_text("of another file")
    for content in (None, "\n"):  # No line of the unit, and a line of a file that did not exist.
        if content is not None:
            (copies / "secret").write_text(content)
        with pytest.raises(ConfigError, match="Permission denied"):
            database.password()
    (copies / "secret").write_text("of this file\n")
    assert database.password() == "of this file"


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
