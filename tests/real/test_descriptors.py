"""The daemon runs out of file descriptors: nobody is disconnected, and it goes on by itself when there are some again."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator

import pytest

from tests.real.bench import PATIENCE, Bench, real_device, wait

BOOKED = "SELECT SUM(rx_bytes_total) rx, SUM(tx_bytes_total) tx FROM customer_devices"
RECONNECT = (
    "SELECT GROUP_CONCAT('KILL ', id SEPARATOR '; ') kills FROM information_schema.processlist WHERE user = 'mikyun'"
)


@contextlib.contextmanager
def exhausted(pid: int) -> Iterator[None]:
    """Lets a process open no more descriptors. It keeps those that it has."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("is_cut", [True, False], ids=["the connection is cut", "the connection stays"])
def test_the_daemon_goes_on_after_it_ran_out_of_descriptors(bench: Bench, is_cut: bool) -> None:
    held, gone, new = (real_device(f"0001-{n}", f"10.200.0.{n}") for n in (11, 12, 13))
    bench.insert(held, gone)
    bench.configure({"mikyun.database.timeout": "1s"})
    daemon = bench.daemon.start()
    customer = bench.customer(held)
    assert customer.transfer(up=50_000, down=50_000).wait(PATIENCE) == 0
    wait(lambda: int(bench.sql(BOOKED)[0]["rx"] or 0) > 50_000, "posted")
    with exhausted(daemon.pid), contextlib.ExitStack() as clients:
        if is_cut:
            bench.database.sql(str(bench.sql(RECONNECT)[0]["kills"]))
        for _ in range(40):  # nobody accepts them
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # the queue of the listener is full
                client.connect(str(daemon.directory / "control.sock"))
        wait(
            lambda: any("EMFILE" in str(line) or "Too many open files" in str(line) for line in daemon.lines()), "said"
        )
        assert customer.transfer(up=70_000, down=70_000).wait(PATIENCE) == 0
        bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id = '{gone.device}'")
        bench.insert(new)
        assert daemon.process is not None
        assert daemon.process.poll() is None
        assert held.keys.public in bench.peers()
    bench.await_peers(held, new)

    def is_even() -> bool:
        peer, row = bench.peers()[held.keys.public], bench.sql(BOOKED)[0]
        return (peer.rx, peer.tx) == (int(row["rx"] or 0), int(row["tx"] or 0))

    wait(is_even, "the books are even")
    wait(lambda: daemon.metrics()["wgsyncd_database_up"] == 1, "the metric says so")
    wait(lambda: daemon.get("/readyz") == "ok\n", "ready")
    assert not bench.logs("usage_anomaly")
    assert not bench.logs("interface_missing")
