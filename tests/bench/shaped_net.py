"""A server with two WireGuard interfaces, its devices, and a host behind it, each in a network namespace."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests import namespace
from tests.namespace import run
from wgsyncd.core.network import Networks, parse_host

FLOWS = Path(__file__).with_name("flows.py")
FAR = {4: "198.51.100.2", 6: "2001:db8:1::2"}
MTU = 1420
PORT = 5001
_NETS = {"wg0": ("10.200.0", "fd00:200:"), "wg1": ("10.251.0", "fd00:251:")}
WHERE = {1: "wg0", 2: "wg0", 3: "wg1"}


class Load(NamedTuple):
    """What one device received or sent."""

    bits: float  # in a second, without the first two seconds
    most: float  # bits of the best second


class Delay(NamedTuple):
    """What pings took, in milliseconds."""

    p50: float
    p95: float
    lost: int


def addresses(device: int) -> Networks:
    """The addresses of a device inside the tunnel."""
    four, six = _NETS[WHERE[device]]
    return (parse_host(f"{four}.{10 + device}"), parse_host(f"{six}:{10 + device}"))


class Net:
    """The namespaces. The server's is the one of this process."""

    def __init__(self, stack: ExitStack, *, userspace: bool) -> None:
        stack.enter_context(namespace.own_network())
        Path("/run/netns").mkdir(exist_ok=True)
        run("ip", "link", "set", "lo", "up")
        for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", path).write_text("1")
        self._space(stack, "far")
        self._veth("far", ("198.51.100.1/24", "2001:db8:1::1/64"), (f"{FAR[4]}/24", f"{FAR[6]}/64"))
        run("ip", "-n", "far", "route", "add", "default", "via", "198.51.100.1")
        run("ip", "-n", "far", "-6", "route", "add", "default", "via", "2001:db8:1::1")
        keys = {}
        for port, name in enumerate(_NETS, 51820):
            if userspace:
                stack.enter_context(namespace.wireguard_go(name))
            else:
                stack.enter_context(namespace.kernel_link(name))
            keys[name] = self._key(name, "listen-port", str(port))
            four, six = _NETS[name]
            for address in (f"{four}.1/24", f"{six}:1/64"):
                run("ip", "addr", "add", address, "dev", name)
            run("ip", "link", "set", name, "mtu", str(MTU), "up")
        for device, name in WHERE.items():
            self._device(stack, device, name, keys[name])
        for device in WHERE:
            self.ping(device, 3, 0.2)

    def _space(self, stack: ExitStack, name: str) -> None:
        run("ip", "netns", "add", name)
        stack.callback(run, "ip", "netns", "del", name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def _veth(self, name: str, here: tuple[str, ...], there: tuple[str, ...]) -> None:
        run("ip", "link", "add", f"e-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        for where, link, nets in (((), f"e-{name}", here), (("-n", name), "eth0", there)):
            for net in nets:
                run("ip", *where, "addr", "add", net, "dev", link, *(("nodad",) if ":" in net else ()))
            run("ip", *where, "link", "set", link, "up")

    def _key(self, link: str, *words: str, space: str = "") -> str:
        inside = ("ip", "netns", "exec", space) if space else ()
        key = run("wg", "genkey")
        run(*inside, "wg", "set", link, "private-key", "/dev/stdin", *words, text=key)
        return run("wg", "pubkey", text=key).strip()

    def _device(self, stack: ExitStack, device: int, server: str, server_key: str) -> None:
        name, port = f"d{device}", 51820 + sorted(_NETS).index(server)
        self._space(stack, name)
        self._veth(name, (f"192.0.2.{4 * device + 1}/30",), (f"192.0.2.{4 * device + 2}/30",))
        run("ip", "-n", name, "link", "add", "wg", "type", "wireguard")
        key = self._key("wg", "peer", server_key, "endpoint", f"192.0.2.{4 * device + 1}:{port}", "allowed-ips",
                        "0.0.0.0/0,::/0", space=name)  # fmt: skip
        for net in addresses(device):
            run("ip", "-n", name, "addr", "add", str(net), "dev", "wg")
        run("ip", "-n", name, "link", "set", "wg", "mtu", str(MTU), "up")
        run("ip", "-n", name, "route", "add", "198.51.100.0/24", "dev", "wg")
        run("ip", "-n", name, "-6", "route", "add", "2001:db8:1::/64", "dev", "wg")
        run("wg", "set", server, "peer", key, "allowed-ips", ",".join(map(str, addresses(device))))

    def without_offloads(self) -> None:
        """Let each packet go by itself, as from a real network card that makes none larger."""
        places = [("", name) for name in (*_NETS, "e-far", *(f"e-d{one}" for one in WHERE))]
        places += [("far", "eth0"), *((f"d{one}", link) for one in WHERE for link in ("eth0", "wg"))]
        for space, link in places:
            where = ("-n", space) if space else ()
            run("ip", *where, "link", "set", link, "gso_max_segs", "1", "gro_max_size", str(MTU + 80))

    @contextmanager
    def servers(self) -> Iterator[None]:
        """The programs of the host behind the server that send and receive."""
        started = [
            subprocess.Popen(["ip", "netns", "exec", "far", sys.executable, "-S", "-E", str(FLOWS), "serve",
                              address, str(PORT)])
            for address in FAR.values()
        ]  # fmt: skip
        try:
            yield
        finally:
            for one in started:
                one.terminate()
                one.wait()

    def begin(self, device: int, way: str, seconds: int, flows: int = 1, family: int = 4) -> subprocess.Popen[str]:
        """Let a device download or upload."""
        words = ["ip", "netns", "exec", f"d{device}", sys.executable, "-S", "-E", str(FLOWS), "run", FAR[family], str(PORT),
                 str(seconds), way, str(flows)]  # fmt: skip
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def ping(self, device: int, count: int, interval: float, family: int = 4) -> Delay:
        """What pings of a device take."""
        return self.delay(self.begin_ping(device, count, interval, family))

    def begin_ping(self, device: int, count: int, interval: float, family: int = 4) -> subprocess.Popen[str]:
        """Let a device ping the host behind the server."""
        words = ["ip", "netns", "exec", f"d{device}", "ping", "-n", "-i", str(interval), "-c", str(count), "-W", "5",
                 FAR[family]]  # fmt: skip
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def delay(started: subprocess.Popen[str]) -> Delay:
        """What the pings took. The last line but one says how many were sent."""
        shown = started.communicate()[0]
        times = sorted(float(one) for one in re.findall(r"time=([\d.]+)", shown))
        sent = int(re.findall(r"(\d+) packets transmitted", shown)[0])
        p50, p95 = (times[int(len(times) * part)] if times else float("nan") for part in (0.5, 0.95))
        return Delay(p50, p95, sent - len(times))

    @staticmethod
    def load(started: subprocess.Popen[str]) -> Load:
        """What arrived. The first two seconds are left out, for TCP begins slowly and the class has its burst."""
        counts = json.loads(started.communicate()[0])[2:]
        return Load(sum(counts) * 8 / len(counts), max(counts) * 8)
