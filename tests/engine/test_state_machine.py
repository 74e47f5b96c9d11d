"""After any events in any order, one undisturbed cycle makes everything right to the byte.

:mod:`tests.oracle` knows the bytes that are due. At every moment, no more than these bytes are posted. After one
undisturbed cycle all of them are posted, each byte on a day on which it can have come. :mod:`tests.fault_injection`
checks both.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.fault_injection import NAMES, ROWS, Troubles
from tests.samples import address, key, peer, psk, text
from wgsyncd.core.model import encode_key

TestTroubles = Troubles.TestCase  # this class has fewer rules, so it meets rare combinations of them sooner


class Life(Troubles):
    """Describes everything around one wgsyncd: its rows, its machine and the time."""

    # -- the table

    def new_key(self, row: int) -> str:
        self.fresh += 1
        self.node.owner[key(self.fresh)] = row
        return text(self.fresh)

    def free(self, interface: str) -> str:
        taken = {d["wg_ip"] for d in self.db.devices.values()}
        return next(one for n in range(2, 255) if (one := address(n, interface)) not in taken)

    @rule(number=ROWS, life=st.sampled_from([None, 20, 100, 900]))
    def insert(self, number: int, life: int | None) -> None:
        if number in self.used:
            return
        self.used.add(number)
        columns = {"wg_ip": self.free("wg0"), "public_key": self.new_key(number)}
        if life is None:
            self.node.device(number, **columns)
        else:
            self.node.issued(number, self.node.now + life, **columns)

    @rule(number=ROWS)
    def delete(self, number: int) -> None:
        self.db.devices.pop(number, None)

    @rule(really=st.sampled_from([False] * 9 + [True]))  # this happens seldom, because ids are never given again
    def truncate(self, really: bool) -> None:
        if really:
            self.db.devices.clear()

    @rule(status=st.sampled_from(["active", "active", "paused"]))
    def set_contract(self, status: str) -> None:
        self.db.contracts["0001"] = status

    @rule(number=ROWS)
    def rekey(self, number: int) -> None:
        if number in self.db.devices:
            self.db.update(number, public_key=self.new_key(number))

    @rule(number=ROWS, secret=st.integers(0, 3))
    def set_psk(self, number: int, secret: int) -> None:
        if number in self.db.devices:
            self.db.update(number, preshared_key=encode_key(psk(secret)) if secret else None)

    @rule(one=ROWS, other=ROWS)
    def swap_addresses(self, one: int, other: int) -> None:
        """The rows may be on two interfaces. Then both peers move."""
        if {one, other} <= self.db.devices.keys():
            a, b = ({c: self.db.devices[n][c] for c in ("wg_ip", "wg_iface")} for n in (one, other))
            self.db.update(one, **b)
            self.db.update(other, **a)

    @rule(number=ROWS)
    def move(self, number: int) -> None:
        if number in self.db.devices:
            there = NAMES[self.db.devices[number]["wg_iface"] == "wg0"]
            self.db.update(number, wg_iface=there, wg_ip=self.free(there))

    @rule(number=ROWS, life=st.sampled_from([10, 100]))
    def issue_anew(self, number: int, life: int) -> None:
        """The row gets a new key, as with a new QR code."""
        if number in self.db.devices:
            end = self.node.calendar.format_local(self.node.now + life)
            self.db.update(number, public_key=self.new_key(number), status="issued", qr_expires_at=end)

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


Troubles.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
Life.TestCase.settings = settings(Troubles.TestCase.settings, max_examples=150, stateful_step_count=40)
TestLife = Life.TestCase
