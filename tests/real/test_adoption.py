"""wgsyncd takes over a running server with traffic, whose peers wg-quick and an admin have made."""

from __future__ import annotations

import json
import tomllib

from tests.real.bench import PATIENCE, Bench, Device, real_device, untouched, wait


def test_hand_made_peers_stay_until_told(bench: Bench) -> None:
    """`adopt` names the foreign peers and changes nothing. With the lines that it prints, the daemon keeps them.

    Without those lines the daemon removes them.
    """
    held = real_device("0001-held", "10.200.0.11")
    gone = Device("0002-gone", "10.200.0.12", contract="0002")  # the contract of this device is paused
    link = Device("", "10.200.0.250")
    bench.insert(held, gone)
    bench.ear.keep(link.keys.private)
    server = bench.world.server
    for one in (held, gone, link):
        server.run("wg", "set", "wg0", "peer", one.keys.public, "allowed-ips", f"{one.address}/32")
    server.run("wg", "set", "wg0", "peer", link.keys.public, "endpoint", "203.0.113.7:51820")
    assert bench.customer(held).transfer(up=100_000, down=0).wait(PATIENCE) == 0
    before = bench.peers()
    bench.sql("ALTER TABLE wgsyncd_nodes ALTER adopted SET DEFAULT 0")  # as shipped

    said = bench.daemon.cli("adopt", code=2, shows=link.keys.public).stdout
    data = json.loads(bench.daemon.cli("adopt", "--json", code=2, shows=link.keys.public).stdout)
    standing = {one["device"]: one["match"] for one in data["interfaces"][0]["peers"]}
    assert standing == {"0001-held": "matches", "0002-gone": "unwanted", None: "foreign"}
    assert held.keys.public not in said
    assert untouched(before, bench.peers())
    assert bench.logs() == []

    printed = said[said.index("    always_keep = [") : said.rindex("]") + 1]
    assert tomllib.loads(printed) == {"always_keep": [link.keys.public]}
    bench.configure({"peers.always_keep": [link.keys.public]})
    daemon = bench.daemon.start()
    wait(lambda: gone.keys.public not in bench.peers(), "who is paused goes")
    assert untouched({key: before[key] for key in before if key != gone.keys.public}, bench.peers())
    rx = f"SELECT rx_bytes_total rx FROM customer_devices WHERE device_id = '{held.device}'"
    wait(lambda: int(bench.sql(rx)[0]["rx"] or 0) == bench.peers()[held.keys.public].rx, "counted in full: nobody had")
    assert "Nothing was changed. A start would remove no" in bench.daemon.cli("adopt").stdout
    daemon.stop()

    # The guard remembers the first removal, so another one would be more than half of the three peers.
    bench.configure({"peers.always_keep": None, "guard.max_share": 1.0})
    daemon.start()
    wait(
        lambda: "1 peer without a row stays until" in bench.daemon.cli("status", code=None).stdout,
        "nobody has adopted the node",
    )
    assert link.keys.public in bench.peers()
    bench.daemon.cli("adopt", "--accept")
    wait(lambda: bench.peers().keys() == {held.keys.public}, "now it was told")
    assert len(bench.logs("foreign_peer_removed")) == 1
    bench.daemon.cli("adopt", "--undo")
    daemon.reconcile()
    assert bench.peers()[link.keys.public].allowed_ips == before[link.keys.public].allowed_ips
    assert bench.peers()[link.keys.public].endpoint == before[link.keys.public].endpoint
    assert [one[0] for one in bench.logs("node_adopted") + bench.logs("adoption_undone")]
