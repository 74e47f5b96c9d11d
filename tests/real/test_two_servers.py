"""Two servers with one node name, a restored machine and a renamed interface, on real parts.

A clone is another network namespace with interfaces of its own and another boot id.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.real.bench import PATIENCE, Bench, Device, both_kinds, real_device, wait
from tests.real.running import Daemon
from wgsyncd.cli.commands.run import LOST
from wgsyncd.demo.testbed import Namespace

BOOT_ID = "/proc/sys/kernel/random/boot_id"
OTHER_BOOT = "00000000-0000-4000-8000-00000000000b"


@contextmanager
def clone(bench: Bench) -> Iterator[Daemon]:
    """A copy of the server: the same configuration and machine id, but another boot."""
    machine = Namespace()
    boot = bench.directory / "boot_id"
    boot.write_text(OTHER_BOOT + "\n")
    machine.run("mount", "--bind", str(boot), BOOT_ID)
    machine.ip("link set lo up")
    for name in ("wg0", "wg1"):
        machine.make_wireguard("userspace", name, log=bench.directory / f"clone-{name}.log")
    daemon = Daemon(cast("Any", SimpleNamespace(server=machine)), bench.ear, bench.directory / "clone")
    bench.configure({"node.name": "bench", "metrics.listen": "127.0.0.1:9587"}, daemon)
    try:
        yield daemon
    finally:
        daemon.close()
        machine.close()


def total(bench: Bench) -> int:
    return int(bench.sql("SELECT SUM(rx_bytes_total) rx FROM customer_devices")[0]["rx"] or 0)


def why(daemon: Daemon) -> str:
    return str(daemon.lines(level="error")[-1]["why"])


def test_a_clone_is_refused_until_the_server_is_silent(bench: Bench) -> None:
    crowd = bench.make(2)
    server = bench.daemon.start()
    bench.await_peers(*crowd)
    with clone(bench) as other:
        refused = json.loads(other.cli("run", code=1).stderr.splitlines()[-1])
        assert "another machine runs node bench: host " in refused["why"]
        assert "wgsyncd takeover" in refused["why"]
        assert other.cli("takeover", code=1).stderr.endswith("run this on a terminal, or with --yes\n")
        # A server that lives would take its node back from a machine with the same id.
        bench.sql(
            "UPDATE wgsyncd_nodes SET heartbeat = heartbeat - 200; UPDATE wgsyncd_boots SET last_seen = last_seen - 200"
        )
        other.start()
        assert len(bench.logs("node_taken_over")) == 1
        device = crowd[0]
        assert server.cli("explain", device.device, shows=device.keys.public).stdout
        for command in (("plan", "--no-daemon"), ("usage",)):
            assert server.cli(*command).stdout, "who does not run the node may read"
        before = bench.world.dump()
        bench.insert(Device("0001-more", "10.200.0.99"))
        assert server.wait() == LOST
        assert "another machine runs node bench now: host " in why(server)
        assert bench.world.dump() == before, "the loser leaves its kernel alone"
        assert (
            "another machine runs node bench: host "
            in json.loads(server.cli("run", code=1).stderr.splitlines()[-1])["why"]
        )
        other.stop()
        server.start()
        assert len(bench.logs("node_taken_over")) == 1, "it is the same machine with the same machine id"


def test_an_admin_takes_a_node_over(bench: Bench) -> None:
    crowd = bench.make(2)
    server = bench.daemon.start()
    bench.await_peers(*crowd)
    with clone(bench) as other:
        done = json.loads(other.cli("takeover", "--yes", "--json").stdout)
        assert (done["node"], done["taken_over"]) == ("bench", True)
        assert done["holder"]["heartbeat_age"] < 180
        assert "ordered it" in bench.logs("node_taken_over")[0][2]
        bench.insert(Device("0001-more", "10.200.0.99"))
        assert server.wait() == LOST
        other.start()
        assert not json.loads(other.cli("takeover", "--json").stdout)["taken_over"], "the node is its own now"
        other.stop()


def test_a_machine_that_was_put_back_posts_nothing_twice(bench: Bench) -> None:
    """The recorded uptime is longer than the present one, and the counters are lower than the baselines."""
    held = real_device("0001-held", "10.200.0.11")
    bench.insert(held)
    daemon = bench.daemon.start()
    customer = bench.customer(held)
    assert customer.transfer(up=300_000, down=1000).wait(PATIENCE) == 0
    wait(lambda: total(bench) > 300_000, "the bytes are posted")
    daemon.stop()
    posted = total(bench)
    bench.sql("UPDATE wgsyncd_boots SET uptime = uptime + 1000000")
    allowed = "10.200.0.11/32"
    bench.world.server.run("wg", "set", "wg0", "peer", held.keys.public, "remove")
    bench.world.server.run("wg", "set", "wg0", "peer", held.keys.public, "allowed-ips", allowed)
    assert customer.transfer(up=50_000, down=1000).wait(PATIENCE) == 0
    daemon.start()
    wait(lambda: bench.logs("usage_anomaly"), "the anomaly is told")
    assert "earlier state of the machine" in bench.logs("usage_anomaly")[0][2]
    assert total(bench) == posted
    assert customer.transfer(up=40_000, down=1000).wait(PATIENCE) == 0
    wait(lambda: total(bench) > posted + 40_000, "later bytes are posted")
    assert total(bench) < posted + 50_000 + 40_000
    assert daemon.metrics()['wgsyncd_anomalies_total{kind="came_back"}'] == 1


def _killed_with_bytes_that_wait(bench: Bench) -> Daemon:
    """Returns a dead daemon. A customer moved 200 kB that are posted, and then 50 kB that are not."""
    held = real_device("0001-held", "10.200.0.11")
    bench.insert(held)
    daemon = bench.daemon.start()
    customer = bench.customer(held)
    assert customer.transfer(up=200_000, down=1000).wait(PATIENCE) == 0
    wait(lambda: total(bench) > 200_000, "the bytes are posted")
    daemon.signal(signal.SIGSTOP)
    assert customer.transfer(up=50_000, down=1000).wait(PATIENCE) == 0
    daemon.kill()
    return daemon


@both_kinds
def test_a_renamed_interface_keeps_its_baselines(bench: Bench, kind: str) -> None:
    daemon = _killed_with_bytes_that_wait(bench)
    server = bench.world.server
    server.ip("link set wg0 down", "link set wg0 name wg2", "link set wg2 up")
    if kind == "userspace":
        sockets = Path("/proc", str(server.holder.pid), "root", "run", "wireguard")
        (sockets / "wg0.sock").rename(sockets / "wg2.sock")
    networks = {"interfaces.wg2.networks": ["10.200.0.0/24"], "interfaces.wg2.addresses": ["10.200.0.1/24"]}
    gone = {"interfaces.wg0.networks": None, "interfaces.wg0.addresses": None}
    bench.configure({**networks, **gone, "interfaces.wg2.store_name": "wg0"})
    daemon.start()
    wait(lambda: total(bench) > 250_000, "the bytes from before the rename are posted")
    counted = int(server.run("wg", "show", "wg2", "transfer").split()[1])
    assert total(bench) <= counted
    assert {row["interface"] for row in bench.sql("SELECT interface FROM wgsyncd_peers")} == {"wg2"}
    assert not bench.logs("peer_removed")


def test_a_renamed_node_keeps_its_baselines(bench: Bench) -> None:
    daemon = _killed_with_bytes_that_wait(bench)
    bench.configure({"node.name": "another"})
    daemon.start()
    wait(lambda: total(bench) > 250_000, "the bytes from before the rename are posted")
    assert total(bench) <= next(iter(bench.peers().values())).rx
    assert [one[1] for one in bench.logs("node_renamed")] == ["another"]
    for table in ("nodes", "peers", "interfaces", "boots"):
        assert {row["node"] for row in bench.sql(f"SELECT node FROM wgsyncd_{table}")} == {"another"}
