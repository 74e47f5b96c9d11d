"""A second daemon is refused by the database, even if nobody can tell it by a socket."""

from __future__ import annotations

import subprocess
import sys

from tests.real.bench import Bench


def test_a_broken_into_service_with_all_names_makes_no_way_for_a_second_one(bench: Bench) -> None:
    """www-data has taken every socket's name, in the network namespace of the server. The database is enough."""
    crowd = bench.make(1)
    squat = (
        "import os, socket, sys; os.setuid(33); held = [socket.socket(socket.AF_UNIX) for _ in sys.argv[1:]];"
        "[(one.bind(chr(0) + name), one.listen()) for one, name in zip(held, sys.argv[1:])]; print('ready', flush=True);"
        "sys.stdin.read()"
    )
    names = ("wgsyncd.bench", "wgsyncd.other", "wgsyncd.if.wg0", "wgsyncd.if.wg1")
    argv = bench.world.server.inside([sys.executable, "-c", squat, *names])
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as squatter:
        assert squatter.stdin is not None
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == b"ready\n"
        daemon = bench.daemon.start()
        bench.await_peers(*crowd)
        twin = bench.add_daemon("twin", {"node.name": "bench"})
        other = bench.add_daemon("other", {"node.name": "other"})
        for second, why in ((twin, "another machine runs node bench: host"), (other, "as node bench: host")):
            assert why in second.cli("run", code=1).stderr
        daemon.kill()
        daemon.start()  # at once: the lock of the state directory proves that the first one is gone
        daemon.stop()
        other.start()
        bench.await_peers(*crowd)
        assert bench.sql("SELECT node FROM wgsyncd_nodes") == [{"node": "other"}], "its records go on"
        other.stop()
        squatter.stdin.close()
