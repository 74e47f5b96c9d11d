"""Measures what a node's store costs with the rows of other nodes in the tables, beside its own rows alone.

    tests/bench/nodes [--nodes 10 100] [--rows 10000] [--layout row random] [--repeat 7] [--json]

Two private MariaDB servers hold the same own rows. One of them also has the rows of all other nodes. Both sides take
turns. The ids of a node are in a row, or all nodes' ids are mixed at random. The seconds are the processor time of
server and store together, so other work on the machine changes them little. They are medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from zoneinfo import ZoneInfo

import pymysql

from tests.bench.stage import room
from wgsyncd.config.load import parse
from wgsyncd.core.inspect import verify
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.demo.mariadb import ACCOUNT, DATABASE, PrivateServer
from wgsyncd.stores.mikyun.store import MariaDBStore

# Memory holds all tables of 100 nodes, so that no disk is measured.
SERVER = ("--innodb-buffer-pool-size=3G", "--loose-innodb-buffer-pool-size-max=3G", "--innodb-log-file-size=512M",
          "--max-allowed-packet=64M")  # fmt: skip
GOAL = 1.5
ZONE = ZoneInfo("Asia/Tokyo")
AT_ONCE = 20_000

_DEVICES = """
INSERT INTO customer_devices (id, contract_id, device_id, wg_iface, wg_ip, public_key, preshared_key, status,
                              is_parent, first_handshake_at, last_handshake_at, issued_at, rx_bytes_total)
    SELECT id, CONCAT('c', LPAD(node, 3, '0'), LPAD(k DIV 3, 6, '0')), CONCAT('d', LPAD(node, 3, '0'), '-', k),
           CONCAT('n', LPAD(node, 3, '0')), CONCAT('10.', node, '.', k DIV 250, '.', k MOD 250 + 2),
           TO_BASE64(UNHEX(SHA2(CONCAT('key', id), 256))), TO_BASE64(UNHEX(SHA2(CONCAT('psk', id), 256))), 'active',
           k MOD 3 = 0, '2026-01-02', '2026-01-02', '2026-01-01', 5
    FROM bench_ids ORDER BY id
"""
_OTHERS = (
    """INSERT INTO contracts (contract_id, contract_status)
           SELECT contract_id, 'active' FROM customer_devices GROUP BY contract_id ORDER BY MIN(id)""",
    """INSERT INTO wgsyncd_peers (node, interface, public_key, row_id, device, contract, address, config_digest, state, epoch,
                                  rx, tx, latest_handshake, sampled_at)
           SELECT wg_iface, 'wg0', UNHEX(SHA2(CONCAT('key', id), 256)), id, device_id, contract_id, wg_ip, 'configur',
                  'present', 'boot:1', 1, 1, 1, 1 FROM customer_devices ORDER BY wg_iface, id""",
    """INSERT INTO wgsyncd_buckets (device, start, rx, tx)
           SELECT device_id, {bucket} - 900 * n.seq, 1, 1 FROM customer_devices, seq_1_to_3 n""",
    """INSERT INTO wgsyncd_days (device, day, rx, tx)
           SELECT device_id, DATE('{day}') - INTERVAL n.seq DAY, 1, 1 FROM customer_devices, seq_0_to_2 n""",
    "INSERT INTO wgsyncd_nodes (node, revision, accounting_since) SELECT DISTINCT wg_iface, 1, 1 FROM customer_devices",
    """ANALYZE TABLE customer_devices, contracts, wgsyncd_peers, wgsyncd_buckets, wgsyncd_days""",
)


class Side:
    """One server with its tables and the store of the measured node."""

    def __init__(self, stack: ExitStack, node: int, nodes: int) -> None:
        where = room()
        self.server = stack.enter_context(PrivateServer(options=SERVER, parent=where))
        self.server.load()
        self.server.create_account()
        self.admin = pymysql.connect(**self.server.connect_args, database=DATABASE, autocommit=True)
        stack.callback(self.admin.close)
        others = json.dumps([f"n{one:03}" for one in range(nodes) if one != node])
        self.node = f"n{node:03}"
        self.config = (
            f'[node]\nname = "{self.node}"\nzone = "{ZONE.key}"\nignored_interfaces = {others}\n'
            f'[mikyun.database]\nsocket = "{self.server.socket}"\npassword_file = "{self.server.password_file}"\n'
            f'user = "{ACCOUNT}"\ntimeout = "30s"\n'
            f'[interfaces.wg0]\nstore_name = "{self.node}"\nnetworks = ["10.0.0.0/8"]\naddresses = ["10.255.0.1/8"]\n'
        )
        self.store = MariaDBStore(parse(self.config))
        stack.callback(self.store.close)

    def sql(self, statement: str) -> None:
        """Runs a statement as the administrator."""
        with self.admin.cursor() as cursor:
            cursor.execute(statement)

    def fill(self, ids: Iterator[tuple[int, int, int]], calendar: UsageCalendar) -> None:
        """Fills the tables. ``ids`` has the id, the node and the number within the node of each row."""
        self.sql("CREATE TABLE bench_ids (id INT PRIMARY KEY, node INT, k INT)")
        some = list(ids)
        for at in range(0, len(some), AT_ONCE):
            self.sql("INSERT INTO bench_ids VALUES " + ",".join(map(str, some[at : at + AT_ONCE])))
        self.sql(_DEVICES)
        for statement in _OTHERS:
            bucket = int(calendar.now // calendar.width) * calendar.width
            self.sql(statement.format(bucket=bucket, day=calendar.day(calendar.now)))
        self.sql(f"CREATE TABLE bench_own (PRIMARY KEY (id)) ENGINE = MEMORY SELECT id, contract_id FROM customer_devices"
                 f" WHERE wg_iface = '{self.node}'")  # fmt: skip
        self.sql("CREATE TABLE bench_contracts (PRIMARY KEY (contract_id)) ENGINE = MEMORY"
                 " SELECT DISTINCT contract_id FROM bench_own")  # fmt: skip
        self.store.snapshot()
        self.store.refresh(calendar)

    def look_up(self) -> None:
        """Finds each own row and each of its contracts by its primary key, and reads one column. No look does less."""
        self.sql("SELECT COUNT(d.wg_iface) FROM bench_own o STRAIGHT_JOIN customer_devices d ON d.id = o.id")
        self.sql("SELECT COUNT(c.contract_status) FROM bench_contracts o STRAIGHT_JOIN contracts c USING (contract_id)")

    def change(self) -> None:
        """Changes one of a hundred own rows, as an application does."""
        self.sql(f"""UPDATE customer_devices d JOIN bench_ids USING (id) SET preshared_key = TO_BASE64(RANDOM_BYTES(32))
                     WHERE d.wg_iface = '{self.node}' AND k MOD 100 = 1""")

    def start(self) -> int:
        """A new process reads its rows for the first time."""
        with closing(MariaDBStore(parse(self.config))) as store:
            return len(store.snapshot().rows)

    def processor_time(self) -> float:
        """The seconds that server and store have used. The clock of another process: see clock_getcpuclockid(3)."""
        return time.clock_gettime((~self.server.pid << 3) | 2) + time.process_time()


def measure(nodes: int, rows: int, layout: str, repeat: int) -> dict[str, Any]:
    """Measures one case. Returns the seconds of both sides by work."""
    chosen = nodes // 2
    numbers = [(node, k) for node in range(nodes) for k in range(rows)]
    if layout == "random":
        random.Random(1).shuffle(numbers)
    everybody = [(at, *one) for at, one in enumerate(numbers, 1)]
    calendar = UsageCalendar(time.time(), 900, ZONE)
    ranges = verify.make_ranges(calendar)
    works: dict[str, Callable[[Side], object]] = {
        "floor of a look": lambda side: side.look_up(),
        "look": lambda side: side.store.digest(),
        "read": lambda side: side.store.snapshot(),
        "read after a change": lambda side: side.store.snapshot(),
        "roll": lambda side: side.store.refresh(calendar),
        "verify": lambda side: sum(1 for _ in side.store.device_totals(ranges)),
        "start": lambda side: side.start(),
    }
    with ExitStack() as stack:
        sides = {name: Side(stack, chosen, nodes) for name in ("alone", "with others")}
        sides["alone"].fill((one for one in everybody if one[1] == chosen), calendar)
        sides["with others"].fill(iter(everybody), calendar)
        say(f"{nodes} nodes, {layout}: the tables are filled")
        took: dict[str, dict[str, list[float]]] = {work: {name: [] for name in sides} for work in works}
        answers: dict[str, set[str]] = {work: set() for work in works}
        for _ in range(repeat):
            for work, piece in works.items():
                for name, side in sides.items():
                    if work == "read after a change":
                        side.change()
                    began = side.processor_time()
                    found = piece(side)
                    took[work][name].append(side.processor_time() - began)
                    answers[work].add(str(len(found.rows) if hasattr(found, "rows") else found))
        wrong = {work: found for work, found in answers.items() if len(found) > 1 and work != "look"}
        if wrong:
            sys.exit(f"the sides differ: {wrong}")
    return {work: {name: statistics.median(some) for name, some in by_side.items()} for work, by_side in took.items()}


def say(text: str) -> None:
    """Prints the progress on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Runs the measurement and returns the exit status."""
    parser = argparse.ArgumentParser(description="What the rows of other nodes cost a node.")
    parser.add_argument("--nodes", type=int, nargs="+", default=[10], help="default: %(default)s")
    parser.add_argument("--rows", type=int, default=10_000, help="of each node; default: %(default)s")
    parser.add_argument("--layout", nargs="+", choices=("row", "random"), default=["row", "random"])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object, on one line")
    args = parser.parse_args()
    results = [
        {"nodes": nodes, "rows": args.rows, "layout": layout, "seconds": seconds,
         "ratios": {work: round(one["with others"] / one["alone"], 2) for work, one in seconds.items()}}
        for nodes in args.nodes
        for layout in args.layout
        for seconds in [measure(nodes, args.rows, layout, args.repeat)]
    ]  # fmt: skip
    if args.json:
        print(json.dumps({"goal": GOAL, "results": results}))
        return 0
    print("| nodes | ids | " + " | ".join(results[0]["seconds"]) + " |")
    print("|---" * (2 + len(results[0]["seconds"])) + "|")
    for one in results:
        cells = (
            f"{s['with others']:.3g} / {s['alone']:.3g} = {one['ratios'][work]:.2f}"
            for work, s in one["seconds"].items()
        )
        print(f"| {one['nodes']} | {one['layout']} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
