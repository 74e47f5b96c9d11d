"""Posting a poll is compared with a bare UPDATE of the same rows, and its effect on another writer.

The other writer changes names in the same database meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pymysql

from tests.bench.machine import Machine
from tests.bench.stage import IFACE, Stage
from tests.bench.timing import Took, medians
from wgsyncd.core.model import InterfaceState, PeerState
from wgsyncd.demo.mariadb import DATABASE
from wgsyncd.engine.state_cache import BATCH

# This gives the columns and values of one batch names. The values are literals, because PyMySQL needs more time to put
# values into a statement than the server needs to execute it.
_VALUES = ("(SELECT 0 id, 0 rx_total, 0 tx_total, 0 rx_24h, 0 tx_24h, 0 rx_month, 0 tx_month,"
           " CAST(NULL AS DATETIME) handshake, 0 all_rx UNION ALL VALUES {rows}) v")  # fmt: skip
_BYTES = ("rx_bytes_total", "tx_bytes_total", "rx_bytes_24h", "tx_bytes_24h", "rx_bytes_month", "tx_bytes_month")
_SETS = (", ".join(f"d.{column} = d.{column} + v.{column.replace('_bytes', '')}" for column in _BYTES)
         + ", d.last_handshake_at = v.handshake, d.updated_at = d.updated_at")  # fmt: skip
_DEVICES = f"UPDATE {_VALUES} STRAIGHT_JOIN customer_devices d FORCE INDEX (PRIMARY) ON v.id = d.id SET {_SETS}"
_BOTH = (f"UPDATE {_VALUES} STRAIGHT_JOIN customer_devices d FORCE INDEX (PRIMARY) ON v.id = d.id"
         f" STRAIGHT_JOIN bench_baselines b FORCE INDEX (PRIMARY) ON b.id = v.id SET {_SETS},"
         " b.rx = v.all_rx, b.tx = v.all_rx, b.handshake = v.all_rx, b.at = 1.5e9")  # fmt: skip

_ALONE = 300  # commits of a writer that has the database alone


class Bare:
    """Changes the same rows of the same tables in as many transactions, with PyMySQL alone."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._live = pymysql.connect(**stage.server.connect_args, database=DATABASE, autocommit=True)
        with self._live.cursor() as cursor:
            cursor.execute("SET SESSION tx_isolation = 'READ-COMMITTED'")
        self._turn = 0

    def update_devices(self) -> None:
        """Updates six byte columns and the handshake of every device, with one transaction per batch."""
        self._run(_DEVICES)

    def update_everything(self) -> None:
        """Updates the same columns, and in the same statement the baseline of every device."""
        self._run(_BOTH)

    def _run(self, sql: str) -> None:
        self._turn += 1
        rest = f"1000,2000,1000,2000,1000,2000,'2026-03-01 00:{self._turn // 60 % 60:02}:{self._turn % 60:02}',{self._turn})"
        with self._live.cursor() as cursor:
            for at in range(1, self._stage.peers + 1, BATCH):
                ids = range(at, min(at + BATCH, self._stage.peers + 1))
                cursor.execute("START TRANSACTION")
                cursor.execute(sql.format(rows=",".join([f"({i},{rest}" for i in ids])))
                cursor.execute("COMMIT")

    def close(self) -> None:
        """Closes the connection."""
        self._live.close()


class Traffic:
    """Makes dumps in which peers have moved since the dump before.

    They are made from a real dump, because no link carries this much.
    """

    def __init__(self, dump: InterfaceState) -> None:
        self.dump = dump

    def move(self, share: float) -> InterfaceState:
        """Moves bytes both ways and sets a handshake, for the given share of the peers. Returns the new dump."""
        peers = dict(self.dump.peers)
        for key in list(peers)[: max(1, round(len(peers) * share))]:
            old = peers[key]
            later = max(old.latest_handshake + 1_000_000_000, time.time_ns() - 10**12)
            peers[key] = PeerState(old.config, old.rx + 1000, old.tx + 2000, later, old.endpoint)
        self.dump = replace(self.dump, peers=peers)
        return self.dump


def measure(stage: Stage, repeat: int) -> tuple[dict[str, dict[str, Took]], dict[str, float]]:
    """Returns the seconds of each side, and the longest wait of another writer in milliseconds, with wgsyncd and
    without.

    The stage must be in state A.
    """
    machine = Machine(stage)
    machine.cycle()
    machine.agent.account()
    traffic = Traffic(machine.wireguard.real.read(IFACE))
    stage.sql("CREATE OR REPLACE TABLE bench_baselines (id BIGINT PRIMARY KEY, rx BIGINT UNSIGNED NOT NULL,"
              " tx BIGINT UNSIGNED NOT NULL, handshake BIGINT NOT NULL, at DOUBLE NOT NULL) ENGINE = InnoDB"
              " SELECT id, 0 AS rx, 0 AS tx, 0 AS handshake, 0e0 AS at FROM customer_devices")  # fmt: skip
    bare = Bare(stage)
    for work in (bare.update_everything, lambda: _poll(machine, traffic, 1.0)):
        work()  # the first run makes records and open pieces, and later runs change them

    def moved(share: float) -> None:
        machine.wireguard.dump = traffic.move(share)

    account = machine.agent.account
    posted = machine.agent.status.accounted_rx
    times = medians(
        "commit", repeat, ours=(lambda: moved(1.0), account), bare=bare.update_devices, everything=bare.update_everything,
        partial=(lambda: moved(0.01), account), still=account,
    )  # fmt: skip
    few = max(1, round(stage.peers * 0.01))
    assert machine.agent.status.accounted_rx - posted == 1000 * repeat * (stage.peers + few), (
        "not every byte was posted"
    )
    stage.sql("CREATE OR REPLACE TABLE bench_names (id BIGINT PRIMARY KEY, device_name VARCHAR(255)) ENGINE = InnoDB"
              " SELECT id, device_name FROM customer_devices")  # fmt: skip
    everything = partial(_poll, machine, traffic, 1.0)
    stall = {
        "ms": _stall(stage, "customer_devices", everything, repeat),
        "elsewhere_ms": _stall(stage, "bench_names", everything, repeat),
        "alone_ms": _stall(stage, "customer_devices", None, repeat),
    }
    machine.close()
    bare.close()
    stage.sql("DROP TABLE bench_baselines, bench_names")
    return {"commit": times}, stall


def _poll(machine: Machine, traffic: Traffic, share: float) -> None:
    machine.wireguard.dump = traffic.move(share)
    machine.agent.account()


def _stall(stage: Stage, table: str, work: Any, repeat: int) -> float:
    """Returns the longest wait of a writer in ``table`` for one of its commits, in milliseconds.

    The writer changes names while ``work`` runs. The result is the median of ``repeat`` runs. Without ``work``, the
    writer makes some hundred commits alone.
    """
    longest = []
    for _ in range(repeat):
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.writer", str(stage.server.socket), table, str(stage.peers),
             "0" if work is not None else str(_ALONE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        if work is not None:
            work()
        longest.append(float(writer.communicate("stop\n")[0]))
    return sorted(longest)[len(longest) // 2]
