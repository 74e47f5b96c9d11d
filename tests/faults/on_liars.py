"""What answers the daemon lies, drips, or says nothing: the database, and a userspace interface."""

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.runner import Deed, Play
from tests.faults.script import Step

_END = b"\n\n"
_TICK = 0.02


def drip(play: Play, step: Step) -> Deed[None]:
    """Lets the answers of the database come byte by byte."""
    with (yield from play.holding("proxy")):
        play.stage.proxy.dripping = step.parameters["every"] * play.stage.pace
        play.faults[step.kind] += 1
        try:
            yield from play.pause(step.parameters["lasts"])
        finally:
            play.stage.proxy.dripping = 0.0


def lies(play: Play, step: Step) -> Deed[None]:
    """Puts nonsense in the place of one answer in three. The server did what it was told all the same."""
    with (yield from play.holding("proxy")):
        play.stage.proxy.lying = random.Random(step.parameters["seed"])
        play.faults[step.kind] += 1
        try:
            yield from play.pause(step.parameters["lasts"])
        finally:
            play.stage.proxy.lying = None


def liar(play: Play, step: Step) -> Deed[None]:
    """Puts a liar between the daemon and a userspace interface. The kernel's WireGuard has no such place."""
    stage, name = play.stage, step.parameters["interface"]
    if stage.kind == "kernel":
        return
    with (yield from play.holding_devices(stage.devices, "interfaces")):
        yield from play.until(lambda: all(stage.actual(device) is not None for device in stage.devices))
        with lying(stage.socket(name), random.Random(step.parameters["seed"])):
            play.faults[step.kind] += 1
            yield from play.pause(step.parameters["lasts"])


@contextlib.contextmanager
def lying(path: Path, chance: random.Random) -> Iterator[None]:
    """Serves the socket of a userspace interface by a liar meanwhile."""
    hidden, new = path.with_suffix(".hidden"), path.with_suffix(".new")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(new))
        listener.listen(20)
        listener.settimeout(_TICK)
        done = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, hidden, chance, done), daemon=True)
        thread.start()
        path.rename(hidden)
        new.rename(path)
        try:
            yield
        finally:
            hidden.rename(path)
            done.set()
            thread.join()


def _serve(listener: socket.socket, target: Path, chance: random.Random, done: threading.Event) -> None:
    while not done.is_set():
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            seed = chance.random()
            threading.Thread(target=_answer, args=(client, target, random.Random(seed), done), daemon=True).start()


def _answer(client: socket.socket, target: Path, chance: random.Random, done: threading.Event) -> None:
    """Answers the requests of one connection. About half of the answers are lies."""
    with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
        client.settimeout(5)
        server.connect(str(target))
        while request := _read(client):
            lie = chance.choice(("", "", "", "cut", "drip", "silent", "nonsense", "refused"))
            if lie == "refused":  # the interface does nothing
                client.sendall(b"errno=22\n\n")
                continue
            server.sendall(request)
            answer = _read(server)
            if lie == "cut":
                client.sendall(answer[: chance.randrange(len(answer))])
                return
            if lie == "silent":
                done.wait(5)
                return
            if lie == "drip":
                for at in range(len(answer)):
                    client.sendall(answer[at : at + 1])
                    time.sleep(0 if done.is_set() else _TICK)
                continue
            client.sendall(nonsense(answer, chance) if lie else answer)


def _read(source: socket.socket) -> bytes:
    """Returns a whole request or answer, or b"" at the end."""
    data = b""
    while not data.endswith(_END):
        more = source.recv(1 << 16)
        if not more:
            return b""
        data += more
    return data


def nonsense(answer: bytes, chance: random.Random) -> bytes:
    """Returns an answer with a value that no interface has. A wrong value of the right form would be believed."""
    bad = chance.choice((b"-2", b"9" * 30, b"2_0", b"", b"x", b"\xff\xfe"))
    places = list(re.finditer(rb"(?m)^(?:rx_bytes|tx_bytes|listen_port|allowed_ip|errno)=(.*)$", answer))
    if not places:
        return b"\0" + answer
    start, end = chance.choice(places).span(1)
    return answer[:start] + bad + answer[end:]


ACTS = {"drip": drip, "lies": lies, "liar": liar}
