"""The works that are measured on NexaVPN's tables: posting, an unchanged cycle, a change of access, and a repair."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from pathlib import Path

from tests.bench.books import Traffic
from tests.bench.gateway_soon import await_commit, elements
from tests.bench.gateway_stage import PROFILES, GatewayStage, named
from tests.bench.life import PATIENCE, Running
from tests.bench.machine import Machine
from tests.bench.stage import Stage
from tests.bench.timing import Took, medians, seconds, servers, told
from tests.fakes import FakeWireGuard
from tests.wait import until
from wgsyncd.config.load import parse
from wgsyncd.core.peers.guard import RemovalLimits
from wgsyncd.dataplane.nftables.filter import PacketFilter
from wgsyncd.dataplane.nftables.netfilter import Netfilter
from wgsyncd.dataplane.nftables.nft import Nft
from wgsyncd.dataplane.nftables.view import FilterSettings

_REST = 3.0  # seconds between two repairs: then the daemon has its credit of time for repairs again
# What a poll in which all devices moved changes, as bare statements. They send no values, which no accounting can do:
# the page of benchmarks shows them beside the opponent, which has the values of each device as literals.
_BARE = (
    "UPDATE wgsyncd.peers SET rx = rx + 1000, tx = tx + 2000, latest_handshake = latest_handshake + 1, sampled_at = sampled_at + 1",
    "UPDATE wgsyncd.totals SET rx = rx + 1000, tx = tx + 2000, open_rx = open_rx + 1000, open_tx = open_tx + 2000,"
    " seen = seen + 1",
    "UPDATE devices SET last_seen_at = last_seen_at + interval '1 millisecond'",
)
_AT_ONCE = 1000  # devices of one statement with values
_FROM = " FROM (VALUES {rows}) v (public_key, device, rx, tx, at) WHERE "
_LITERALS = (
    f"UPDATE wgsyncd.peers t SET rx = v.rx, tx = v.tx, latest_handshake = v.at, sampled_at = v.at{_FROM}"
    "t.node = 'bench' AND t.public_key = v.public_key AND t.interface = 'wg0'",
    "UPDATE wgsyncd.totals t SET rx = t.rx + v.rx, tx = t.tx + v.tx, open_rx = t.open_rx + v.rx,"
    f" open_tx = t.open_tx + v.tx, seen = t.seen + v.at{_FROM}t.node = 'bench' AND t.device = v.device",
    f"UPDATE devices t SET last_seen_at = t.last_seen_at + v.at * interval '1 millisecond'{_FROM}t.id = v.device",
)


class TimedNft(Nft):
    """Keeps how long each transaction took, and each listing."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[Took] = []
        self.shown: list[Took] = []

    def run(self, commands: str) -> int:
        found: list[int] = []
        self.ran.append(seconds(lambda: found.append(super(TimedNft, self).run(commands))))
        return found[0]

    def show(self) -> str | None:
        found: list[str | None] = []
        self.shown.append(seconds(lambda: found.append(super(TimedNft, self).show())))
        return found[0]


def books(stage: GatewayStage, repeat: int) -> dict[str, Took]:
    """Returns the seconds of a poll in which all devices moved, and of the bare UPDATEs of the same tables.

    Dumps are made in memory, so WireGuard is not needed.
    """
    machine = Machine(stage, FakeWireGuard(stage.interface))
    machine.cycle()
    traffic = Traffic(machine.wireguard.read(stage.interface))
    _count_server(stage, machine)

    def moved(share: float) -> None:
        machine.wireguard.dump = traffic.move(share)

    def bare() -> None:
        for sql in _BARE:
            stage.sql(sql)

    keys = [bytes(row[0]).hex() for row in stage.sql("SELECT public_key FROM wgsyncd.peers ORDER BY row_id")]
    ids = [row[0].hex for row in stage.sql("SELECT id FROM devices ORDER BY id")]
    turn = itertools.count(1)

    def literals() -> None:
        """The same with the values of each device, a thousand in one statement."""
        number = next(turn)
        for at in range(0, stage.peers, _AT_ONCE):
            some = zip(keys[at : at + _AT_ONCE], ids[at : at + _AT_ONCE], strict=True)
            rows = ",".join(
                [f"('\\x{key}'::bytea,'{one}'::uuid,{number}000,{number}000,{number})" for key, one in some]
            )
            for sql in _LITERALS:
                stage.sql(sql.format(rows=rows))

    for _ in range(2):  # the first run makes the rows, and later runs change them
        moved(1.0)
        machine.agent.account()
        bare()
        stage.sql("VACUUM ANALYZE")  # as autovacuum does with tables that have grown
    posted = machine.agent.status.accounted_rx
    times = medians("books", repeat, ours=(lambda: moved(1.0), machine.agent.account), bare=bare,
                    literals=literals, partial=(lambda: moved(0.01), machine.agent.account))  # fmt: skip
    few = max(1, round(stage.peers * 0.01))
    grown = machine.agent.status.accounted_rx - posted
    assert grown == 1000 * repeat * (stage.peers + few), "not every byte was posted"
    machine.close()
    return times


def cycle(stage: GatewayStage, other: Stage, repeat: int) -> dict[str, Took]:
    """Returns the seconds of a whole cycle with nothing changed, on both control planes in turn."""
    other.fill_table()
    other.empty_interface()
    planes = [_filter(stage)] if stage.enforces else []
    sides = {"ours": Machine(stage, planes=planes), "mariadb": Machine(other)}
    servers.append(other.server.pid)
    for one in sides.values():
        for _ in range(4):  # After two cycles that found nothing to do, nine of ten rest.
            one.cycle()
    _count_server(stage, sides["ours"])
    before = [one.writes for one in sides.values()]
    times = medians("cycle", repeat, **{name: one.cycle for name, one in sides.items()})
    assert [one.writes for one in sides.values()] == before, "a cycle with nothing changed has written"
    for one in sides.values():
        one.close()
    for plane in planes:
        plane.close()
    return times


def access(stage: GatewayStage, repeat: int) -> dict[str, Took]:
    """Returns the seconds of one device's change of access.

    commit: nft's transaction. read_back: its listing afterwards. cycle: all from the changed row to both.
    """
    nft = TimedNft()
    packet_filter = _filter(stage, nft)
    machine = Machine(stage, FakeWireGuard(stage.interface), [packet_filter])
    machine.cycle()
    _count_server(stage, machine)
    sides: dict[str, list[Took]] = {"commit": [], "read_back": [], "cycle": []}
    for turn in range(repeat):
        number = stage.peers // 2 + turn * 7
        stage.sql(
            "UPDATE devices SET user_id = %s WHERE id = %s",
            named("user", (number + 1) % PROFILES),
            stage.device(number),
        )
        nft.ran.clear()
        nft.shown.clear()
        took = seconds(machine.cycle)
        assert len(nft.ran) == 1, "it is one transaction"
        for name, one in (("commit", nft.ran[0]), ("read_back", nft.shown[-1]), ("cycle", took)):
            sides[name].append(one)
    machine.close()
    packet_filter.close()
    return told("access", sides)


def repair(stage: GatewayStage, repeat: int) -> dict[str, list[float]]:
    """Returns the milliseconds from the start of `nft flush ruleset` until the ruleset is committed again.

    processor: milliseconds that the daemon and its children took for it. The daemon is a real one at rest.
    """
    netfilter, took, used = Netfilter(), list[float](), list[float]()
    daemon = Running(stage)
    until(lambda: len(elements()) == stage.peers, PATIENCE, "the ruleset")
    for _ in range(repeat):
        time.sleep(_REST)
        generation = netfilter.generation()
        before = _used(daemon.process.pid)
        began = time.monotonic()
        foreign = subprocess.Popen(["nft", "flush", "ruleset"])
        mended = await_commit(netfilter, generation + 2)  # that of the flush and that of the daemon
        assert foreign.wait() == 0
        until(lambda: len(elements()) == stage.peers, PATIENCE, "the repair")
        took.append((mended - began) * 1000)
        used.append((_used(daemon.process.pid) - before) * 1000)
    netfilter.close()
    daemon.stop()
    return {"repair": took, "processor": used}


def _filter(stage: GatewayStage, nft: Nft | None = None) -> PacketFilter:
    """Returns the packet filter as the daemon has it, with its table in the kernel."""
    policies = parse(stage.config()).store.policy_settings()
    assert policies is not None
    settings = FilterSettings(frozenset({stage.interface}), policies, RemovalLimits(10, 0.2, 3))
    made = PacketFilter(settings, nft or Nft(), Netfilter())
    made.start()
    return made


def _count_server(stage: GatewayStage, machine: Machine) -> None:
    """Count the processor time of the server's processes for the store and for the administrator."""
    live = machine.store._connection._live  # type: ignore[attr-defined]
    servers.extend([live.pid, stage.admin.info.backend_pid])


def _used(pid: int) -> float:
    """Returns the processor time of a process and of its children that have ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
