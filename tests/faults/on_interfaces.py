"""These faults hit the interfaces and their peers, after the lost counters were sampled durably."""

from __future__ import annotations

from tests.faults.on_database import gone
from tests.faults.runner import Deed, Play
from tests.faults.script import Step
from tests.faults.stage import Device


def _theirs(play: Play, interface: str) -> list[Device]:
    return [device for device in play.stage.devices if device.interface == interface]


def interface(play: Play, step: Step) -> Deed[None]:
    """Deletes an interface or ends its process. Later the interface is created again and is empty."""
    stage, name, p = play.stage, step.parameters["interface"], step.parameters
    with (yield from play.holding_devices(stage.devices, "interfaces")):
        devices = _theirs(play, name)
        yield from play.quiet(devices)
        if p["away"] and play.spools:
            with (yield from play.holding("database")), gone(play, p["away"]):
                yield from play.sampled({name})
                _lose(play, name, devices, p["how"])
                yield from play.pause(p["lasts"])
                stage.make(name)
            play.moments[f"interface, the database {p['away']}"] += 1
        else:
            yield from play.sampled({name})
            _lose(play, name, devices, p["how"])
            yield from play.pause(p["lasts"])
            stage.make(name)
        play.faults[step.kind] += 1
        play.moments[f"interface: {p['how']}"] += 1
        yield from play.loud(devices)


def _lose(play: Play, name: str, devices: list[Device], how: str) -> None:
    for device in devices:
        play.due.end(device.name, play.last(device))
    play.stage.unmake(name, how)


def foreign_remove(play: Play, step: Step) -> Deed[None]:
    """Removes peers as a foreign hand. The daemon adds them again."""
    stage = play.stage
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        yield from play.quiet(devices)
        yield from play.sampled({device.interface for device in devices})
        for device in devices:
            play.due.end(device.name, play.last(device))
            stage.world.server.run("wg", "set", device.interface, "peer", device.keys.public, "remove")
        play.faults[step.kind] += 1
        yield from play.loud(devices)


def foreign_replace(play: Play, step: Step) -> Deed[None]:
    """Removes peers as a foreign hand and adds them again as they were, with counters at zero.

    The peers stay quiet until the daemon has seen the lower counters. If new bytes pass the old value first, nobody can
    tell them from others.
    """
    stage = play.stage
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        yield from play.quiet(devices)
        yield from play.sampled({device.interface for device in devices})
        for device in devices:
            play.due.end(device.name, play.last(device))
            psk = f"PresharedKey = {device.preshared_key}\n" if device.preshared_key else ""
            stage.world.server.run("wg", "set", device.interface, "peer", device.keys.public, "remove")
            stage.world.server.run("wg", "addconf", device.interface, "/dev/stdin", stdin=(
                f"[Peer]\nPublicKey = {device.keys.public}\n{psk}AllowedIPs = {device.address}/32\n"
            ))  # fmt: skip
        play.faults[step.kind] += 1
        play.replaced += len(devices)
        yield from play.pause(0.05)  # a dump that was requested before is over now
        yield from play.sampled({device.interface for device in devices})
        yield from play.loud(devices)


def reboot(play: Play, step: Step) -> Deed[None]:
    """Restarts the machine: daemon, database and interfaces are gone, and come back one after the other.

    The boot id is another one. The kernel's interfaces may have the same numbers, as after a real restart.
    """
    stage, p = play.stage, step.parameters
    with (yield from play.holding_devices(stage.devices, "interfaces", "instances", "database")):
        yield from play.quiet(stage.devices)
        if not play.spools:
            yield from play.sampled(set(stage.world.interfaces))
        with gone(play, p["database"]):
            if play.spools:
                yield from play.sampled(set(stage.world.interfaces))
            play.down = True
            try:
                for daemon in stage.kept:
                    play.kill(daemon)
                yield from play.until(lambda: all(daemon.process is None for daemon in stage.kept))
                numbers = {name: stage.index(name) for name in stage.world.interfaces}
                for name in stage.world.interfaces:
                    _lose(play, name, _theirs(play, name), "delete")
                stage.new_boot()
                if p["first"] == "daemon":
                    play.down = False
                    yield from play.pause(p["lasts"])
                for name, number in numbers.items():
                    stage.make(name, number if p["same_index"] else None)
            finally:
                play.down = False
        play.faults[step.kind] += 1
        yield from play.loud(stage.devices)


ACTS = {"interface": interface, "foreign_remove": foreign_remove, "foreign_replace": foreign_replace,
        "reboot": reboot}  # fmt: skip
