"""`wgsyncd doctor` finds what is wrong with an interface, and what helps."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from tests.fakes import FakeWireGuard
from tests.samples import key
from tests.shell.test_doctor_checks import SETTINGS, worst
from wgsyncd.cli.doctor import interfaces
from wgsyncd.cli.doctor.files import Who
from wgsyncd.config.load import parse
from wgsyncd.core.inspect.answers import Link
from wgsyncd.core.inspect.finding import Severity
from wgsyncd.core.model import PublicKey, decode_key
from wgsyncd.dataplane.wireguard.local import LocalWireGuard
from wgsyncd.errors import InterfaceMissing, ModuleMissing, WireGuardError


def look(addresses: str = "10.200.0.1/24", up: bool = True, mtu: int = 1420) -> interfaces.ReadLink:
    return lambda name: Link(up, frozenset((addresses if name == "wg0" else "10.251.0.1/24",)), mtu)


@pytest.fixture(autouse=True)
def sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a folder in the place of /proc/sys, where all is forwarded."""
    for name in ("ip_forward", "conf/wg0/forwarding", "conf/wg1/forwarding", "conf/wg.1/forwarding"):
        (file := tmp_path / "net/ipv4" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1\n")
    (tmp_path / "net/ipv6/conf/all").mkdir(parents=True)
    (tmp_path / "net/ipv6/conf/all/forwarding").write_text("1\n")
    monkeypatch.setattr(interfaces.check, "__defaults__", (tmp_path, None, tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "network", "key", "told"),
    [("ipv4/ip_forward", "10.0.0.0/24", "net.ipv4.ip_forward", "devices of wg0 reach only this server itself"),
     ("ipv4/conf/wg0/forwarding", "10.0.0.0/24", "net.ipv4.conf.wg0.forwarding", "devices of wg0 reach only"),
     ("ipv6/conf/all/forwarding", "fd00::/64", "net.ipv6.conf.all.forwarding", "Set accept_ra = 2 first")],
)  # fmt: skip
@pytest.mark.parametrize("plane", ["", 'control_plane = "nexavpn"\n'])
def test_forwarding_that_is_off(sysctl: Path, file: str, network: str, key: str, told: str, plane: str) -> None:
    settings = parse(f'{plane}[interfaces.wg0]\nnetworks = ["{network}"]')
    wg = FakeWireGuard("wg0")
    (sysctl / "net" / file).write_text("0\n")
    found = {one.check: one for one in interfaces.check(settings, wg, look())}
    one = found["wg0 forwarding"]
    assert (one.severity, one.fix.startswith(f"echo '{key} = 1' >> ")) == (Severity.WARNING, True)
    assert told in one.message
    (sysctl / "net" / file).unlink()
    found = {one.check: one for one in interfaces.check(settings, wg, look())}
    assert found["wg0 forwarding"].message == f"{key} cannot be read: No such file or directory"


def test_an_interface_without_networks(sysctl: Path) -> None:
    """NexaVPN has its network. A row may claim any address that the configuration does not name."""
    plain = 'control_plane = "nexavpn"\n[interfaces.wg0]\naddresses = ["{}"]'
    wg = FakeWireGuard("wg0")
    wg.delete("wg0")
    wg.add_interface("wg0", public_key=key(90))
    settings = parse(plain.format("10.200.0.1/24"))
    assert worst(interfaces.check(settings, wg, look())).severity is Severity.OK
    two = Link(True, frozenset({"10.200.0.1/24", "10.9.0.1/24", "fe80::1/64"}), 1420)
    assert worst(interfaces.check(settings, wg, lambda _: two)).message.startswith("10.9.0.1/24 is not in")
    for file, address in (("ipv4/ip_forward", "10.200.0.1/24"), ("ipv6/conf/all/forwarding", "fd00::1/64")):
        (sysctl / "net" / file).write_text("0\n")
        one = worst(interfaces.check(parse(plain.format(address)), wg, look(address)))
        assert (one.check, "is 0" in one.message) == ("wg0 forwarding", True)
        (sysctl / "net" / file).write_text("1\n")


def test_an_interface_with_a_dot_in_its_name(sysctl: Path) -> None:
    """sysctl writes its name with a slash."""
    (sysctl / "net/ipv4/conf/wg.1/forwarding").write_text("0\n")
    settings = parse('[interfaces."wg.1"]\nnetworks = ["10.0.0.0/24"]')
    found = {one.check: one for one in interfaces.check(settings, FakeWireGuard("wg.1"), look())}
    assert "net.ipv4.conf.wg/1.forwarding = 1" in found["wg.1 forwarding"].fix


@pytest.mark.parametrize(("mtu", "network"), [(1280, "fd00::/64"), (1279, "10.200.0.0/24"), (1279, "fd00::/64")])
def test_an_mtu_without_ipv6(mtu: int, network: str) -> None:
    """Linux takes IPv6 from such an interface, and `ip address add` fails."""
    address = network.replace("0/24", "1/24").replace("::/", "::1/")
    settings = parse(f'[interfaces.wg0]\nnetworks = ["{network}"]\naddresses = ["{address}"]')
    wg = FakeWireGuard()
    wg.add_interface("wg0", public_key=key(90))
    one = worst(interfaces.check(settings, wg, look(address, mtu=mtu)))
    if mtu >= 1280 or ":" not in network:
        assert one.severity is Severity.OK
        return
    assert one.message == "its MTU is 1279, so it has no IPv6: that needs 1280 (RFC 8200)"
    assert one.fix == "ip link set wg0 mtu 1280 && ip address replace fd00::1/64 dev wg0"
    make = "ip link add wg0 type veth peer name eth9; ip address add fd00::1/64 dev wg0; ip link set wg0 mtu 1279; ip link set wg0 up"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", f"{make}; ip -6 -br address show wg0; {one.fix}; ip -6 -br address show wg0"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.count("fd00::1/64")) == (0, 1), done.stderr


def test_another_private_key_than_in_the_file_of_wg_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `wg set wg0 private-key`, no customer knows the server any more."""
    monkeypatch.setattr(interfaces, "WG_QUICK", tmp_path)
    wg, file = FakeWireGuard("wg0", "wg1"), tmp_path / "wg0.conf"
    private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
    public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout
    wg.add_interface("wg0", public_key=PublicKey(decode_key(public.strip())))
    file.write_text(f"[Interface]\nPrivateKey = {private}\n")
    assert "wg0 key" not in {one.check for one in interfaces.check(SETTINGS, wg, look())}
    wg.add_interface("wg0", public_key=PublicKey(key(9)))
    found = {one.check: one for one in interfaces.check(SETTINGS, wg, look())}
    assert (found["wg0 key"].severity, found["wg0 key"].fix) == (Severity.FAULT, "systemctl restart wg-quick@wg0")
    assert private.strip() not in found["wg0 key"].message
    file.write_text("[Interface]\nPostUp = wg set %i private-key /etc/wireguard/key\n")
    assert "wg0 key" not in {one.check for one in interfaces.check(SETTINGS, wg, look())}


def test_a_userspace_process_that_the_daemon_may_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may ask it, so doctor looks at the mode of the socket. The daemon need not run."""
    wg, settings = FakeWireGuard(), parse('[interfaces.wg0]\nnetworks = ["10.0.0.0/24"]')
    wg.add_interface("wg0", public_key=key(90))
    read = wg.read
    monkeypatch.setattr(wg, "read", lambda name: replace(read(name), kind="userspace"))
    (socket := tmp_path / "wg0.sock").touch(0o600)

    def found(who: Who | None) -> Severity:
        return next(one.severity for one in interfaces.check(settings, wg, look(), who=who) if one.check == "wg0")

    daemon = Who("wgsyncd", 65533, frozenset((65533,)))
    assert [found(one) for one in (daemon, Who("root", 0, frozenset((0,))), None)] == [
        Severity.FAULT, Severity.OK, Severity.OK
    ]  # fmt: skip
    socket.chmod(0o666)
    assert found(daemon) is Severity.OK


def test_interfaces() -> None:
    wg = FakeWireGuard("wg0", "wg1")
    assert worst(interfaces.check(SETTINGS, wg, look())).fix == "systemctl restart wg-quick@wg0"
    for number, name in enumerate(("wg0", "wg1"), 90):
        wg.delete(name)
        wg.add_interface(name, public_key=key(number))
    assert worst(interfaces.check(SETTINGS, wg, look())).severity is Severity.OK
    assert worst(interfaces.check(SETTINGS, wg, look(up=False))).fix == "ip link set wg0 up || ss -lunp"
    for has in ("fe80::1/64", "fd00::1/64"):
        assert worst(interfaces.check(SETTINGS, wg, look(has))).fix == "ip address add 10.200.0.1/24 dev wg0"
    one = worst(interfaces.check(SETTINGS, wg, look("10.44.0.1/24")))
    assert "it has 10.44.0.1/24, but interfaces.wg0.addresses says 10.200.0.1/24" in one.message
    assert one.fix.startswith("editor "), "a server with customers does not get the address of the shipped file"
    wg.delete("wg0")
    assert worst(interfaces.check(SETTINGS, wg, look())).fix == "systemctl restart wg-quick@wg0"


@pytest.mark.parametrize(
    ("name", "level", "mend"),
    [("EPERM", "warning", "sudo wgsyncd doctor"), ("ENOENT", "fault", "modprobe wireguard"),
     ("EOPNOTSUPP", "fault", "ip link delete wg0"), ("ETIMEDOUT", "fault", "wg show wg0")],
)  # fmt: skip
def test_interfaces_that_cannot_be_read(name: str, level: str, mend: str) -> None:
    one = interfaces._missing("wg0", SETTINGS.interfaces["wg0"], WireGuardError("wg0", name, "why"))
    assert (one.severity.value, one.fix.startswith(mend)) == (level, True)


def test_a_kernel_without_the_module_is_told_to_load_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """If wireguard-go is installed, the unit starts that, and no module is needed."""
    wg0 = SETTINGS.interfaces["wg0"]
    wg = LocalWireGuard(sockets=Path("/nonexistent"))

    def no_family(interface: str) -> NoReturn:
        raise ModuleMissing(interface, "ENODEV", "no such interface, and no module")

    monkeypatch.setattr(wg._kernel, "read", no_family)
    for program, begins in (("/usr/bin/wireguard-go", "systemctl"), (None, "modprobe wireguard && ")):
        monkeypatch.setattr(shutil, "which", lambda _, found=program: found)
        with pytest.raises(InterfaceMissing) as caught:
            wg.read("wg0")
        assert ("restart wg-quick@wg0" in str(caught.value)) is (program is not None)
        one = interfaces._missing("wg0", wg0, caught.value)
        assert one.fix.startswith(begins) and one.fix.endswith("systemctl restart wg-quick@wg0")
        assert "If this server has no wg0, remove [interfaces.wg0]" in one.message
    wg.close()
