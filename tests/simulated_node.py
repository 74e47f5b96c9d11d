"""A node whose kernel, store and spool can be interrupted at every call, and report what was secured."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.admins import UsersAdmin
from tests.fakes import Crash
from tests.hooked_ports import HookedFakeStore, HookedStore, HookedUsersStore, Kernel, Spool, try_digest
from tests.node import Node
from tests.oracle import Bytes, Oracle, PeerLifetime, Value
from tests.samples import NETWORKS
from tests.variants import Variant
from wgsyncd.core.model import Counters, InterfaceState, PublicKey
from wgsyncd.core.peers import recording
from wgsyncd.core.records import PeerId, PeerRecord, RecordState
from wgsyncd.core.usage import posting
from wgsyncd.engine import state_cache
from wgsyncd.errors import SpoolError, StoreError, StoreErrorCode, WireGuardError

STARTS = [  # zones and times shortly before a midnight, the end of a month or year, or a change of the clock
    ("Asia/Tokyo", "2026-09-21 23:13:20"), ("Asia/Tokyo", "2026-12-31 23:58:00"), ("Asia/Tokyo", "2028-02-28 23:59:30"),
    ("Europe/Berlin", "2026-03-28 23:58:00"), ("Europe/Berlin", "2026-10-25 01:50:00"),
    ("America/St_Johns", "2026-10-31 23:59:00"), ("Australia/Lord_Howe", "2026-04-04 23:58:00"),
    ("Australia/Lord_Howe", "2026-10-04 01:58:00"), ("Africa/Casablanca", "2026-02-15 01:50:00"),
    ("America/Havana", "2026-10-31 23:59:00"),
]  # fmt: skip


class SimulatedNode(Node):
    """A node that tells :mod:`tests.oracle` what the kernel holds, what was seen, and what was secured when.

    ``trap``: how many calls remain until a fault, and which one: "crash" or "error". ``rain``: bytes that every peer
    moves before and after each call to the kernel. A peer without addresses moves nothing, as in the kernel.
    """

    spool: Spool
    wg: Kernel
    store: HookedStore

    def __init__(self, extra: str, zone: str, start: str, variant: Variant | None = None) -> None:
        self.oracle = Oracle()
        self.owner: dict[PublicKey, int] = {}  # the row of each key that a row ever had
        self.process = 0
        self.trap: tuple[int, str] | None = None
        self.rain = 0
        self.hurried = self.left_off = False  # the next accounting is to be preempted, the last one was
        self.looked: dict[str, float] = {}  # when this process last sampled an interface with certainty
        self.cycle_saw: set[str] = set()
        self.spooled: set[object] = set()  # the samples of peers that the file has had
        self.here: dict[PeerId, PeerLifetime] = {}
        super().__init__(extra, zone=zone, variant=variant)
        self.now = datetime.fromisoformat(start).replace(tzinfo=self.settings.node.zone).timestamp()
        self.spool = Spool()
        self.wg.hook = self.store.hook = self.spool.hook = self.meet
        if self.plane is not None:
            self.plane.hook = self.meet
        self.wg.looked, self.wg.removed = self.saw, self.removed
        self.store.written, self.spool.saved, self.spool.lost = self.wrote, self.saved, self.oracle.lose_the_spool
        self.known: dict[PeerId, PeerRecord] = {}  # the records as they were written last
        self.start()

    # -- the process

    def _kernel(self) -> Kernel:
        return Kernel(*NETWORKS)

    def _store(self) -> HookedStore:
        if isinstance(self.admin, UsersAdmin):
            return HookedUsersStore(self.settings, self.admin.db)
        return HookedFakeStore(self.settings, self.admin.db)

    def start(self) -> None:
        super().start()
        self.process += 1
        self.looked.clear()
        for life in self.here.values():
            for one in life.came:
                if one.until is None:
                    one.after = min(one.after, self.written_of(life))

    def written_of(self, life: PeerLifetime) -> float:
        """The time after which a new process believes that a peer's unsecured bytes came (UNIX seconds).

        It is the birth of the life or its last secured sample. A new process knows only the peer's record, so the time
        of the record counts if it is earlier.
        """
        record: PeerRecord | None = self.db.records.get(("r640", life.slot))
        ends = [one.until for one in life.came if one.until is not None]
        return min([max([life.born, *ends]), *([record.sampled_at] if record is not None else [])])

    def work(self, task: str, *values: object) -> None:
        """Run a task of the agent, with any failure allowed. A dead process is started again.

        Transactions are small here, and something urgent is reported after each one. So revoked peers are removed
        between two transactions, and a preemptible task can be preempted.
        """
        self.tick()
        self.cycle_saw, self.left_off = set(), False
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(state_cache, "BATCH", 2)
                patch.setattr(recording, "MAX_PER_BATCH", 1)
                patch.setattr(posting, "CHUNK", 3)
                if task == "account":
                    self.agent.account(self.is_urgent, preemptible=self.hurried)
                elif task == "reconcile":
                    self.agent.reconcile(self.is_urgent, preemptible=self.hurried, digest=try_digest(self.store))
                elif task == "compare":
                    self.agent.reconcile(self.is_urgent, with_accounting=False, digest=try_digest(self.store))
                else:
                    getattr(self.agent, task)(*values)
                if self.agent.preempted:
                    self.hurried, self.left_off = False, True
        except StoreError:
            pass
        except Crash:
            self.start()
            return
        if not self.store.locked and not self.left_off and task not in ("reconcile_devices", "compare"):
            self.looked |= dict.fromkeys(self.cycle_saw, self.now)

    def is_urgent(self) -> bool:
        """Always true: something urgent waits after every transaction."""
        return True

    def meet(self, port: str, where: str) -> None:
        """The hook of all ports, called before and after every call. It lets bytes come, and springs the trap."""
        if port == "kernel" and self.rain:
            for life in self.open():
                self.move(life, self.rain, 1)
        if self.trap is None:
            return
        calls, kind = self.trap
        self.trap = (calls - 1, kind)
        if calls > 1 or (kind == "error" and (port, where) in (("spool", "after save"), ("spool", "before load"))):
            return
        self.trap = None
        if kind == "crash":
            raise Crash
        if port in ("kernel", "plane"):
            raise WireGuardError("wg0", "ENOBUFS", "no answer")
        raise (
            StoreError("2013: Lost connection", StoreErrorCode.UNREACHABLE)
            if port == "store"
            else SpoolError("I/O error")
        )

    # -- what was seen and secured

    def saw(self, state: InterfaceState) -> None:
        """Tell the oracle which lives a dump shows. Several lives of one peer can look the same."""
        self.follow()
        self.cycle_saw.add(state.name)
        for key, found in state.peers.items():
            slot = (state.name, key)
            if slot in self.here:
                lives = self.oracle.seen.setdefault((slot, (state.epoch, found.counters, found.latest_handshake)), [])
                if self.here[slot] not in lives:
                    lives.append(self.here[slot])

    def wrote(self) -> None:
        """Tell the oracle which records the database has got since the last call."""
        for (_, slot), record in self.db.records.items():
            before, self.known[slot] = self.known.get(slot), record
            value, zero = _value(record), record.counters == (0, 0) and record.handshake <= 0
            if before == record:
                continue
            if record.state is not RecordState.PRESENT and zero:
                self.oracle.begin(slot, value)
            elif before is None or _value(before) != value:  # otherwise only its name or configuration differs
                self.oracle.secure(slot, value, self.now, posted=True)

    def saved(self) -> None:
        """Tell the oracle which samples the spool has got since the last call."""
        assert self.spool.kept is not None
        for sample in self.spool.kept.samples:
            state = sample.state
            for key, found in state.peers.items():
                value = (state.epoch, found.counters, found.latest_handshake)
                look = (self.spool.kept.stream, sample.number, state.name, key, value)
                if look not in self.spooled:  # otherwise the same sample is only written again
                    self.spooled.add(look)
                    self.oracle.secure((state.name, key), value, self.now, posted=False)

    def removed(self, interface: str, key: PublicKey) -> None:
        """The daemon has removed a peer. Then all its bytes must be secured, if the spool can be written."""
        life = self.here.get((interface, key))
        self.follow(ended_by=self.process)
        if life is None or not life.over or not self.spool.ok:
            return
        last = self.oracle.durable.last.get(life.slot)
        assert last is None or last.value[1] == life.counters, "a peer goes after its last sample is safe"
        # The last sample of this peer can equal the last sample of the peer before it. Then nothing new was written.
        if last is not None and last.life is not life:
            self.oracle.durable.look(life, last.value)

    # -- the kernel

    def follow(self, ended_by: int | None = None) -> None:
        """Update which peers exist in the kernel. ``ended_by``: the process that has just removed a peer."""
        actual = {(name, key): peer for name, one in self.wg._interfaces.items() for key, peer in one.peers.items()}
        for slot, life in list(self.here.items()):
            if actual.get(slot) is not life.peer:
                life.over, life.ended_by = True, ended_by
                del self.here[slot]
        for slot, peer in actual.items():
            row = self.owner.get(slot[1])
            if row is not None and slot not in self.here:
                life = PeerLifetime(row, slot, peer, len(self.oracle.lives), self.now)
                self.here[slot] = life
                self.oracle.lives.append(life)

    def open(self) -> list[PeerLifetime]:
        """The lives of the existing peers that have addresses, and so can move bytes."""
        self.follow()
        return [life for life in self.here.values() if life.peer.allowed_ips]

    def move(self, life: PeerLifetime, rx: int, tx: int) -> None:
        life.peer.rx += rx
        life.peer.tx += tx
        name = life.slot[0]
        after = self.looked[name] if name in self.looked else self.written_of(life)
        life.came.append(Bytes(rx, tx, life.counters, self.now, after))

    def epochs(self) -> dict[str, str]:
        return {name: f"fake-boot-{self.wg._boot}:{one.index}" for name, one in self.wg._interfaces.items()}

    # -- what is due

    def due(self, row: int) -> Counters:
        return self.oracle.due(row, self.process)

    def at_last(self, row: int) -> Counters:
        return self.oracle.at_last(row, self.process, self.epochs())


def _value(record: PeerRecord) -> Value:
    return record.epoch, record.counters, max(record.handshake, 0)
