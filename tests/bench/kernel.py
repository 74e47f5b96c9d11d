"""Dumps and changes of wgsyncd are compared with `wg` and pyroute2 on the same interface."""

from __future__ import annotations

import socket
import subprocess
from functools import partial

from pyroute2 import WireGuard

from tests.bench.floors import Floors
from tests.bench.machine import Machine
from tests.bench.stage import IFACE, Stage
from tests.bench.timing import Moment, Took, medians, seconds, told

MOST_PYROUTE2 = 60.0  # in seconds: if pyroute2's info() takes longer, it is called only once


def wg(*words: str) -> None:
    """Runs a command of wg(8). Its output is thrown away."""
    done = subprocess.run(["wg", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr


def measure(stage: Stage, repeat: int) -> dict[str, dict[str, Took]]:
    """Returns the seconds of each side, by the name of the work. Leaves table and interface in state A."""
    results: dict[str, dict[str, Took]] = {}
    stage.fill_table()
    machines: list[Machine] = []

    def begin() -> None:
        """Prepares a first start with an empty interface."""
        while machines:
            machines.pop().close()
        stage.forget()
        stage.empty_interface()
        machines.append(Machine(stage))

    setconf = stage.empty_interface, lambda: wg("setconf", IFACE, str(stage.files["A"]))
    floors = Floors(stage)
    floors.prepare()
    served: dict[str, list[Took]] = {"served": [], "served_floor": []}  # until the last peer is in the kernel

    def first() -> None:
        began = Moment()
        machines[0].cycle()
        served["served"].append(machines[0].wireguard.changed_at.since(began))

    def floor() -> None:
        began = Moment()
        floors.fill()
        served["served_floor"].append(floors.changed_at.since(began))

    results["fill"] = medians("fill", repeat, ours=(begin, first), theirs=setconf, floor=(begin, floor))
    results["fill"] |= told("fill, until the last peer is in the kernel", served)
    begin()
    machine = machines[0]
    machine.cycle()
    machine.right(stage.peers)
    results["restore"] = medians(
        "restore", repeat, ours=(stage.empty_interface, machine.cycle), theirs=setconf,
        floor=(stage.empty_interface, floors.restore),
    )  # fmt: skip
    stage.empty_interface()
    machine.cycle()
    machine.right(stage.peers)

    def syncconf(state: str) -> None:
        wg("syncconf", IFACE, str(stage.files[state]))

    results["dump"] = medians(
        "dump", repeat, ours=lambda: machine.wireguard.read(IFACE), theirs=lambda: wg("show", IFACE, "dump"),
        floor=floors.dump,
    )  # fmt: skip
    for _ in range(2):
        machine.cycle()  # After two cycles that found nothing to do, nine of ten rest.
    before = machine.writes
    results["noop"] = medians(
        "noop", repeat, ours=machine.cycle, theirs=lambda: syncconf("A"), theirs_loose=lambda: syncconf("loose A"),
        floor=floors.noop,
    )  # fmt: skip
    assert machine.writes == before, "a cycle with nothing changed has written"
    results["change"] = change(machine, stage, repeat)
    results["pyroute2"] = pyroute2(machine, repeat)
    machine.close()
    floors.close()
    return results


def change(machine: Machine, stage: Stage, repeat: int) -> dict[str, Took]:
    """Returns the seconds of a change of 1 % of the peers, there and back.

    A third each is added, removed, and given a new preshared key.
    """
    sides: dict[str, list[Took]] = {"ours": [], "theirs": [], "theirs_loose": []}
    for turn in range(repeat + 1):
        there, back = ("B", "A") if turn % 2 == 0 else ("A", "B")
        took = {}
        for side, form in (("theirs", ""), ("theirs_loose", "loose ")):
            took[side] = seconds(partial(wg, "syncconf", IFACE, str(stage.files[form + there])))
            wg("syncconf", IFACE, str(stage.files[back]))
        stage.set_table(there)
        changes = machine.wireguard.changes
        took["ours"] = seconds(machine.look)
        assert machine.wireguard.changes > changes
        machine.right(stage.peers)
        if turn:  # the first turn warms up
            for side, second in took.items():
                sides[side].append(second)
    stage.set_table("A")
    machine.look()
    return told("change", sides)


def _info(theirs: WireGuard) -> None:
    """Makes pyroute2 decode everything that wgsyncd decodes. pyroute2 decodes an attribute only on request."""
    peers = 0
    for message in theirs.info(IFACE):
        for peer in message.get_attr("WGDEVICE_A_PEERS") or ():
            for name in ("PUBLIC_KEY", "PRESHARED_KEY", "LAST_HANDSHAKE_TIME", "RX_BYTES", "TX_BYTES"):
                peer.get_attr(f"WGPEER_A_{name}")
            peers += len([ip.get_attr("WGALLOWEDIP_A_IPADDR") for ip in peer.get_attr("WGPEER_A_ALLOWEDIPS") or ()])
    assert peers


def pyroute2(machine: Machine, repeat: int) -> dict[str, Took]:
    """Returns the seconds of a dump with wgsyncd's decoder and with pyroute2's own decoder, equally often."""
    with WireGuard() as theirs:
        once = seconds(lambda: _info(theirs))
        if once > MOST_PYROUTE2:
            return told("pyroute2", {"theirs": [once], "ours": [seconds(lambda: machine.wireguard.read(IFACE))]})
        return medians("pyroute2", repeat, ours=lambda: machine.wireguard.read(IFACE), theirs=lambda: _info(theirs))


def is_there() -> bool:
    """Returns whether this kernel has WireGuard."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16):
            made = subprocess.run(["unshare", "-n", "ip", "link", "add", IFACE, "type", "wireguard"],
                                  capture_output=True, check=False)  # fmt: skip
            return made.returncode == 0
    except OSError:
        return False
