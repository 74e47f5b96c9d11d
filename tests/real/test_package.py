"""The Debian package installs, upgrades under traffic and is removed, in a booted system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.version import Version

from tests.nspawn import REPOSITORY
from tests.pages import INSTALL
from tests.real.installed import LATER, UNIT, Node
from tests.wait import until
from wgsyncd.demo.testbed import kernel_has_wireguard


@pytest.fixture
def node(installed: Node, package: Path) -> Iterator[Node]:
    """Yields a system whose daemon runs with a customer.

    Afterwards the package is there in its own version, and the daemon is stopped.
    """
    installed.configure()
    installed.systemctl("restart")
    installed.await_ready()
    installed.connect()
    yield installed
    if not installed.system.run("dpkg-query", "--show", "wgsyncd", check=False).endswith(f"\t{_version(package)}\n"):
        installed.shell(f"dpkg --install ./{package.name}")
    installed.system.run("systemctl", "stop", UNIT)


def _purge(node: Node) -> None:
    # The interface goes first. A userspace interface runs as the daemon's user, which could not be deleted
    # meanwhile.
    node.take_down()
    node.system.run("apt-get", "purge", "-y", "wgsyncd", timeout=300)


def _version(package: Path) -> str:
    argv = ["dpkg-deb", "--field", str(package), "Version"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def test_lintian_finds_nothing(package: Path) -> None:
    """lintian is Debian's own check of a package. It finds no error and no warning."""
    argv = ["lintian", "--allow-root", "--fail-on=error,warning", str(package)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_two_builds_are_equal(package: Path, tmp_path: Path) -> None:
    """A build elsewhere, as another time zone, home and umask have it, gives the same bytes."""
    epoch = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch.stdout.strip()}
    one = package
    if re.search(r"\.g[0-9a-f]+\.[0-9]{14}", _version(package)):  # changes are not committed: the version has the time
        one = _build(REPOSITORY, tmp_path / "one", environment)
    copy = tmp_path / "copy"
    shutil.copytree(
        REPOSITORY,
        copy,
        symlinks=True,
        ignore=shutil.ignore_patterns(".venv*", "dist", "__pycache__", ".hypothesis", ".*_cache"),
    )
    (tmp_path / "tmp").mkdir()
    elsewhere = {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
    other = _build(copy, tmp_path / "other", {**environment, **elsewhere}, umask=0o077)
    assert (other.name, other.read_bytes()) == (one.name, one.read_bytes())


def _build(tree: Path, into: Path, environment: dict[str, str], umask: int = -1) -> Path:
    done = subprocess.run(
        [tree / "etc/debian/build", into], env=environment, capture_output=True, text=True, umask=umask, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.splitlines()[-1])


def test_program_and_package_name_the_same_commit(node: Node, package: Path) -> None:
    said, of_package = node.system.run("wgsyncd", "--version").strip(), _version(package)
    assert said.startswith("wgsyncd " + re.split("[~+]", of_package)[0])
    for commit in re.findall(r"\.g([0-9a-f]+)", of_package):
        assert f"+g{commit}" in said
    assert Version(said.split()[1]) > Version("0.1.0.dev0"), "the fallback of a tree without git"


def test_what_it_brings(node: Node) -> None:
    run = node.system.run
    owned = set(run("dpkg", "--listfiles", "wgsyncd").splitlines())
    assert {"/usr/share/man/man8/wgsyncd.8.gz", "/usr/share/man/man5/wgsyncd.toml.5.gz",
            "/usr/share/man/man7/wgsyncd-install.7.gz", "/usr/share/man/man7/wgsyncd-runbook.7.gz",
            "/usr/bin/wgsyncd", "/usr/share/bash-completion/completions/wgsyncd", "/usr/share/zsh/vendor-completions/_wgsyncd"} <= owned  # fmt: skip
    assert run("head", "--lines=1", "/usr/bin/wgsyncd") == "#!/usr/bin/python3 -I\n", (
        "no variable and no user adds modules"
    )
    found = set(run("find", "/usr/lib/wgsyncd", "/usr/share/wgsyncd").splitlines())
    found.discard("/usr/share/wgsyncd/probe.py")  # the sandbox's test put this file there
    # Debian's python3 compiles the modules at the installation.
    compiled = {Path(name) for name in found if name.endswith(".pyc")}
    assert {str(pyc.parent.parent / f"{pyc.name.partition('.')[0]}.py") for pyc in compiled} <= owned
    beside = {name for name in found - owned if "/__pycache__" not in name}
    assert not beside, "what runs leaves nothing beside the package's files"
    changed = run("dpkg", "--verify", "wgsyncd", check=False).split()
    assert changed == ["??5??????", "c", "/etc/wgsyncd/wgsyncd.toml"], "the configuration is the admin's"


def handshaken(node: Node) -> int:
    """Returns the time of the latest handshake in UNIX seconds. A peer that was set again has 0."""
    return int(node.system.run("wg", "show", "wg0", "latest-handshakes").split()[1])


def test_an_upgrade_under_traffic(node: Node, later_package: Path) -> None:
    """The session continues, no packet is lost, every byte is posted once, and the new program runs."""
    run = node.system.run
    node.traffic()
    nothing = node.settled()
    handshake, pid, since = handshaken(node), node.show("MainPID"), node.cursor()
    configuration = run("cat", "/etc/wgsyncd/wgsyncd.toml")
    ping = ("ip", "netns", "exec", "customer", "ping", "-i", "0.02", "-s", "1000", "10.200.0.1")
    run("systemd-run", "--unit=stream", "--property=Type=exec", "--property=KillSignal=SIGINT", *ping)
    node.apt_install(later_package)
    node.await_ready()
    run("systemctl", "stop", "stream")
    said = run("journalctl", "--no-pager", "--unit=stream", "--output=cat")
    back = {int(number) for number in re.findall(r"icmp_seq=(\d+)", said)}
    assert len(back) >= 50
    # The last ones may have been under way when it was stopped. A slow machine has several under way.
    assert back == set(range(1, max(back) + 1)), "no packet before the last answer is lost"
    until(lambda: node.owed() == nothing, 20, "all is posted")
    assert handshaken(node) >= handshake > 0
    assert not node.said("peers changed", since), "no peer was touched"
    assert node.show("MainPID") not in ("0", pid)
    assert f'version="{LATER}"' in node.get("/metrics")
    assert run("cat", "/etc/wgsyncd/wgsyncd.toml") == configuration


def test_out_and_in_again(node: Node, package: Path) -> None:
    """A removal stops the daemon and keeps the interface, its peers and the admin's files.

    A purge leaves only the interface's private key (`create = true`), because each customer would otherwise need a new
    configuration. A new installation neither starts nor enables the daemon, because an admin has to check it first.
    """
    run = node.system.run
    run("systemctl", "enable", UNIT)
    uid = run("id", "--user", "wgsyncd").strip()
    peers = node.peers().splitlines()[0].split("\t")[:4]
    run("apt-get", "remove", "-y", "wgsyncd", timeout=300)
    assert node.show("ActiveState") == "inactive"
    assert node.peers().splitlines()[0].split("\t")[:4] == peers
    assert run("find", "/etc/systemd/system", "-name", "wgsyncd.service").strip() == "", "nothing starts at boot"
    assert run("ls", "/etc/wgsyncd").split() == ["wgsyncd.toml"]
    assert run("ls", "-d", "/var/lib/wgsyncd", "/usr/lib/wgsyncd", check=False).split() == ["/var/lib/wgsyncd"]

    assert run("find", "/etc/systemd/system", "-name", "userspace.conf") == "", "it needs a program of the package"
    run("rm", "-r", "/etc/systemd/system/wgsyncd.service.d")  # the test itself made this folder
    node.system.write("/etc/wgsyncd/wg0.key", "an interface's private key", mode=0o600)
    _purge(node)
    # An admin has to drop the tables. PostgreSQL's folder may have a file of the demo, and man keeps pages that were read.
    others = ("/var/lib/mysql", "/etc/postgresql-common", "/var/cache/man")
    left_out = [word for path in others for word in ("-path", path, "-prune", "-o")]
    found = run("find", "/etc", "/run", "/usr", "/var", "-xdev", *left_out, "-name", "*wgsyncd*", "-print").split()
    assert found == ["/etc/wgsyncd"]
    assert run("ls", "/etc/wgsyncd").split() == ["wg0.key"]
    assert run("find", "/etc", "/run", "/usr", "/var", "-xdev", "-uid", uid).split() == []
    assert run("getent", "passwd", "wgsyncd", check=False) + run("getent", "group", "wgsyncd", check=False) == ""
    (node.system.root / "etc/wgsyncd/wg0.key").unlink()

    node.apt_install(package)
    assert node.show("ActiveState") == "inactive"
    assert node.show("UnitFileState") == "disabled"
    shipped = run("cat", "/etc/wgsyncd/wgsyncd.toml")
    assert shipped == (REPOSITORY / "etc" / "wgsyncd.toml").read_text()
    if not kernel_has_wireguard():
        node.follow(INSTALL, "userspace")
    node.set_up()
