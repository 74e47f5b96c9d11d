"""A gateway of NexaVPN runs from the Debian package, by the commands of etc/doc/nexavpn.md, in a booted system.

The parts are Debian's PostgreSQL as its own service, Debian's libpq and cryptography, and nft under the sandboxed unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nspawn import Booted
from tests.pages import DOC, INSTALL
from tests.real.installed import UNIT, Node
from tests.wait import until
from wgsyncd.demo.testbed import kernel_has_wireguard, new_keys, new_preshared_key

NEXAVPN = DOC / "nexavpn.md"
# This script plays the admin at the editor: the gateway has the network of install.md.
EDITOR = """\
#!/bin/sh
sed -i 's|100.96.0.1/16|10.200.0.1/24|' "$1"
"""
PEER = "7d0e6f3c-0f3b-4c53-8f0c-0d6a5b1c2e4f"
ROWS = """
INSERT INTO roles (name) VALUES ('user');
INSERT INTO users (role_id, username, display_name, password_hash) SELECT id, 'ada', 'Ada', 'x' FROM roles;
INSERT INTO devices (user_id, gateway_id, name, platform, device_fingerprint, public_key)
    SELECT users.id, gateways.id, 'laptop', 'linux', 'x', '{device}' FROM users, gateways;
INSERT INTO wireguard_peers (id, device_id, gateway_id, public_key, assigned_ip, preshared_key_ciphertext)
    SELECT '{peer}', id, gateway_id, public_key, '10.200.0.5', '{sealed}' FROM devices;
INSERT INTO ip_allocations (gateway_id, device_id, address) SELECT gateway_id, id, '10.200.0.5' FROM devices;
INSERT INTO policies (name) VALUES ('the office');
INSERT INTO policy_targets (policy_id, target_type, target_id) SELECT policies.id, 'user', users.id FROM policies, users;
INSERT INTO policy_destinations (policy_id, destination) SELECT id, '192.0.2.0/24' FROM policies;
"""


@pytest.fixture
def gateway(bootable: None, package: Path) -> Iterator[Node]:
    """Yields Debian with the package, its interface, and PostgreSQL with the tables of NexaVPN."""
    with Booted() as system:
        node = Node(system)
        system.write("/usr/bin/editor", EDITOR, mode=0o755)
        node.checkout(package)
        node.follow(INSTALL, "package")
        if not kernel_has_wireguard():
            node.follow(INSTALL, "userspace")
        node.follow(INSTALL, "interface")
        version = system.run("ls", "/usr/lib/postgresql").split()[-1]
        system.run("pg_createcluster", "--locale=C.UTF-8", version, "main")
        system.run("systemctl", "enable", "--now", "postgresql")
        node.follow(NEXAVPN, "tables")
        yield node


def sql(node: Node, text: str) -> None:
    """Runs statements as the database's administrator."""
    psql = ("psql", "--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "nexavpn")
    node.system.run("runuser", "-u", "postgres", "--", *psql, stdin=text)


def test_the_page_from_top_to_bottom(gateway: Node) -> None:
    run, follow = gateway.system.run, gateway.follow
    keys, secret = new_keys(), new_preshared_key()
    follow(NEXAVPN, "libraries")
    follow(NEXAVPN, "configuration")
    seal = ("wgsyncd", "psk", "seal", "--row", PEER, "--key", "fra1=/etc/wgsyncd/psk-fra1")
    sealed = run(*seal, stdin=f"{secret}\n").strip()
    sql(gateway, ROWS.format(device=keys.public, peer=PEER, sealed=sealed))
    assert " 0 faults" in follow(NEXAVPN, "start").replace("\n", " ")
    gateway.await_ready()
    until(lambda: f"{keys.public}\t{secret}\t(none)\t10.200.0.5/32" in gateway.peers(), 20, "the peer of the row")
    until(lambda: "192.0.2.0/24" in run("nft", "list", "table", "inet", "wgsyncd"), 20, "what the device may reach")
    assert "Traceback" not in gateway.system.journal(UNIT)

    run("systemctl", "restart", "postgresql")
    sql(gateway, "UPDATE devices SET status = 'blocked'")
    until(lambda: keys.public not in gateway.peers(), 20, "the end of the peer, after the database was away")


def test_without_the_libraries_the_command_that_installs_them_is_told(gateway: Node) -> None:
    gateway.follow(NEXAVPN, "configuration")
    gateway.shell("mv /usr/lib/*/libpq.so.5* . && ldconfig")
    with pytest.raises(
        AssertionError, match="apt-get install -y --no-install-recommends libpq5 python3-cryptography\n"
    ):
        gateway.system.run("wgsyncd", "doctor")
