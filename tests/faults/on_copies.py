"""A copy of the server comes, tables are put back, and names change."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

from pymysql.cursors import Cursor

from tests.faults.on_database import away
from tests.faults.oracle import SIDES, Bytes
from tests.faults.runner import Deed, Play
from tests.faults.script import Step
from wgsyncd.demo import processes
from wgsyncd.demo.mariadb import DATABASE

_DUMP = ("mariadb-dump", "--no-defaults", "--single-transaction", "--routines", "--triggers")
_WAITING = "wgsyncd_spool_pending_counters"
_TAKEOVERS = "SELECT COUNT(*) FROM admin_logs WHERE action_type = 'node_taken_over'"


def twin(play: Play, step: Step) -> Deed[None]:
    """Starts a copy of the server, with the same machine id and the same node name. It is refused."""
    stage = play.stage
    with (yield from play.holding("instances")):
        # After an orderly end, another server may take the node at once. So the daemon must have the node first.
        while not (yield from play.asked(lambda cursor: _has_holder(cursor, stage.node))):
            yield from play.pause(0.1)
        stage.start(stage.twin)
        process = stage.twin.process
        assert process is not None
        play.faults[step.kind] += 1
        yield from play.until(lambda: process.poll() is not None, step.parameters["lasts"])
        process.kill()
        code = process.wait()
        play.ends[f"twin: {code}"] += 1
        if code not in (1, -signal.SIGKILL):
            play.trouble(f"the copy of the server ended with {code}")
        if (yield from play.asked(lambda cursor: _number(cursor, _TAKEOVERS))):
            play.trouble("the copy of the server took the node over")


def stranger(play: Play, step: Step) -> Deed[None]:
    """Starts a replacement of the server with another node name, and later starts the server again.

    It serves the same rows by interfaces of its own. Nobody is connected there, so no byte is its own. With ``beside``
    both run meanwhile.
    """
    stage, p = play.stage, step.parameters
    with (yield from play.holding("instances")):
        stage.name_copy(f"stranger-{play.faults[step.kind]}")
        try:
            with contextlib.nullcontext() if p["beside"] else stopped(play):
                if not p["beside"]:
                    yield from end(play, p["how"])
                stage.start(stage.twin)
                process = stage.twin.process
                assert process is not None
                yield from play.until(lambda: process.poll() is not None, p["lasts"])
                if process.poll() not in (None, -signal.SIGKILL):  # a kill at a statement may hit this daemon, too
                    play.trouble(f"the replacement with another name ended with {process.poll()}")
                elif process.poll() is None:
                    process.send_signal(signal.SIGKILL if p["how"] == "kill" else signal.SIGTERM)
                    if not (yield from play.until(lambda: process.poll() is not None, 15)):
                        process.kill()
                process.wait()
        finally:
            stage.name_copy()
        play.faults[step.kind] += 1
        play.moments[f"stranger: {'beside' if p['beside'] else 'instead'}, {p['how']}"] += 1


def _has_holder(cursor: Cursor, node: str) -> bool:
    return _number(cursor, "SELECT COUNT(*) FROM wgsyncd_nodes WHERE heartbeat > 0 AND node = %s", node) > 0


def _number(cursor: Cursor, sql: str, *values: object) -> int:
    cursor.execute(sql, values)
    return int(cursor.fetchall()[0][0])


@contextlib.contextmanager
def stopped(play: Play) -> Iterator[None]:
    """Lets no daemon start meanwhile."""
    play.down = True
    try:
        yield
    finally:
        play.down = False


def end(play: Play, how: str) -> Deed[None]:
    """Ends the daemon by a kill or in an orderly way, and waits for its end."""
    daemon = play.stage.daemons[0]
    process = daemon.process
    if process is not None and process.poll() is None:
        play.expected.add(-signal.SIGTERM)
        process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
        if not (yield from play.until(lambda: process.poll() is not None, 15)):
            play.trouble("no end within 15 s of SIGTERM")
            process.kill()
    yield from play.until(lambda: daemon.process is None)


def restart(play: Play) -> Deed[None]:
    """Kills the daemon, and waits until it runs with the present configuration."""
    with stopped(play):
        yield from end(play, "kill")
        play.stage.configure()
    yield from play.until(play.answers)


def nothing_waits(play: Play) -> Deed[None]:
    """Waits until the spool is empty. Samples of counters that have ended are in no backup."""
    began = time.monotonic()

    def is_empty() -> bool:
        seen = play.eyes.seen
        # A daemon reads the file in its first run, which is over when the second one begins.
        return seen.asked > began and seen.successes("account") > 1 and not seen.values.get(_WAITING, 1)

    yield from play.until(is_empty)


def restore(play: Play, step: Step) -> Deed[None]:
    """Saves tables and puts them back later. The counters went on, so no byte is lost or posted twice.

    Only the totals of older rows lack bytes. The daemon must tell that, and an admin adds them.
    """
    stage, p = play.stage, step.parameters
    file, part = stage.directory / "dump.sql", p["part"]
    server = f"--socket={stage.database.socket}"
    # A proxy that passes nothing on would keep a transaction open, and the server waits for its end to make the tables.
    with (yield from play.holding_devices(stage.devices, "interfaces", "instances", "database", "clock", "proxy")):
        yield from nothing_waits(play)
        while (yield from play.asked(lambda cursor: _number(cursor, "SELECT COUNT(*) FROM wgsyncd_set_aside"))):
            yield from play.pause(0.1)
        tables = {"all": [], "rows": ["customer_devices"], "own": (yield from play.asked(_own_tables))}[part]
        processes.run([*_DUMP, f"--result-file={file}", server, DATABASE, *tables], timeout=60)
        yield from play.pause(p["lasts"])
        with stopped(play) if p["how"] != "runs" else contextlib.nullcontext():
            if p["how"] != "runs":
                yield from end(play, p["how"])
            before = yield from play.asked(_totals)
            since = yield from play.asked(lambda cursor: _number(cursor, "SELECT COALESCE(MAX(id), 0) FROM admin_logs"))
            with away(play):
                processes.run(["mariadb", "--no-defaults", f"--execute=source {file}", server, DATABASE], timeout=60)
            after = yield from play.asked(_totals)
        play.faults[step.kind] += 1
        play.moments[f"restore: {part}, {p['how']}"] += 1
        if part != "rows":
            return
        lacking = {name for name, figures in after.items() if figures != before[name]}
        for name, figures in after.items():
            for at, side in enumerate(SIDES):
                play.due.accounts[name].shift[side] += before[name][at] - figures[at]
        while (yield from play.asked(lambda cursor: _told(cursor, since))) < lacking:
            yield from play.pause(0.1)


def _own_tables(cursor: Cursor) -> list[str]:
    cursor.execute("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
    return [name for name, _ in cursor.fetchall() if name.startswith("wgsyncd_")]


def _totals(cursor: Cursor) -> dict[str, Bytes]:
    cursor.execute("SELECT device_id, rx_bytes_total, tx_bytes_total FROM customer_devices")
    return {name: Bytes(int(rx), int(tx)) for name, rx, tx in cursor.fetchall()}


def _told(cursor: Cursor, since: int) -> set[str]:
    """Returns the devices that an admin knows to lack bytes."""
    cursor.execute(
        "SELECT target_id FROM admin_logs WHERE id > %s AND message LIKE '%%the columns are older%%'", (since,)
    )
    return {name for (name,) in cursor.fetchall()}


def rename_interface(play: Play, step: Step) -> Deed[None]:
    """Renames an interface and its section, and later renames it back. Its customers go on."""
    stage, name = play.stage, step.parameters["interface"]
    with (yield from play.holding_devices(stage.devices, "interfaces", "instances")):
        for new in (f"{name}x", name):
            with stopped(play):
                yield from end(play, step.parameters["how"])
                stage.rename(name, new)
                stage.configure()
            yield from play.pause(step.parameters["lasts"])
        play.faults[step.kind] += 1


def rename_node(play: Play, step: Step) -> Deed[None]:
    """Gives the node a name that it never had. The database answers and all is posted, as the page demands."""
    stage = play.stage
    with (yield from play.holding_devices(stage.devices, "instances", "database", "proxy", "interfaces")):
        yield from nothing_waits(play)
        old = stage.node
        with stopped(play):
            yield from end(play, step.parameters["how"])
            head, _, number = old.partition("-")
            stage.node = f"{head}-{int(number or 0) + 1}"
            stage.configure()

        def followed(cursor: Cursor) -> bool:
            cursor.execute("SELECT node FROM wgsyncd_nodes WHERE node IN (%s, %s)", (old, stage.node))
            return cursor.fetchall() == ((stage.node,),)

        while not (yield from play.asked(followed)):
            yield from play.pause(0.1)
        play.faults[step.kind] += 1


ACTS = {
    "twin": twin,
    "stranger": stranger,
    "restore": restore,
    "rename_interface": rename_interface,
    "rename_node": rename_node,
}
