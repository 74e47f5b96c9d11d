"""Sends and receives TCP streams with calls that block, so that they also work where time is simulated.

    flows.py serve ADDRESS PORT
    flows.py run ADDRESS PORT SECONDS down|up FLOWS

``run`` prints the bytes that arrived in each second as JSON, all flows together. It is a program of its own, because
each side runs in a network namespace.
"""

import json
import socket
import sys
import threading
import time

_CHUNK = 1 << 16
_REQUEST = 32  # bytes of what a client asks for


def _send(to: socket.socket, seconds: float) -> None:
    end, data = time.monotonic() + seconds, bytes(_CHUNK)
    try:
        while time.monotonic() < end:
            to.send(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:  # The receiver has enough.
        pass


def _receive(source: socket.socket, seconds: int) -> list[int]:
    began, counts = time.monotonic(), [0] * seconds
    while (data := source.recv(_CHUNK)) and (second := int(time.monotonic() - began)) < seconds:
        counts[second] += len(data)
    return counts


def _answer(client: socket.socket) -> None:
    with client:
        way, seconds = client.recv(_REQUEST, socket.MSG_WAITALL).decode().split()
        if way == "down":
            _send(client, float(seconds))
            return
        client.send(json.dumps(_receive(client, int(seconds))).encode())
        while client.recv(_CHUNK):  # Unread bytes would reset the connection before the client reads the counts.
            pass


def serve(address: str, port: int) -> None:
    """Answer all clients, each in a thread."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family, backlog=64) as listening:
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_answer, args=(client,), daemon=True).start()


def _flow(address: str, port: int, seconds: int, way: str, counts: list[list[int]]) -> None:
    with socket.create_connection((address, port)) as server:
        server.send(f"{way} {seconds}".ljust(_REQUEST).encode())
        if way == "down":
            counts.append(_receive(server, seconds))
            return
        _send(server, seconds)
        counts.append(json.loads(server.recv(_CHUNK)))


def run(address: str, port: int, seconds: int, way: str, flows: int) -> None:
    """Let some flows run at once, and print what arrived in each second."""
    counts: list[list[int]] = []
    threads = [threading.Thread(target=_flow, args=(address, port, seconds, way, counts)) for _ in range(flows)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    print(json.dumps([sum(some) for some in zip(*counts, strict=True)]))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        run(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], int(sys.argv[6]))
