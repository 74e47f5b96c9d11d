"""Another key or port of an interface is told on a real node until it is undone or approved, also after a restart."""

from __future__ import annotations

import json
from typing import Any

from tests.real.bench import Bench, wait
from wgsyncd.demo.testbed import new_keys


def findings(bench: Bench) -> list[dict[str, Any]]:
    return [one for one in bench.daemon.status()["troubles"] if one["check"] == "wg0 identity"]


def test_an_old_private_key_is_told_until_it_is_put_right_or_approved(bench: Bench) -> None:
    """Nobody is online. An old file of wg-quick came back while wgsyncd did not run."""

    def give(private: str) -> None:
        bench.world.server.run("wg", "set", "wg0", "private-key", "/dev/stdin", stdin=private)

    right, wrong = bench.world.interfaces["wg0"].keys, new_keys()
    bench.configure({"schedule.resync_interval": "1s"})
    (device,) = bench.make(1)
    bench.daemon.start()
    wait(bench.peers, "the first cycle")
    assert not findings(bench)
    bench.daemon.stop()
    give(wrong.private)
    bench.daemon.start()
    wait(lambda: findings(bench), "the finding after a start")
    (one,) = findings(bench)
    assert one["severity"] == "fault"
    assert f"its public key was {right.public[:8]}… and is {wrong.public[:8]}…" in one["message"]
    assert bench.daemon.metrics()['wgsyncd_interface_changed{interface="wg0"}'] == 1
    checks = json.loads(bench.daemon.cli("doctor", "--json", code=1).stdout)["checks"]
    assert [told["message"] for told in checks if told["check"] == "daemon: wg0 identity"] == [one["message"]]
    text = bench.daemon.cli("explain", device.device, shows=device.keys.public).stdout
    assert f"`{bench.daemon.proposed('status')}` shows what is wrong with this server" in text
    give(right.private)
    wait(lambda: not findings(bench), "the old key is back")
    give(wrong.private)
    wait(lambda: findings(bench), "the finding while it runs")
    bench.daemon.cli(*findings(bench)[0]["message"].partition("? wgsyncd ")[2].split())
    assert bench.daemon.status()["verdict"] == "ok"
    bench.daemon.stop()
    bench.daemon.start()
    wait(lambda: bench.daemon.status()["cycles"]["reconcile"]["age"] is not None, "a cycle after the restart")
    assert not findings(bench), "the approval lasts"
    give(right.private)
    wait(lambda: findings(bench), "now the former key is another one")


def test_another_port_is_told_and_its_cure_works_as_printed(bench: Bench) -> None:
    bench.configure({"schedule.resync_interval": "1s"})
    bench.make(1)
    bench.daemon.start()
    wait(bench.peers, "the first cycle")
    bench.world.server.run("wg", "set", "wg0", "listen-port", "51999")
    wait(lambda: findings(bench), "the finding")
    bench.world.server.run("sh", "-c", findings(bench)[0]["fix"])
    wait(lambda: not findings(bench), "the cure")
