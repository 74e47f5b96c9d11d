"""doctor checks who may read files with secrets."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.node import CONFIG
from wgsyncd.cli.doctor import files
from wgsyncd.cli.doctor.files import Who
from wgsyncd.config.load import parse
from wgsyncd.core.inspect.finding import ADMIN_PASSWORD, Finding, Severity
from wgsyncd.stores import account

ROOT, OTHER = Who("root", 0, frozenset((0,))), Who("daemon", 1, frozenset((1,)))


def test_who_may_read(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.touch()
    os.chown(file, 1, 2)
    file.chmod(0o640)
    for who, may in (
        (ROOT, True),
        (OTHER, True),
        (Who("a", 5, frozenset((2, 9))), True),
        (Who("b", 5, frozenset((3,))), False),
    ):
        assert who.may(file, 4) is may
    assert not Who("a", 5, frozenset((2,))).may(file, 2)
    file.chmod(0o040)
    assert not OTHER.may(file, 4), "the owner is not of the group"


@pytest.mark.parametrize(
    ("mode", "who", "level", "why"),
    [(0o600, ROOT, "ok", "-rw-------"), (0o640, OTHER, "fault", "cannot be read by the user daemon"),
     (0o644, OTHER, "fault", "open to everybody"), (0o660, ROOT, "warning", "can be written by its group")],
)  # fmt: skip
def test_secrets(tmp_path: Path, mode: int, who: Who, level: str, why: str) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    file = tmp_path / "password"
    file.write_text("x")
    file.chmod(mode)
    one = files._secret("password", file, who)
    assert (one.severity.value, why in one.message) == (level, True), one


@pytest.mark.parametrize(("owner", "mode"), [((0, 0), 0o700), ((0, 1), 0o701), ((1, 0), 0o601)])
def test_the_cure_lets_the_user_enter_the_directory(tmp_path: Path, owner: tuple[int, int], mode: int) -> None:
    """For a directory of the user or of its group, the bits of all others count nothing."""
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        if "pytest" in str(folder):
            folder.chmod(0o755)
    file = tmp_path / "closed" / "password"
    file.parent.mkdir()
    file.write_text("x")
    os.chown(file, 0, 1)
    file.chmod(0o640)
    os.chown(file.parent, *owner)
    file.parent.chmod(mode)
    read = ["setpriv", "--reuid=1", "--regid=1", "--clear-groups", "cat", str(file)]
    assert subprocess.run(read, capture_output=True, check=False).returncode
    found = files._secret("password", file, OTHER)
    assert (found.severity, found.message) == (Severity.FAULT, f"{file}: the user daemon may not enter {file.parent}")
    subprocess.run(["sh", "-c", found.fix], check=True)
    assert subprocess.run(read, capture_output=True, check=True).stdout == b"x"
    assert files._secret("password", file, OTHER).severity is Severity.OK


def test_files_of_another_owner_in_the_state_directory(tmp_path: Path) -> None:
    """A start by hand or a restored backup leaves files of root. The cure gives them to the daemon."""
    os.chown(tmp_path, OTHER.uid, min(OTHER.gids))
    (tmp_path / "revision").touch(0o644)
    found = files._state(tmp_path, OTHER, has_unit=True)
    assert found.severity is Severity.FAULT
    assert f"{tmp_path}: the user daemon cannot write revision" in found.message
    subprocess.run(["sh", "-c", found.fix], check=True)
    assert files._state(tmp_path, OTHER, has_unit=True).severity is Severity.OK


def test_a_state_directory_on_a_file_system_that_became_read_only(tmp_path: Path) -> None:
    """The modes still look right: a kernel makes a file system read-only after an error of the disk."""
    os.chown(tmp_path, OTHER.uid, min(OTHER.gids))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"ro,mode=700,uid={OTHER.uid}", "state", str(tmp_path)], check=True)
    try:
        found = files._state(tmp_path, OTHER, has_unit=True)
        shown = subprocess.run(["sh", "-c", found.fix], check=False, capture_output=True, text=True)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert (found.severity, "is read-only" in found.message) == (Severity.FAULT, True)
    assert "tmpfs" in shown.stdout
    assert files._state(tmp_path, OTHER, has_unit=True).severity is Severity.OK


@pytest.mark.parametrize(
    ("mode", "copied", "level", "why"),
    [(0o600, "password:{}", "ok", "systemd gives the service a copy"),
     (0o640, "other:/x password:{}", "warning", "can be read by its group"),
     (0o600, "other:/x", "fault", "cannot be read by the user daemon"), (0o600, "", "fault", "cannot be read")],
)  # fmt: skip
def test_secrets_that_systemd_copies(tmp_path: Path, mode: int, copied: str, level: str, why: str) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    os.chown(file, -1, 1)
    file.chmod(mode)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    one = files._secret("password", file, OTHER, frozenset(copied.format(file).split()))
    assert (one.severity.value, why in one.message) == (level, True), one
    assert ("LoadCredential=password:" in one.fix) is (level == "fault")


@pytest.mark.parametrize(("folder", "mode"), [(0o700, 0o600), (0o755, 0o640), (0o750, 0o644)])
def test_the_cure_lets_the_user_read_the_configuration(tmp_path: Path, folder: int, mode: int) -> None:
    """root can read a closed file, so `check-config` of root says that all is well."""
    for one in (tmp_path, *tmp_path.parents[:-2]):
        if "pytest" in str(one):
            one.chmod(0o755)
    file = tmp_path / "wgsyncd" / "wgsyncd.toml"
    file.parent.mkdir(mode=folder)
    file.write_text("x")
    file.chmod(mode)
    found = files.configuration(file, "", OTHER)
    assert (found.severity, "daemon cannot read" in found.message) == (Severity.FAULT, True)
    opens, restart = found.fix.rsplit(" && ", 1)
    subprocess.run(["sh", "-ec", opens], check=True)
    assert (restart, files.configuration(file, "", OTHER).severity) == ("systemctl restart wgsyncd", Severity.OK)
    subprocess.run(["setpriv", "--reuid=1", "--regid=1", "--clear-groups", "cat", str(file)], check=True)


def found(tmp_path: Path, who: Who | None) -> dict[str, Finding]:
    checks = files.check(parse(CONFIG), who, tmp_path, None, tmp_path, tmp_path / "admin-password")
    return {one.check: one for one in checks}


def test_the_password_of_an_administrator_that_is_left_over_is_told_of(tmp_path: Path) -> None:
    assert "admin's password" not in found(tmp_path, ROOT)
    file = tmp_path / "admin-password"
    file.touch()
    one = found(tmp_path, ROOT)["admin's password"]
    assert (one.severity, one.fix) == (Severity.WARNING, f"rm {file}")


def test_the_command_with_that_file_removes_it() -> None:
    made = account.init_db_with_password("db.example", " --node x")
    assert made.endswith(f"wgsyncd init-db --password-file {ADMIN_PASSWORD} --node x && rm {ADMIN_PASSWORD}")
