"""Checks of the interfaces: presence, kind, key, port, addresses and forwarding."""

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from wgsyncd.cli.doctor.files import WG_QUICK, Who
from wgsyncd.config.schema import Interface, Settings
from wgsyncd.core.inspect.answers import Link
from wgsyncd.core.inspect.finding import Finding, fault, ok, warning
from wgsyncd.core.model import InterfaceState, encode_key
from wgsyncd.core.network import parse_host
from wgsyncd.core.words import counted
from wgsyncd.engine import wording
from wgsyncd.engine.reports.verdict import if_not_here
from wgsyncd.engine.status_update import is_recent
from wgsyncd.errors import InterfaceMissing, ModuleMissing, WireGuardError
from wgsyncd.ports import WireGuard

_MODULE = "modprobe wireguard && echo wireguard > /etc/modules-load.d/wireguard.conf"
_EDIT = "editor /etc/wgsyncd/wgsyncd.toml && systemctl reload wgsyncd"
# By the bytes of an address: what forwards packets from an interface, and its answers. The first one sets the others.
# Linux asks the interface by which an IPv4 packet came in (ip_route_input_slow), and only `all` for IPv6 (ip6_forward).
_FORWARDING = {4: ("net.ipv4.ip_forward", "net.ipv4.conf.{}.forwarding"), 16: ("net.ipv6.conf.all.forwarding",)}
_IPV6_MTU = 1280  # bytes (IPV6_MIN_MTU): Linux takes IPv6 and its addresses from an interface with less
_SYSCTL = "/etc/sysctl.d/90-wgsyncd.conf"
ReadLink = Callable[[str], Link | None]


def check(
    settings: Settings, wireguard: WireGuard, read_link: ReadLink, sysctl: Path = Path("/proc/sys"),
    who: Who | None = None, sockets: Path = Path("/var/run/wireguard"),
) -> Iterator[Finding]:  # fmt: skip
    """Every check of the interfaces. ``who``: the daemon's user, None if it does not exist."""
    for name, one in settings.interfaces.items():
        try:
            state = wireguard.read(name)
        except WireGuardError as error:
            yield _missing(name, one, error)
            continue
        if state.kind == "userspace" and who is not None and not who.may(sockets / f"{name}.sock", 2):
            why = f"its process belongs to another user, so the daemon, as {who.name}, may not ask it"
            yield fault(name, why, "man wgsyncd-install")
        else:
            yield _wireguard(name, one, state)
        yield from _file_key(name, state, WG_QUICK / f"{name}.conf")
        yield _address(name, one, read_link)
        yield _forwarding(name, one, sysctl)


def _missing(name: str, one: Interface, error: WireGuardError) -> Finding:
    if isinstance(error, InterfaceMissing):
        if one.create:
            return warning(name, f"{error.text}. wgsyncd makes it (create = true)", "systemctl start wgsyncd")
        module = f"{_MODULE} && " if isinstance(error, ModuleMissing) else ""
        return fault(name, f"{error.text}. {if_not_here(name)}", f"{module}systemctl restart wg-quick@{name}")
    if error.name == "ENOENT":
        return fault(name, error.text, _MODULE)
    if error.name in ("EPERM", "EACCES"):
        return warning(name, f"cannot be read: {error.text}", "sudo wgsyncd doctor")
    if error.name == "EOPNOTSUPP":
        return fault(name, error.text, f"ip link delete {name} && systemctl restart wg-quick@{name}")
    return fault(name, str(error), f"wg show {name}")


def _wireguard(name: str, one: Interface, state: InterfaceState) -> Finding:
    whose = "the kernel's" if state.kind == "kernel" else "a userspace process's"
    if state.public_key is None:
        file = one.private_key_file
        mend = f"wg set {name} private-key {file}" if file else f"systemctl restart wg-quick@{name}"
        return fault(name, f"{whose}, without a private key: nobody can connect", mend)
    if one.listen_port and state.listen_port != one.listen_port:
        return warning(
            name, f"listens on port {state.listen_port}, listen_port is {one.listen_port}",
            wording.set_port(name, one.listen_port),
        )  # fmt: skip
    online = sum(1 for peer in state.peers.values() if is_recent(peer.latest_handshake, time.time()))
    return ok(name, f"{whose}, port {state.listen_port}, {counted(len(state.peers), 'peer')}, {online} online")


def _file_key(name: str, state: InterfaceState, file: Path) -> Iterator[Finding]:
    """Somebody may have given the interface another private key than wg-quick's file has."""
    try:
        found = re.search(r"^\s*PrivateKey\s*=\s*(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE | re.IGNORECASE)
        done = subprocess.run(
            ["wg", "pubkey"], input=found[1] if found else "", capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return
    if done.returncode == 0 and state.public_key is not None and done.stdout.strip() != encode_key(state.public_key):
        why = f"has another private key than {file}, and clients know one of the two. Is the present one right?"
        yield fault(f"{name} key", f"{why} Then correct the file", f"systemctl restart wg-quick@{name}")


def _address(name: str, one: Interface, read_link: ReadLink) -> Finding:
    check = f"{name} address"
    try:
        link = read_link(name)
    except WireGuardError as error:
        return warning(check, str(error), f"ip address show dev {name}")
    if link is None:
        return fault(check, "the interface is gone", f"systemctl restart wg-quick@{name}")
    if not link.up:
        return fault(check, "the interface is down", wording.bring_up(name))
    if link.mtu < _IPV6_MTU and 16 in _families(one):
        own = "".join(f" && ip address replace {text} dev {name}" for text in one.addresses if ":" in text)
        why = f"its MTU is {link.mtu}, so it has no IPv6: that needs {_IPV6_MTU} (RFC 8200)"
        return fault(check, why, f"ip link set {name} mtu {_IPV6_MTU}{own}")
    hosts = {parse_host(address.partition("/")[0]): address for address in sorted(link.addresses)}
    for address in one.addresses:
        if (wanted := parse_host(address.partition("/")[0])) not in hosts:
            others = [
                text for host, text in hosts.items()
                if host not in one.own_hosts and len(host) == len(wanted) and not text.startswith("fe80:")
            ]  # fmt: skip
            if not others:
                return fault(check, f"{address} is not configured", f"ip address add {address} dev {name}")
            why = f"it has {', '.join(others)}, but interfaces.{name}.addresses says {address}: one of the two is wrong"
            return fault(check, why, _EDIT)
    unlisted = [
        text for host, text in hosts.items()
        if host not in one.own_hosts and not text.startswith("fe80:")
        and any(net.covers(host) for net in one.networks or (host,))
    ]  # fmt: skip
    if unlisted:
        return warning(
            check, f"{', '.join(unlisted)} is not in interfaces.{name}.addresses: a row could claim it", _EDIT
        )
    return ok(check, f"up, {', '.join(sorted(link.addresses)) or 'no address, and none is asked for'}")


def _families(one: Interface) -> set[int]:
    """The bytes of an address: 4 if the interface has IPv4, 16 if it has IPv6."""
    return {len(net.packed) for net in one.networks or one.own_hosts} or {4}


def _forwarding(name: str, one: Interface, sysctl: Path) -> Finding:
    check = f"{name} forwarding"
    for size in sorted(_families(one)):
        for key in (written.format(name.replace(".", "/")) for written in _FORWARDING[size]):
            try:  # sysctl.d(5): in a key, a slash stands for a dot in the name of an interface
                value = (sysctl / key.translate(str.maketrans("./", "/."))).read_text(encoding="ascii").strip()
            except OSError as error:
                return warning(check, f"{key} cannot be read: {error.strerror}", f"sysctl {key}")
            if value == "0":
                own = "" if size == 4 else ". Set accept_ra = 2 first on an interface that learns its route by IPv6"
                why = f"{key} is 0: devices of {name} reach only this server itself{own}"
                return warning(check, why, f"echo '{key} = 1' >> {_SYSCTL} && sysctl -p {_SYSCTL}")
    return ok(check, "the kernel forwards packets from devices, as far as the firewall lets it: nft list ruleset")
