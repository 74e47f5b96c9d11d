"""Measures how soon a committed change is in the kernel, while the daemon works as by default.

A second client commits at random moments, and the counters of all devices move. A loop of dumps waits for the peer to
come or to go.

    tests/bench/propagation [--devices 250] [--changes 100] [--idle 600] [--json]

The output is one JSON object. It has the number of devices, and the milliseconds from COMMIT to the kernel with a
notification and with the watch alone. Beside them are the milliseconds of an application that runs `wg set` itself, and
how many times longer wgsyncd takes. The last values are the use of one core by daemon and server at rest, over the
seconds of --idle.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from tests.bench.witness import Witness
from tests.real.bench import Bench, Device, Ear, in_network, wait
from wgsyncd.core.model import decode_key
from wgsyncd.demo.mariadb import DATABASE, PrivateServer
from wgsyncd.demo.testbed import Namespace

TICKS = os.sysconf("SC_CLK_TCK")
ROUND = 15  # in seconds: each device gets one packet in this time, which is the time between two polls
FORGET = 4  # in seconds, see moving()
ROUTE = "route replace 10.0.0.0/8 dev wg0\n"


def main() -> int:
    """Runs the measurement and returns the exit status."""
    parser = argparse.ArgumentParser(description="How soon a committed change is in the kernel.")
    parser.add_argument("--devices", type=int, default=250)
    parser.add_argument("--changes", type=int, default=100, help="of each way; default: %(default)s")
    parser.add_argument("--idle", type=float, default=600, help="seconds; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="one JSON object, on one line")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(PrivateServer())
        database.load()
        database.create_account()
        bench = Bench(folder, database, "kernel", Ear(folder / "heard"))
        stack.callback(bench.close)
        bench.open()
        result = measure(bench, args.devices, args.changes, args.idle)
    print(json.dumps(result, indent=None if args.json else 2))
    return 0


def measure(bench: Bench, count: int, changes: int, idle: float) -> dict[str, Any]:
    """Measures everything and returns the results by name."""
    bench.configure({"interfaces.wg0.networks": ["10.0.0.0/8"], "interfaces.wg0.addresses": ["10.0.0.1/8"],
                     "schedule.poll_interval": "15s", "schedule.resync_interval": "60s", "schedule.watch_interval": None,
                     "guard.max_share": 1.0})  # fmt: skip
    numbers = range(256, 256 + count)
    devices = [Device(f"D-{n}", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in numbers]
    for at in range(0, count, 1000):
        bench.insert(*devices[at : at + 1000])
    say(f"{count} devices are in the table")
    bench.daemon.start()
    wait(lambda: len(bench.peers()) == count, "all peers")
    server = bench.world.server
    pid = server.holder.pid
    witness = Witness(pid, "wg0")
    result: dict[str, Any] = {"devices": count}
    say(f"and in the kernel; at rest for {idle:.0f} s")
    at_rest_used = at_rest(bench, idle)
    for at in range(0, count, 200):
        words = [w for d in devices[at : at + 200] for w in ("peer", d.keys.public, "endpoint", "127.0.0.1:9")]
        server.run("wg", "set", "wg0", *words)
    say("their counters move")
    with moving(server, devices):
        for name in ("hint_ms", "watch_ms"):
            took = one_by_one(bench, witness, devices, changes, hint=name == "hint_ms")
            say(f"{name}: {' '.join(f'{one:.0f}' for one in took)}")
            result[name] = {"p50": at_share(took, 0.5), "p99": at_share(took, 0.99)}
        took = by_hand(bench, witness, changes)
        say(f"wg set: {' '.join(f'{one:.0f}' for one in took)}")
        result["wg_set_ms"] = {"p50": at_share(took, 0.5), "p99": at_share(took, 0.99)}
    result["ratios"] = {
        f"{name}_vs_wg_set": round(result[f"{name}_ms"]["p50"] / result["wg_set_ms"]["p50"], 2)
        for name in ("hint", "watch")
    }
    witness.close()
    result["idle_cpu_percent"] = at_rest_used
    return result


def say(text: str) -> None:
    """Prints the progress on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def at_share(took: list[float], share: float) -> float:
    """Returns the smallest time that at least this share of the times does not exceed, rounded to a tenth."""
    return round(sorted(took)[math.ceil(share * len(took)) - 1], 1)


def one_by_one(bench: Bench, witness: Witness, devices: list[Device], changes: int, *, hint: bool) -> list[float]:
    """Returns the milliseconds from COMMIT to the kernel for each change. `hint` sends a notification with it."""
    dice = random.Random(1)
    actual: Connection[Cursor] = pymysql.connect(**bench.database.connect_args, database=DATABASE, autocommit=True)
    ears = str(bench.daemon.directory / "notify.sock")
    took: list[float] = []
    with actual, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hints:
        for _ in range(changes // 2):
            one = dice.choice(devices)
            key = decode_key(one.keys.public)
            for status in ("paused", "active"):
                time.sleep(dice.uniform(0.1, 1.0))  # at any moment between two checks of the daemon
                with actual.cursor() as cursor:
                    cursor.execute("UPDATE customer_devices SET status = %s WHERE device_id = %s", (status, one.device))
                began = time.monotonic()
                if hint:
                    hints.sendto(one.device.encode(), ears)
                done = witness.until(key, there=status == "active", patience=60)
                if done is None:
                    sys.exit(f"{one.device} is not {status} after a minute")
                took.append((done - began) * 1000)
    return took


def by_hand(bench: Bench, witness: Witness, changes: int) -> list[float]:
    """Returns the milliseconds of each change by wg(8), for a peer that belongs to no row."""
    dice = random.Random(2)
    took: list[float] = []
    for _ in range(changes // 2):
        one = Device("", "10.255.255.1")
        for words in (("allowed-ips", "10.255.255.1/32"), ("remove",)):
            time.sleep(dice.uniform(0.1, 1.0))  # as above
            began = time.monotonic()
            bench.world.server.run("wg", "set", "wg0", "peer", one.keys.public, *words)
            done = witness.until(decode_key(one.keys.public), there=words[0] != "remove", patience=5)
            if done is not None:  # otherwise a reconcile removed the peer earlier
                took.append((done - began) * 1000)
    return took


@contextlib.contextmanager
def moving(server: Namespace, devices: list[Device]) -> Iterator[None]:
    """Moves the counters of all devices meanwhile, each within :data:`ROUND` seconds.

    A packet to a device without a session makes the kernel send a handshake. The kernel would repeat it every 5 s, and
    one processor is too slow for that with so many devices. An interface forgets these handshakes when it goes down.
    """
    over = threading.Event()
    sender = in_network(server.holder.pid, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    each = -(-len(devices) // ROUND)

    def run() -> None:
        for second in itertools.count():
            if second % FORGET == 0:
                server.run("ip", "-batch", "-", stdin=f"link set wg0 down\nlink set wg0 up\n{ROUTE}")
            at = second % ROUND * each
            for one in devices[at : at + each]:
                with contextlib.suppress(OSError):
                    sender.sendto(b"x", (one.address, 9))
            if over.wait(1):
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        sender.close()


def at_rest(bench: Bench, seconds: float) -> dict[str, float]:
    """Returns the percent of one core that daemon and server use."""
    pids = {"daemon": bench.daemon.pid, "server": bench.database.pid}
    before = {name: used(pid) for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(seconds)  # this time is measured
    span = time.monotonic() - began
    return {name: round(100 * (used(pid) - before[name]) / span, 2) for name, pid in pids.items()}


def used(pid: int) -> float:
    """Returns the processor time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    sys.exit(main())
