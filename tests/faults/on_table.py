"""These steps change rows as the web application does, each while other faults happen."""

from __future__ import annotations

import time
import uuid
from datetime import datetime

from pymysql.cursors import Cursor

from tests.faults.books import ZONE
from tests.faults.on_copies import restart
from tests.faults.runner import Deed, Peer, Play
from tests.faults.script import Step
from tests.faults.stage import NETS, OPEN, Device
from wgsyncd.demo.testbed import new_keys, new_preshared_key

_OFF = {"paused": "status = 'paused'", "revoked": "status = 'revoked'", "deleted": "deleted_at = NOW()"}


def _change(play: Play, devices: list[Device], settings: dict[str, object]) -> Deed[None]:
    """Sets the same values in the rows of these devices."""
    places = ", ".join(["%s"] * len(devices))
    sets = ", ".join(f"{column} = %s" for column in settings)
    sql = f"UPDATE customer_devices SET {sets} WHERE id IN ({places})"
    yield from play.told(sql, *settings.values(), *(device.row for device in devices))


def hush(play: Play, step: Step, devices: list[Device]) -> Deed[bool]:
    """Cuts the wires before peers are removed. A step under traffic leaves them. Returns whether there is traffic."""
    busy = bool(step.parameters.get("busy"))
    if not busy:
        yield from play.quiet(devices)
    else:
        play.moments[f"{step.kind} under traffic"] += 1
    return busy


def leave(play: Play, old: list[Peer], busy: bool) -> Deed[None]:
    """Waits until all of these peers are gone, and watches each of them at the same time."""
    waiting = {peer.device.name: play.gone(peer, busy) for peer in old}
    while waiting:
        for name, deed in list(waiting.items()):
            try:
                next(deed)
            except StopIteration:
                del waiting[name]
        if waiting:
            yield
    if busy:
        yield from play.quiet([peer.device for peer in old])


def pause(play: Play, step: Step) -> Deed[None]:
    """Pauses, revokes or deletes rows for a while, and brings them back."""
    devices, how = play.devices(step), step.parameters["how"]
    with (yield from play.holding_devices(devices)):
        busy = yield from hush(play, step, devices)
        rows = ", ".join(str(device.row) for device in devices)
        old = play.peers(devices)
        yield from play.told(f"UPDATE customer_devices SET {_OFF[how]} WHERE id IN ({rows})")
        yield from leave(play, old, busy)
        play.faults[step.kind] += 1
        yield from play.pause(step.parameters["lasts"])
        yield from play.told(f"UPDATE customer_devices SET status = 'active', deleted_at = NULL WHERE id IN ({rows})")
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
            yield from _change(play, [device], {"public_key": device.keys.public, "private_key": device.keys.private})
        yield from leave(play, old, busy)
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def move(play: Play, step: Step) -> Deed[None]:
    """Moves the devices to the other interface, and so to another network."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices, "interfaces")):
        busy = yield from hush(play, step, devices)
        old = play.peers(devices)
        for device in devices:
            device.interface = "wg1" if device.interface == "wg0" else "wg0"
            device.address = f"{NETS[device.interface]}.{device.address.rsplit('.', 1)[1]}"
            yield from _change(play, [device], {"wg_iface": device.interface, "wg_ip": device.address})
        yield from leave(play, old, busy)
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def address(play: Play, step: Step) -> Deed[None]:
    """Gives the devices another address, under traffic. The peers continue to exist."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        for device in devices:
            net, _, host = device.address.rpartition(".")
            device.address = f"{net}.{(int(host) + 100) % 200}"
            yield from _change(play, [device], {"wg_ip": device.address})
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def preshared_key(play: Play, step: Step) -> Deed[None]:
    """Sets or clears a preshared key. The peers continue to exist."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        for device in devices:
            device.preshared_key = None if device.preshared_key else new_preshared_key()
            yield from _change(play, [device], {"preshared_key": device.preshared_key})
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def qr(play: Play, step: Step) -> Deed[None]:
    """Issues a new QR code with new keys. It is scanned in time or not.

    The clock does not step meanwhile, because the deadline is in its time.
    """
    devices, scanned = play.devices(step), step.parameters["scanned"]
    device = devices[0]
    with (yield from play.holding_devices(devices, "clock")):
        yield from play.quiet(devices)
        old = play.peers(devices)
        yield from _change(play, devices, {"status": "revoked"})
        yield from leave(play, old, False)
        device.keys = new_keys()
        play.stage.ear.keep(device.keys.private)
        end = datetime.fromtimestamp(int(time.time() + (3600 if scanned else 3) * play.stage.pace), ZONE)
        yield from _change(play, devices, {
            "status": "issued", "public_key": device.keys.public, "private_key": device.keys.private,
            "first_handshake_at": None, "last_handshake_at": None, "activated_at": None,
            "qr_expires_at": end.strftime("%Y-%m-%d %H:%M:%S"),
        })  # fmt: skip
        if scanned:
            yield from play.loud(devices)
        word = "active" if scanned else "expired"

        def done(cursor: Cursor) -> bool:
            cursor.execute("SELECT status FROM customer_devices WHERE id = %s", (device.row,))
            [(status,)] = cursor.fetchall()
            return bool(status == word)

        while not (yield from play.asked(done)):
            yield from play.pause(0.1)
        play.faults[step.kind] += 1
        play.moments[f"qr: {word}"] += 1
        if not scanned:
            yield from play.until(lambda: play.stage.actual(device) is None)
            yield from _change(play, devices, {"status": "active"})
            yield from play.loud(devices)


def reset(play: Play, step: Step) -> Deed[None]:
    """Sets a total, as an admin does. A note in the same transaction shows whether the transaction happened."""
    column, figure = step.parameters["column"], step.parameters["figure"]
    side = column.partition("_")[0]
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        for device in devices:
            note = uuid.uuid4().hex

            def work(cursor: Cursor, device: Device = device, note: str = note) -> int:
                cursor.execute(f"SELECT {column} FROM customer_devices WHERE id = %s FOR UPDATE", (device.row,))
                [(was,)] = cursor.fetchall()
                cursor.execute("SELECT note FROM contract_notes WHERE contract_id = %s", (note,))
                done = cursor.fetchall()
                if done:
                    return int(done[0][0])
                cursor.execute("INSERT INTO contract_notes (contract_id, note) VALUES (%s, %s)", (note, str(was)))
                cursor.execute(f"UPDATE customer_devices SET {column} = %s WHERE id = %s", (figure, device.row))
                return int(was)

            was = yield from play.asked(work)
            play.due.accounts[device.name].shift[side] += was - figure
        play.faults[step.kind] += 1


def everybody(play: Play, step: Step) -> Deed[None]:
    """Pauses everybody by mistake while the guard is strict. No more peers go than the budget, and all come back."""
    stage, budget = play.stage, step.parameters["budget"]
    with (yield from play.holding_devices(stage.devices, "instances")):
        yield from play.until(lambda: all(stage.actual(device) is not None for device in stage.devices))
        yield from play.quiet(stage.devices)
        old = play.peers(stage.devices)
        stage.guard = {"always_allowed": budget, "max_share": 0.01, "small_node": 1}
        yield from restart(play)
        yield from play.told("UPDATE customer_devices SET status = 'paused'")
        yield from play.pause(step.parameters["lasts"])
        missing = {peer.slot for peer in old} - stage.counters(fresh=True).keys()
        yield from play.told("UPDATE customer_devices SET status = 'active'")
        stage.guard = OPEN
        yield from restart(play)
        yield from play.until(lambda: all(stage.actual(device) is not None for device in stage.devices))
        counters = stage.counters(fresh=True)
        gone = [peer for peer in old if peer.slot in missing or counters[peer.slot] != peer.counters]
        for peer in gone:  # a peer that came again begins at zero
            play.due.end(peer.device.name, peer.counters)
        if len(gone) > budget:
            play.trouble(f"{len(gone)} peers went, and the guard's budget is {budget}")
        play.faults[step.kind] += 1
        play.moments[f"everybody: {len(gone)} of {budget} removals"] += 1
        yield from play.loud(stage.devices)


ACTS = {"everybody": everybody, "pause": pause, "rekey": rekey, "move": move, "address": address, "preshared_key": preshared_key, "qr": qr,
        "reset": reset}  # fmt: skip
