"""Anything that may happen to a node, in any order; then one undisturbed cycle, and all is right to the byte.

What is accepted as lost is taken off the truth where it is lost: the bytes since the last sample of a peer that
somebody else removes, or whose interface goes.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.fakes import Crash
from tests.node import Node, key_number, local
from tests.samples import address, peer, psk, text
from wgsyncd.core.model import Counters, InterfaceState, PublicKey, encode_key
from wgsyncd.errors import StoreError

NAMES = ("wg0", "wg1")
ROWS = st.integers(2, 12)
BYTES = st.integers(1, 10**6)
FATES = st.sampled_from(["before", "during", "after", "after", "deadlock", "crash before", "crash after", "ok"])
GUARD = '[guard]\nmin_removals = 1000\n[log]\nlevel = "error"\n'


class Life(RuleBasedStateMachine):
    """The world around one wgsyncd."""

    def __init__(self) -> None:
        super().__init__()
        self.node = Node(GUARD)
        self.db, self.wg = self.node.db, self.node.wg
        self.fresh = 200  # the last key that somebody had
        self.used: set[int] = set()  # ids are never given again
        self.touchy: set[PublicKey] = set()  # made anew by a foreign hand since the last dump: no traffic yet

    @initialize(rows=st.sets(ROWS, min_size=1))
    def begin(self, rows: set[int]) -> None:
        self.used = set(rows)
        for number in rows:
            self.node.device(number)
        self.node.cycle()

    # -- the table

    def new_key(self) -> int:
        self.fresh += 1
        return self.fresh

    @rule(number=ROWS, life=st.sampled_from([None, 20, 100, 900]))
    def insert(self, number: int, life: int | None) -> None:
        if number in self.used:
            return
        self.used.add(number)
        taken = {d["wg_ip"] for d in self.db.devices.values()}
        host = next(address(n) for n in range(2, 255) if address(n) not in taken)
        columns = {"wg_ip": host, "public_key": text(self.new_key())}
        if life is None:
            self.node.device(number, **columns)
        else:
            self.node.issued(number, self.node.now + life, **columns)

    @rule(number=ROWS)
    def delete(self, number: int) -> None:
        if self.db.devices.pop(number, None) is not None:
            del self.node.true[number]

    @rule(really=st.sampled_from([False] * 9 + [True]))  # seldom: ids are never given again
    def truncate(self, really: bool) -> None:
        if really:
            self.db.devices.clear()
            self.node.true.clear()

    @rule(number=ROWS, status=st.sampled_from(["paused", "revoked", "active", "active", "deleted"]))
    def set_status(self, number: int, status: str) -> None:
        if number in self.db.devices:
            self.db.update(number, status=status)

    @rule(status=st.sampled_from(["active", "active", "paused"]))
    def set_contract(self, status: str) -> None:
        self.db.contracts["0001"] = status

    @rule(number=ROWS)
    def rekey(self, number: int) -> None:
        if number in self.db.devices:
            self.db.update(number, public_key=text(self.new_key()))

    @rule(number=ROWS, secret=st.integers(0, 3))
    def set_psk(self, number: int, secret: int) -> None:
        if number in self.db.devices:
            self.db.update(number, preshared_key=encode_key(psk(secret)) if secret else None)

    @rule(one=ROWS, other=ROWS)
    def swap_addresses(self, one: int, other: int) -> None:
        """Also across interfaces: then both move."""
        if {one, other} <= self.db.devices.keys():
            a, b = ({c: self.db.devices[n][c] for c in ("wg_ip", "wg_iface")} for n in (one, other))
            self.db.update(one, **b)
            self.db.update(other, **a)

    @rule(number=ROWS)
    def move(self, number: int) -> None:
        if number in self.db.devices:
            old = self.db.devices[number]
            there = NAMES[old["wg_iface"] == "wg0"]
            taken = {d["wg_ip"] for d in self.db.devices.values()}
            host = next(address(n, there) for n in range(2, 255) if address(n, there) not in taken)
            self.db.update(number, wg_iface=there, wg_ip=host)

    @rule(number=ROWS, life=st.sampled_from([10, 100]))
    def issue_anew(self, number: int, life: int) -> None:
        """With a new key, as a new QR code has."""
        if number in self.db.devices:
            end = local(self.node.now + life)
            self.db.update(number, public_key=text(self.new_key()), status="issued", qr_expires_at=end)

    # -- the devices

    def alive(self, name: str) -> dict[int, PublicKey]:
        """Live peers of rows by row: as the books name them, or as the table does."""
        if name not in self.present():
            return {}
        by_key = {d["public_key"]: n for n, d in self.db.devices.items()}
        owners: dict[int, PublicKey] = {}
        for k in self.wg.peers(name):
            record = self.db.records.get(("r640", (name, k)))
            number = record.row_id if record is not None else by_key.get(encode_key(k))
            if number is not None and number in self.db.devices and k not in self.touchy:
                owners[number] = k
        return owners

    def present(self) -> list[str]:
        return [name for name in NAMES if name not in self.gone]

    gone: frozenset[str] = frozenset()

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 9), rx=BYTES, tx=BYTES, shake=st.booleans())
    def traffic(self, name: str, which: int, rx: int, tx: int, shake: bool) -> None:
        owners = sorted(self.alive(name).items())
        if owners:
            number, k = owners[which % len(owners)]
            if shake:
                self.wg.handshake(name, k, int(self.node.now * 1e9))
            self.node.traffic(number, rx, tx, interface=name, peer=key_number(encode_key(k)))

    # -- the machine

    def lost(self, states: list[InterfaceState]) -> None:
        """Take off the truth what the books do not have of these peers."""
        for state in states:
            for k, found in state.peers.items():
                record = self.db.records.get(("r640", (state.name, k)))
                if record is None or record.row_id not in self.node.true:
                    continue
                rx, tx = found.counters
                if record.epoch == state.epoch and k not in self.touchy:
                    rx, tx = rx - record.counters.rx, tx - record.counters.tx
                elif record.epoch == state.epoch:
                    rx = tx = 0
                true = self.node.true[record.row_id]
                self.node.true[record.row_id] = Counters(true.rx - rx, true.tx - tx)

    def dump(self, name: str, *keys: PublicKey) -> list[InterfaceState]:
        if name not in self.present():
            return []
        torn = self.wg.torn.pop(name, 0)
        state = self.wg.read(name)
        self.wg.torn[name] = torn
        peers = {k: found for k, found in state.peers.items() if not keys or k in keys}
        return [InterfaceState(state.name, state.epoch, None, 0, peers)]

    @rule(name=st.sampled_from(NAMES))
    def delete_interface(self, name: str) -> None:
        if name in self.present():
            self.lost(self.dump(name))
            self.wg.delete(name)
            self.gone |= {name}

    @rule(name=st.sampled_from(NAMES))
    def make_interface(self, name: str) -> None:
        if name in self.gone:
            self.wg.add_interface(name)
            self.gone -= {name}

    @rule()
    def reboot(self) -> None:
        for name in NAMES:
            self.lost(self.dump(name))
        self.die()
        self.wg.reboot(*self.present())

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 9), how=st.sampled_from(["remove", "anew"]))
    def foreign_hand(self, name: str, which: int, how: str) -> None:
        owners = sorted(self.alive(name).items())
        if owners:
            _, k = owners[which % len(owners)]
            self.lost(self.dump(name, k))
            self.touchy.add(k)
            if how == "remove":
                self.wg.remove_behind(name, k)
            else:
                self.wg.recreate_behind(name, k)

    @rule(name=st.sampled_from(NAMES), number=st.integers(900, 905), host=ROWS)
    def foreign_peer(self, name: str, number: int, host: int) -> None:
        if name in self.present():
            self.wg.add_behind(name, peer(number, address(host, name)))

    # -- time

    @rule(seconds=st.sampled_from([1, 60, 901, 86400]))
    def time_passes(self, seconds: int) -> None:
        self.node.tick(seconds)

    @rule(seconds=st.sampled_from([-86400, -3600, -1, 1, 3600]))
    def the_clock_steps(self, seconds: int) -> None:
        self.node.now += seconds

    # -- the daemon and its troubles

    def die(self) -> None:
        self.node.start()

    @rule(task=st.sampled_from(["account", "reconcile", "reconcile"]))
    def work(self, task: str) -> None:
        self.node.tick()
        try:
            getattr(self.node.agent, task)()
        except StoreError:
            return
        except Crash:
            self.die()
            return
        if task == "reconcile":
            self.touchy.clear()

    @rule()
    def restart(self) -> None:
        self.die()

    @rule(fates=st.lists(FATES, min_size=1, max_size=4))
    def commits_will_fail(self, fates: list[str]) -> None:
        self.node.store.next_writes = fates

    @precondition(lambda self: not self.node.store.down)
    @rule()
    def database_goes_away(self) -> None:
        self.node.store.down = True

    @precondition(lambda self: self.node.store.down)
    @rule()
    def database_comes_back(self) -> None:
        self.node.store.down = False

    @rule(changes=st.integers(1, 4))
    def dies_while_applying(self, changes: int) -> None:
        self.wg.crash_after = changes

    @rule(name=st.sampled_from(NAMES), dumps=st.sampled_from([1, 6, 12]))
    def torn_dumps(self, name: str, dumps: int) -> None:
        self.wg.torn[name] = dumps

    # -- what holds

    @invariant()
    def no_byte_is_booked_twice(self) -> None:
        for number, booked in self.node.booked.items():
            true = self.node.true[number]
            assert booked.rx <= true.rx
            assert booked.tx <= true.tx

    @rule()
    def all_is_right_after_one_undisturbed_cycle(self) -> None:
        node = self.node
        node.store.next_writes, node.store.down, self.wg.crash_after = [], False, None
        self.wg.torn.clear()
        for name in self.gone:
            self.make_interface(name)
        node.tick(1800 - node.now % 900)  # no bucket ends in the cycles below
        node.cycle()
        if node.health.guard_tripped:
            assert not any(node.wanted().values()), "else a thousand may go unasked"
            node.store.approve(node.health.plan_id)
            node.cycle()
        self.touchy.clear()
        node.right()
        before = node.written
        node.cycle()
        node.account()
        assert node.written == before, "the next cycle writes nothing"
        stuck = [
            d for d in self.db.devices.values() if d["status"] == "issued" and d["qr_expires_at"] < local(node.now)
        ]
        assert not stuck
        assert all(one.message.isprintable() for one in self.db.logs)

    def teardown(self) -> None:
        self.all_is_right_after_one_undisturbed_cycle()


Life.TestCase.settings = settings(
    max_examples=300, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestLife = Life.TestCase
