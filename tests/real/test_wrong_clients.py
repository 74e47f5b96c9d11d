"""`wgsyncd explain` tells customers apart who cannot connect, each for another reason, on real WireGuard."""

from __future__ import annotations

import sys

from tests.real.bench import Bench, both_kinds, random_key, real_device, wait
from tests.real.test_explain_story import explain
from wgsyncd.core.inspect.connection import Connection
from wgsyncd.demo.testbed import WgKind, new_keys

# It sends one datagram in a while, and does not care for the answer.
SENDER = "import socket, sys, time\nout = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nwhile True:\n" \
         "    try: out.sendto(b'x' * 100, (sys.argv[1], 9))\n    except OSError: pass\n    time.sleep(1)\n"  # fmt: skip


@both_kinds
def test_each_customer_hears_what_is_wrong(bench: Bench, kind: WgKind) -> None:
    names = ("good", "key", "psk", "address", "route", "firewall")
    devices = {
        name: real_device(f"0001-{name}", f"10.200.0.{20 + at}", preshared_key=random_key())
        for at, name in enumerate(names)
    }
    bench.insert(*devices.values())
    bench.daemon.start()
    bench.await_peers(*devices.values())
    bench.world.server.ip(f"route add blackhole {devices['route'].address}/32")
    bench.world.server.run(
        "nft",
        f"""table ip t {{ chain c {{
        type filter hook input priority 0; ip saddr {devices["firewall"].address} drop; }}; }}""",
    )
    server = bench.world.interfaces["wg0"]
    senders = []
    for name, device in devices.items():
        keys = new_keys() if name == "key" else device.keys
        psk = random_key() if name == "psk" else device.preshared_key
        bench.ear.keep(keys.private, keys.public, *([psk] if psk else []))
        customer = bench.world.add_customer()
        customer.configure(server, keys, "10.200.0.99" if name == "address" else device.address, psk)
        senders.append(customer.namespace.start(sys.executable, "-c", SENDER, server.address))
    means = {
        "good": Connection.CONNECTED,
        "key": Connection.NOTHING_ARRIVES,
        "psk": Connection.NOT_ACCEPTED,
        "address": Connection.NO_DATA_ACCEPTED if kind == "kernel" else Connection.UNANSWERED,
        "route": Connection.UNANSWERED,
        "firewall": Connection.UNANSWERED,
    }
    for name, device in devices.items():
        wait(lambda one=device, due=means[name]: explain(bench, one)["connection"] == due, f"{name}: {means[name]}")
    said = {name: explain(bench, device)["advice"] for name, device in devices.items()}
    assert "tcpdump -ni any udp port " in said["key"]
    assert "The preshared key in the device differs" in said["psk"]
    assert f"it sends from another address than {devices['address'].address}" in said["address"]
    assert "net.ipv4.ip_forward" in said["route"]
    assert "a firewall drops them (`nft list ruleset`)" in said["firewall"]
    for sender in senders:
        sender.kill()
        sender.wait()
