"""These steps change what devices of NexaVPN may reach, while forbidden packets are sent."""

from __future__ import annotations

from tests.faults import on_nexavpn
from tests.faults.policies_stage import PoliciesStage
from tests.faults.runner import Deed, Play
from tests.faults.script import Step

_UNDER_WAY = 0.3  # seconds: packets that were judged before the change have arrived


def withdraw(play: Play, step: Step) -> Deed[None]:
    """Takes the policies of devices away under traffic, and gives them back. The devices reach nothing meanwhile."""
    stage = play.stage
    assert isinstance(stage, PoliciesStage)
    devices = play.devices(step)
    names = [stage.policy(device) for device in devices]
    with (yield from play.holding_devices(devices, "interfaces")):
        while not all(old := stage.profiles(devices)):
            yield from play.pause(0.1)
        yield from play.told("UPDATE policies SET is_active = false WHERE name = ANY(%s)", names)
        while any(new == before for new, before in zip(stage.profiles(devices), old, strict=True)):
            yield from play.pause(0.1)
        yield from play.pause(_UNDER_WAY)
        without = {device.name for device in devices}
        stage.prober.withdrawn |= without
        play.faults[step.kind] += 1
        yield from play.pause(step.parameters["lasts"])
        stage.prober.withdrawn -= without
        lacking = {None, *stage.profiles(devices)}
        yield from play.told("UPDATE policies SET is_active = true WHERE name = ANY(%s)", names)
        # Otherwise the next such step may take what is still there for the chains with the policies, and never end.
        while lacking.intersection(stage.profiles(devices)):
            yield from play.pause(0.1)


def swap(play: Play, step: Step) -> Deed[None]:
    """Gives two devices of one gateway each other's address under traffic. Nobody gets the other's access."""
    devices = play.devices(step)
    with (yield from play.holding_devices(devices)):
        one, other = devices
        if one.interface != other.interface:
            return
        free = f"{one.address.rpartition('.')[0]}.250"
        yield from on_nexavpn.readdress(play, [(one, free), (other, one.address), (one, other.address)])
        play.faults[step.kind] += 1
        yield from play.loud(devices)


ACTS = {**on_nexavpn.ACTS, "withdraw": withdraw, "swap": swap}
