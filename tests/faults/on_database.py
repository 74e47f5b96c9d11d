"""These faults hit the database."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

import pymysql
from pymysql.cursors import Cursor

from tests.faults.on_daemon import trap
from tests.faults.runner import Deed, Play
from tests.faults.script import Step
from tests.faults.web import Away
from wgsyncd.demo import processes

_HANGS = 1.5  # after these nominal seconds with free room, an administrator takes the server for hung
_PAGE = 4096


@contextlib.contextmanager
def away(play: Play) -> Iterator[None]:
    """Tells the web application meanwhile that it need not ask the database."""
    web = play.stage.web
    web.usable = False
    try:
        yield
    finally:
        web.close()
        web.usable = True


@contextlib.contextmanager
def gone(play: Play, how: str) -> Iterator[None]:
    """Kills or stops the server and starts it again at the end. With "hangs", the server is stopped and continues."""
    database = play.stage.database
    with away(play):
        if how == "hangs":
            play.stage.hang(True)
        elif how == "killed":
            database.kill()
        else:
            database.stop()
        try:
            yield
        finally:
            if how == "hangs":
                play.stage.hang(False)
            else:
                database.start()


def _gone(play: Play, step: Step, how: str) -> Deed[None]:
    with (yield from play.holding("database")), gone(play, how):
        play.faults[step.kind] += 1
        yield from play.pause(step.parameters["lasts"])


def db_kill(play: Play, step: Step) -> Deed[None]:
    """Kills the server and starts it again."""
    yield from _gone(play, step, "killed")


def db_kill_at(play: Play, step: Step) -> Deed[None]:
    """Kills the server at a statement."""
    with (yield from play.holding("database")):
        killed = False
        try:
            killed = yield from trap(play, step, "kill server")
            if killed:
                with away(play):
                    yield from play.pause(step.parameters["lasts"])
        finally:
            if killed or not runs(play):  # a process that was killed in this moment may still seem to run
                play.stage.database.kill()  # the server is dead, and this call records it
                play.stage.database.start()


def runs(play: Play) -> bool:
    """Returns whether MariaDB lives."""
    try:
        return bool(play.stage.database.pid > 0)
    except processes.CommandFailed:
        return False


def db_stop(play: Play, step: Step) -> Deed[None]:
    """Sends SIGSTOP, so that the server accepts connections and never answers."""
    yield from _gone(play, step, "hangs")


def db_restart(play: Play, step: Step) -> Deed[None]:
    """Restarts the server in an orderly way."""
    yield from _gone(play, step, "stopped")


def db_read_only(play: Play, step: Step) -> Deed[None]:
    """Makes the server read-only."""
    with (yield from play.holding("database")):
        yield from play.told("SET GLOBAL read_only = 1")
        play.faults[step.kind] += 1
        yield from play.pause(step.parameters["lasts"])
        yield from play.told("SET GLOBAL read_only = 0")


def db_full(play: Play, step: Step) -> Deed[None]:
    """Fills the disk of the server.

    With no byte left, each commit hangs at the binary log. With a little room left, tables that have to grow report
    error 1114. Later there is room again. MariaDB notices that within a minute, but the test does not wait for it.
    """
    stage, hangs = play.stage, step.parameters["hangs"]
    file = stage.disk / "filler"
    with (yield from play.holding("database")), away(play):
        try:
            _fill(file, stage.disk, 0 if hangs else 40 * _PAGE)
            if not hangs:
                _aside(_grow, play)
            play.faults[step.kind] += 1
            play.moments["db_full, commits hang" if hangs else "db_full, tables cannot grow"] += 1
            yield from play.pause(step.parameters["lasts"])
        finally:
            file.unlink(missing_ok=True)
        answer = _aside(_write, play)
        if not (yield from play.until(answer.is_set, _HANGS)):
            play.moments["db_full, restarted"] += 1
            stage.database.kill()
            stage.database.start()


def _aside(work: Callable[[Play], None], play: Play) -> threading.Event:
    """Runs `work` at the database, where it may hang. The event shows that it went well."""
    done = threading.Event()

    def run() -> None:
        with contextlib.suppress(pymysql.MySQLError, OSError):
            work(play)
            done.set()

    threading.Thread(target=run, daemon=True).start()
    return done


def _fill(file: os.PathLike[str], disk: os.PathLike[str], leave: int) -> None:
    with open(file, "wb", buffering=0) as sink:
        try:
            while True:
                sink.write(bytes(1 << 20))
        except OSError:  # the disk has no room for so much
            with contextlib.suppress(OSError):
                while True:
                    sink.write(bytes(_PAGE))
        used = os.stat(file).st_size
        sink.truncate(max(0, used - leave))


def _grow(play: Play) -> None:
    """Uses up the free room in the file of admin_logs."""
    actual = play.stage.web.connect()
    with contextlib.closing(actual), actual.cursor() as cursor:
        for _ in range(400):
            cursor.execute("INSERT INTO admin_logs (action_type, message) VALUES ('filler', %s)", ("x" * 400,))
            actual.commit()


def _write(play: Play) -> None:
    actual = play.stage.web.connect(1)
    with contextlib.closing(actual), actual.cursor() as cursor:
        cursor.execute("INSERT INTO contract_notes (contract_id, note) VALUES ('0001', 'room again')")
        actual.commit()


def row_lock(play: Play, step: Step) -> Deed[None]:
    """Holds rows in an open transaction for longer than the daemon waits."""
    names = [device.name for device in play.devices(step)]
    with (yield from play.holding("database")):
        actual = yield from _locked(play, names)
        with contextlib.closing(actual):
            play.faults[step.kind] += 1
            yield from play.pause(step.parameters["lasts"])
            actual.rollback()


def _locked(play: Play, names: list[str]) -> Deed[pymysql.Connection[pymysql.cursors.Cursor]]:
    places = ", ".join(["%s"] * len(names))
    sql = f"UPDATE customer_devices SET device_name = 'in an open transaction' WHERE device_id IN ({places})"
    while True:
        try:
            actual = play.stage.web.connect()
            with actual.cursor() as cursor:
                cursor.execute(sql, tuple(names))
            return actual
        except (pymysql.MySQLError, OSError):
            yield from play.pause(0.05)


def deadlock(play: Play, step: Step) -> Deed[None]:
    """Lets a transaction that holds a row wait for the daemon's locks, while the daemon waits for the row."""
    names = [device.name for device in play.devices(step)]
    waiting = ("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'mikyun'"
               " AND info LIKE '%%STRAIGHT_JOIN customer_devices%%' AND time_ms > 50")  # fmt: skip
    with (yield from play.holding("database")):
        actual = yield from _locked(play, names)
        with contextlib.closing(actual):
            end = time.monotonic() + 4 * play.stage.pace
            while time.monotonic() < end:
                with contextlib.suppress(Away):
                    if play.stage.web.query(waiting)[0][0]:
                        break
                yield from play.pause(0.05)
            else:
                return
            with actual.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
                try:
                    cursor.execute("UPDATE wgsyncd_nodes SET revision = revision")
                    play.moments["deadlock, the daemon lost"] += 1
                except pymysql.MySQLError as error:
                    play.moments[f"deadlock, we lost: {error.args[0]}"] += 1
            play.faults[step.kind] += 1
            actual.rollback()


def refused(play: Play, step: Step) -> Deed[None]:
    """Lets a trigger refuse to change the bytes of some rows. Nobody else waits, and their bytes come later."""
    devices = play.devices(step)
    names = ", ".join(f"'{device.name}'" for device in devices)
    with (yield from play.holding_devices(devices, "database")):
        yield from play.asked(lambda cursor: _define(
            cursor, "CREATE OR REPLACE TRIGGER refuses BEFORE UPDATE ON customer_devices FOR EACH ROW"
            f" IF NEW.device_id IN ({names}) AND NEW.rx_bytes_total <> OLD.rx_bytes_total THEN"
            " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF"
        ))  # fmt: skip
        play.faults[step.kind] += 1
        yield from play.pause(step.parameters["lasts"])
        waiting = "SELECT COUNT(DISTINCT device) FROM wgsyncd_set_aside"
        aside = yield from play.asked(lambda cursor: cursor.execute(waiting) and cursor.fetchall()[0][0])
        play.moments[f"refused, {'bytes' if aside else 'no bytes'} are set aside"] += 1
        yield from play.asked(lambda cursor: _define(cursor, "DROP TRIGGER IF EXISTS refuses"))


def _define(cursor: Cursor, sql: str) -> None:
    cursor.execute("SET SESSION lock_wait_timeout = 1")  # a statement that waits longer could come after the next one
    cursor.execute(sql)


ACTS = {"refused": refused, "db_kill": db_kill, "db_kill_at": db_kill_at, "db_stop": db_stop, "db_restart": db_restart,
        "db_read_only": db_read_only, "db_full": db_full, "row_lock": row_lock, "deadlock": deadlock}  # fmt: skip
