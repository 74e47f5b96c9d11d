"""After any events in any order, one undisturbed cycle makes everything right to the byte.

:mod:`tests.oracle` knows the bytes that are due. At every moment, no more than these bytes are posted. After one
undisturbed cycle all of them are posted, each byte on a day on which it can have come. :mod:`tests.random_faults`
checks both.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.random_faults import NAMES, ROWS, RandomFaults
from tests.samples import address, key, peer, psk, text
from tests.variants import USERS_AND_PLANE
from wgsyncd.core.model import encode_key


class RandomEvents(RandomFaults):
    """Describes everything around one wgsyncd: its rows, its machine and the time."""

    # -- the table

    def new_key(self, row: int) -> str:
        self.fresh += 1
        self.node.owner[key(self.fresh)] = row
        return text(self.fresh)

    def free(self, interface: str) -> str:
        taken = {self.node.admin.field(number, "address") for number in self.node.numbers}
        return next(one for n in range(2, 255) if (one := address(n, interface)) not in taken)

    @rule(number=ROWS, life=st.sampled_from([None, 20, 100, 900]))
    def insert(self, number: int, life: int | None) -> None:
        if number in self.used:
            return
        self.used.add(number)
        columns = {"address": self.free("wg0"), "public_key": self.new_key(number)}
        if life is None or not self.node.admin.has_deadlines:
            self.node.device(number, seen=life is None, **columns)
        else:
            self.node.issued(number, self.node.now + life, **columns)

    @rule(number=ROWS)
    def delete(self, number: int) -> None:
        if number in self.node.numbers:
            self.node.delete(number)

    @rule(really=st.sampled_from([False] * 9 + [True]))  # this happens seldom, because ids are never given again
    def truncate(self, really: bool) -> None:
        if really:
            self.node.truncate()

    @rule(status=st.sampled_from(["active", "active", "paused"]))
    def set_owner(self, status: str) -> None:
        self.node.admin.set_owner(status)

    @rule(number=ROWS)
    def rekey(self, number: int) -> None:
        if number in self.node.numbers:
            self.node.change(number, public_key=self.new_key(number))

    @rule(number=ROWS, secret=st.integers(0, 3))
    def set_psk(self, number: int, secret: int) -> None:
        if number in self.node.numbers:
            self.node.change(number, preshared_key=encode_key(psk(secret)) if secret else None)

    @rule(one=ROWS, other=ROWS)
    def swap_addresses(self, one: int, other: int) -> None:
        """The rows may be on two interfaces. Then both peers move."""
        if {one, other} <= set(self.node.numbers):
            a, b = ({c: self.node.admin.field(n, c) for c in ("address", "interface")} for n in (one, other))
            self.node.change(one, **b)
            self.node.change(other, **a)

    @rule(number=ROWS)
    def move(self, number: int) -> None:
        if number in self.node.numbers:
            there = NAMES[self.node.admin.field(number, "interface") == "wg0"]
            self.node.change(number, interface=there, address=self.free(there))

    @rule(number=ROWS, life=st.sampled_from([10, 100]))
    def issue_anew(self, number: int, life: int) -> None:
        """The row gets a new key, as with a new QR code."""
        if number in self.node.numbers and self.node.admin.has_deadlines:
            end = self.node.calendar.format_local(self.node.now + life)
            self.node.change(number, public_key=self.new_key(number), status="issued", qr_expires_at=end)

    # -- the machine

    @rule(name=st.sampled_from(NAMES))
    def delete_interface(self, name: str) -> None:
        if name in self.present():
            self.gone[name] = self.wg._interfaces[name].index
            self.wg.delete(name)
            self.node.follow()

    @rule(name=st.sampled_from(NAMES), same=st.booleans())
    def interface_is_back(self, name: str, same: bool) -> None:
        """If the interface has its old index, only its counters show that it is a new one."""
        if name in self.gone:
            self.make_interface(name, self.gone[name] if same else None)

    @rule()
    def reboot(self) -> None:
        self.wg.reboot(*self.present())
        self.gone = dict.fromkeys(self.gone, 99)
        self.node.follow()
        self.node.start()

    @rule(name=st.sampled_from(NAMES), number=st.integers(900, 905), host=ROWS)
    def foreign_peer(self, name: str, number: int, host: int) -> None:
        if name in self.present():
            self.wg.add_behind(name, peer(number, address(host, name)))

    # -- time

    @rule(seconds=st.sampled_from([-86400, -3600, -1, 1, 3600]))
    def the_clock_steps(self, seconds: int) -> None:
        if not self.steady:
            self.node.now += seconds

    @rule(name=st.sampled_from(NAMES), dumps=st.sampled_from([1, 6, 12]))
    def torn_dumps(self, name: str, dumps: int) -> None:
        self.wg.torn[name] = dumps


class RandomFaultsOfUsers(RandomFaults):
    """The same on the other control plane, with a second data plane."""

    variant = USERS_AND_PLANE


class RandomEventsOfUsers(RandomEvents):
    """The same on the other control plane, with a second data plane."""

    variant = USERS_AND_PLANE


FEW_RULES = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
ALL_RULES = settings(FEW_RULES, max_examples=30, stateful_step_count=40)
# The first two have fewer rules, so they meet rare combinations of them sooner.
for machine in (RandomFaults, RandomFaultsOfUsers):
    machine.TestCase.settings = FEW_RULES
for machine in (RandomEvents, RandomEventsOfUsers):
    machine.TestCase.settings = ALL_RULES
TestRandomFaults, TestRandomFaultsOfUsers = RandomFaults.TestCase, RandomFaultsOfUsers.TestCase
TestRandomEvents, TestRandomEventsOfUsers = RandomEvents.TestCase, RandomEventsOfUsers.TestCase
