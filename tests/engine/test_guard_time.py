"""The guard's memory follows the time that passed, not the wall clock."""

from __future__ import annotations

import pytest

from tests.engine.test_guard_memory import FIRST, delete, filled, live, pause
from tests.fakemachine import FakeMachine
from tests.samples import key


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("step", [-86400, 600, 3601])
def test_a_step_of_the_clock_neither_empties_nor_prolongs_the_memory(step: int, restarts: bool) -> None:
    """Ten minutes and an hour are seconds that passed, whatever the wall clock says."""
    node = filled(60)
    for number in range(FIRST, FIRST + 12):
        delete(node, number)
    node.cycle()
    for number in (20, 21, 22):
        pause(node, number)
    node.cycle()
    assert live(node) == 45, "the budget and three revocations"
    node.now += step
    if restarts:
        node.start()
    pause(node, 30)
    delete(node, 31)
    node.cycle()
    assert live(node) == 45, "nothing is forgotten"
    node.tick(600)
    node.cycle()
    assert live(node) == 44, "another revocation after ten minutes"
    node.tick(3600)
    node.cycle()
    assert live(node) == 43, "the rest after an hour"


def test_a_reboot_with_another_time_forgets_nothing() -> None:
    node = filled(60)
    node.machine = FakeMachine()
    node.start()
    for number in range(FIRST, FIRST + 12):
        delete(node, number)
    node.cycle()
    node.agent.holding.release()
    node.machine.boot, node.machine.seconds, node.mono = "fake-boot-2", 20.0, 5000.0
    node.now += 10**6
    node.reboot()
    delete(node, 20)
    node.cycle()
    delete(node, 21)
    node.cycle()
    assert live(node) == 47, "the device that went while the machine was down needs no removal"
    node.machine.seconds += 3601
    node.cycle()
    assert live(node) == 46


@pytest.mark.parametrize("happens", ["nothing", "reboot", "two reboots", "reset", "reset that nobody saw"])
def test_a_used_device_looks_used_after_its_counters_began_at_zero(happens: str, deadlines: None) -> None:
    """An old dump says that the devices are issued, that nobody used them, and that their QR codes have ended."""
    node = filled(60)
    for number in range(FIRST, FIRST + 40):
        node.shake(number)
    node.cycle()
    for _ in range(happens.count("reboot") + ("two" in happens)):
        node.reboot()
        node.cycle()
        node.account()
    if "reset" in happens:
        for number in range(FIRST, FIRST + 40):
            node.wg.recreate_behind("wg0", key(number))
        if happens == "reset":
            node.account()
    for number in range(FIRST, FIRST + 60):
        node.change(number, status="issued", qr_expires_at="2026-02-01 00:00:00", first_handshake_at=None,
                    last_handshake_at=None)  # fmt: skip
    node.cycle()
    assert set(node.kernel_of("wg0")) == {key(number) for number in range(FIRST, FIRST + 40)}
    assert node.status.guard_tripped


def test_unused_devices_end_after_a_reboot_as_before(deadlines: None) -> None:
    node = filled(20)
    for number in range(70, 110):
        node.issued(number, node.now + 100)
    node.cycle()
    node.reboot()
    node.cycle()
    node.tick(200)
    node.cycle()
    assert live(node) == 20
    assert not node.status.guard_tripped
