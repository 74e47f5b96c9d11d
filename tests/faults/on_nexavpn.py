"""These faults hit PostgreSQL, and rows that NexaVPN's application changes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import sql as names

from tests.faults import on_daemon, on_database, on_interfaces
from tests.faults.nexavpn_stage import ROLES, NexavpnStage
from tests.faults.on_table import hush, leave
from tests.faults.runner import Deed, Play
from tests.faults.script import Step
from tests.faults.stage import NETS, Device
from tests.faults.web import Away
from tests.nexavpn_sides import named
from wgsyncd.demo.testbed import new_keys, new_preshared_key

_TABLES = {"devices": "id", "wireguard_peers": "device_id", "ip_allocations": "device_id"}
_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY(%s)"
_ROWS = ("devices", "wireguard_peers", "ip_allocations")  # in the order of their references


def _stage(play: Play) -> NexavpnStage:
    assert isinstance(play.stage, NexavpnStage)
    return play.stage


def _set(play: Play, device: Device, **tables: dict[str, object]) -> Deed[None]:
    """Changes the rows of a device in one transaction. Doing it twice changes nothing more."""
    texts = [
        (f"UPDATE {table} SET {', '.join(f'{column} = %s' for column in columns)} WHERE {_TABLES[table]} = %s",
         (*columns.values(), device.name))
        for table, columns in tables.items()
    ]  # fmt: skip

    def work(cursor: Any) -> None:
        for text, values in texts:
            cursor.execute(text, values)

    yield from play.asked(work)


def cut(play: Play, step: Step) -> Deed[None]:
    """Terminates the server's processes that serve the daemons."""
    with (yield from play.holding("database")):
        yield from play.told(_TERMINATE, list(ROLES.values()))
        play.faults[step.kind] += 1


def refuse(play: Play, step: Step) -> Deed[None]:
    """Takes the login from the nodes' roles, and ends their connections."""
    with (yield from play.holding("database")):
        yield from play.told("; ".join(f"ALTER ROLE {role} NOLOGIN" for role in ROLES.values()))
        try:
            yield from play.told(_TERMINATE, list(ROLES.values()))
            play.faults[step.kind] += 1
            yield from play.pause(step.parameters["lasts"])
        finally:
            yield from play.told("; ".join(f"ALTER ROLE {role} LOGIN" for role in ROLES.values()))


def black_hole(play: Play, step: Step) -> Deed[None]:
    """Stops the processes that serve the daemon, which then answer nothing. New connections are answered."""
    with (yield from play.holding("database")):
        try:
            pids = _stage(play).backends()
        except Away:
            return
        stopped = [pid for pid in pids if _signal(pid, signal.SIGSTOP)]
        play.faults[step.kind] += bool(stopped)
        try:
            yield from play.pause(step.parameters["lasts"])
        finally:
            for pid in stopped:
                _signal(pid, signal.SIGCONT)


def _signal(pid: int, what: signal.Signals) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, what)
        return True
    return False


def row_lock(play: Play, step: Step) -> Deed[None]:
    """Holds rows in an open transaction for longer than the daemon waits."""
    ids = [device.name for device in play.devices(step)]
    with (yield from play.holding("database")):
        while True:
            try:
                own = _stage(play).web.enter()
                for table, column in _TABLES.items():
                    query = names.SQL("SELECT FROM {} WHERE {} = ANY(%s) FOR UPDATE")
                    own.execute(query.format(names.Identifier(table), names.Identifier(column)), (ids,))
                own.execute("SELECT FROM wgsyncd.totals WHERE device = ANY(%s::uuid[]) FOR UPDATE", (ids,))
                break
            except psycopg.Error:
                yield from play.pause(0.05)
        with contextlib.closing(own):
            play.faults[step.kind] += 1
            yield from play.pause(step.parameters["lasts"])


def _off(device: Device, how: str) -> Callable[[Any], None]:
    where = (device.name,)
    match how:
        case "blocked" | "revoked":
            statements = [(f"UPDATE devices SET status = '{how}' WHERE id = %s", where)]
        case "soft-deleted":
            statements = [("UPDATE devices SET deleted_at = now() WHERE id = %s", where)]
        case "deleted":
            statements = [(f"DELETE FROM {table} WHERE {_TABLES[table]} = %s", where) for table in reversed(_ROWS)]
        case _:
            statements = [("UPDATE users SET is_active = false WHERE id = "
                           "(SELECT user_id FROM devices WHERE id = %s)", where)]  # fmt: skip

    def work(cursor: Any) -> None:
        for text, values in statements:
            cursor.execute(text, values)

    return work


def _saved(devices: list[Device]) -> Callable[[Any], Callable[[Any], None]]:
    """Returns work that reads the devices' rows. Its result puts them back as they were."""

    def read(cursor: Any) -> Callable[[Any], None]:
        kept = []
        for table in _ROWS:
            cursor.execute(
                f"SELECT to_jsonb(t)::text FROM {table} t WHERE {_TABLES[table]} = ANY(%s)",
                ([device.name for device in devices],),
            )
            kept += [(table, row) for (row,) in cursor.fetchall()]

        def back(cursor: Any) -> None:
            cursor.execute("UPDATE users SET is_active = true WHERE id = %s", (named("alice"),))
            for table in reversed(_ROWS):
                ids = [device.name for device in devices]
                cursor.execute(f"DELETE FROM {table} WHERE {_TABLES[table]} = ANY(%s)", (ids,))
            for table, row in kept:
                cursor.execute(f"INSERT INTO {table} SELECT * FROM jsonb_populate_record(NULL::{table}, %s)", (row,))

        return back

    return read


def spared(play: Play, devices: list[Device]) -> list[Device]:
    """Returns the devices that may go. On each gateway one stays, as the guard withholds removals that leave no row.

    The caller holds "interfaces", so that no other step takes rows from a gateway meanwhile.
    """
    staying = {device.interface for device in play.stage.devices if device not in devices}
    last = {device.interface: device for device in devices if device.interface not in staying}
    return [device for device in devices if last.get(device.interface) is not device]


def pause(play: Play, step: Step) -> Deed[None]:
    """Ends devices for a while by their status, deletion or user, and brings the same rows back."""
    stage, how = play.stage, step.parameters["how"]
    devices = list(stage.devices) if how == "user off" else play.devices(step)
    with (yield from play.holding_devices(devices, *(["interfaces"] if how == "deleted" else []))):
        devices = spared(play, devices) if how == "deleted" else devices
        busy = yield from hush(play, step, devices)
        back = yield from play.asked(_saved(devices))
        old = play.peers(devices)
        for device in devices:
            yield from play.asked(_off(device, how))
        yield from leave(play, old, busy)
        play.faults[step.kind] += 1
        play.moments[f"pause: {how}"] += 1
        yield from play.pause(step.parameters["lasts"])
        yield from play.asked(back)
        yield from play.loud(devices)


def rekey(play: Play, step: Step) -> Deed[None]:
    """Gives the devices new keys."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        busy = yield from hush(play, step, devices)
        old = play.peers(devices)
        for device in devices:
            device.keys = new_keys()
            play.stage.ear.keep(device.keys.private)
            key: dict[str, object] = {"public_key": device.keys.public}
            yield from _set(play, device, devices=key, wireguard_peers=key)
        yield from leave(play, old, busy)
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def move(play: Play, step: Step) -> Deed[None]:
    """Moves the devices to the other gateway, and so to another network and to the daemon of another node."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices, "interfaces")):
        devices = spared(play, devices)
        busy = yield from hush(play, step, devices)
        old = play.peers(devices)
        for device in devices:
            device.interface = "wg1" if device.interface == "wg0" else "wg0"
            device.address = f"{NETS[device.interface]}.{device.address.rsplit('.', 1)[1]}"
            gateway: dict[str, object] = {"gateway_id": named(device.interface)}
            yield from _set(
                play, device, devices=gateway, wireguard_peers={**gateway, "assigned_ip": device.address},
                ip_allocations={**gateway, "address": device.address},
            )  # fmt: skip
        yield from leave(play, old, busy)
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def readdress(play: Play, changes: Sequence[tuple[Device, str]]) -> Deed[None]:
    """Gives devices other addresses, one after the other and in one transaction."""

    def work(cursor: Any) -> None:
        for device, new in changes:
            for text in (
                "UPDATE wireguard_peers SET assigned_ip = %s WHERE device_id = %s",
                "UPDATE ip_allocations SET address = %s WHERE device_id = %s",
            ):
                cursor.execute(text, (new, device.name))

    yield from play.asked(work)
    for device, new in changes:
        device.address = new


def address(play: Play, step: Step) -> Deed[None]:
    """Gives the devices another address, under traffic. The peers continue to exist."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        for device in devices:
            net, _, host = device.address.rpartition(".")
            yield from readdress(play, [(device, f"{net}.{(int(host) + 100) % 200}")])
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def preshared_key(play: Play, step: Step) -> Deed[None]:
    """Sets or clears a preshared key. The peers continue to exist."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        for device in devices:
            device.preshared_key = None if device.preshared_key else new_preshared_key()
            play.stage.ear.keep(device.preshared_key)
            sealed = _stage(play).sealed(device)
            yield from _set(play, device, wireguard_peers={"preshared_key_ciphertext": sealed})
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def release(play: Play, step: Step) -> Deed[None]:
    """Releases the addresses of devices under traffic. Their rows are rejected, so their peers stay and count."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        for device in devices:
            yield from _set(play, device, ip_allocations={"status": "released"})
        play.faults[step.kind] += 1
        yield from play.pause(step.parameters["lasts"])
        for device in devices:
            yield from _set(play, device, ip_allocations={"status": "allocated"})
        yield from play.loud(devices)


def rename(play: Play, step: Step) -> Deed[None]:
    """Gives devices and their user other names, under traffic. No peer changes."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        number = play.faults[step.kind] = play.faults[step.kind] + 1
        for device in devices:
            yield from _set(play, device, devices={"name": f"laptop, name {number}"})
        yield from play.told("UPDATE users SET username = %s WHERE id = %s", f"alice-{number}", named("alice"))


_SAME = ("kill", "stop", "stop_at", "cut_at", "swallow_commit", "hold_answer", "terminate", "reload", "second", "rival",
         "clock", "db_kill", "db_stop", "db_restart")  # fmt: skip
ACTS = {
    **{name: act for name, act in {**on_daemon.ACTS, **on_database.ACTS}.items() if name in _SAME},
    **on_interfaces.ACTS,
    **{act.__name__: act for act in (cut, refuse, black_hole, row_lock, pause, rekey, move, address, preshared_key,
                                     rename, release)},
}  # fmt: skip
