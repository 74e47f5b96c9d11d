"""What filling an interface costs a program in Python at least, part by part, beside `wg setconf`.

    python -m tests.bench.least [PEERS] [REPEAT]

It is the shortest program that keeps the promises of a first fill: rows become peers, a baseline is stored before its
peer is added, the peers are read back, and each addition has an audit row. It checks no value, resolves no conflict,
knows no guard and compares nothing. Processor time is of everything together: this process, the server and commands.
"""

from __future__ import annotations

import gc
import statistics
import sys
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from socket import AF_INET, inet_aton
from struct import Struct
from typing import Any

import pymysql

from tests.bench.floors import select_rows
from tests.bench.kernel import wg
from tests.bench.machine import TIMEOUT, Machine
from tests.bench.stage import IFACE, ROWS_AT_ONCE, Stage, stages
from tests.bench.timing import Moment, Took, condition, disturbance, servers
from wgsyncd import log
from wgsyncd.daemon import memory
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard import codec, dump
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.demo.mariadb import DATABASE
from wgsyncd.stores.mikyun.connection import MOST_JOINED

SERVED = ("read rows", "decode rows", "texts of records", "INSERT records", "netlink messages", "the kernel adds peers")
AGAIN = ("read rows", "decode rows", "netlink messages", "the kernel adds peers", "read back", "decode peers")
"""The parts until the last peer is in the kernel, and those of a fill after a loss: that one has no record to write."""
_ADD = Struct("=HHHH32sHHIHH32sHHHHHHHxxHH4sHHBxxx")  # a peer with a preshared key and one IPv4 address
_RECORDS = """INSERT INTO wgsyncd_peers (node, interface, public_key, row_id, device, contract, address, config_digest, state,
                                         epoch, rx, tx, latest_handshake, sampled_at) VALUES """
_AUDIT = "INSERT INTO admin_logs (action_type, target_type, target_id, message, created_at) VALUES "

Row = tuple[str, str, str, str, bytes, bytes]  # row id, device, contract, address, and the two keys


class Least:
    """Fills an interface from the rows of a stage, and notes what each part takes."""

    def __init__(self, stage: Stage) -> None:
        self._live = pymysql.connect(**stage.server.connect_args, database=DATABASE, autocommit=True)
        self._cursor = self._live.cursor()
        self._cursor.execute(f"SET SESSION group_concat_max_len = {MOST_JOINED}")
        self._rows, self._wireguard = select_rows(stage.peers), KernelWireGuard("bench", TIMEOUT)
        self.took: dict[str, list[Took]] = {}

    def fill(self) -> None:
        """Fills the empty interface."""
        pages = self._part("read rows", lambda: self._run([self._rows], commit=False))
        rows: list[Row] = self._part("decode rows", lambda: _decoded(pages))
        texts = self._part("texts of records", lambda: _statements(_RECORDS, map(_record, rows)))
        self._part("INSERT records", lambda: self._run(texts))
        messages = self._part("netlink messages", lambda: list(_messages(rows)))
        assert self._part("the kernel adds peers", lambda: self._wireguard._set(IFACE, messages)) == 0
        payloads = self._part("read back", self._received)
        peers = self._part("decode peers", lambda: _peers(payloads))
        assert len(peers) == len(rows)
        self._part(
            "UPDATE records", lambda: self._run(["UPDATE wgsyncd_peers SET state = 'present' WHERE node = 'bench'"])
        )
        notes = self._part("texts of audit rows", lambda: _statements(_AUDIT, map(_note, rows)))
        self._part("INSERT audit rows", lambda: self._run(notes))

    def _part(self, name: str, work: Callable[[], Any]) -> Any:
        began = Moment()
        made = work()
        self.took.setdefault(name, []).append(Moment().since(began))
        return made

    def _run(self, statements: Sequence[str], *, commit: bool = True) -> tuple[tuple[Any, ...], ...]:
        """Runs statements in one transaction, and returns the rows of the last one."""
        for statement in ("START TRANSACTION", *statements, "COMMIT") if commit else statements:
            self._cursor.execute(statement)
        return tuple(self._cursor.fetchall())

    def _received(self) -> list[bytes]:
        payloads: list[bytes] = []
        self._wireguard._ask(IFACE, codec.get_device(IFACE), netlink.NLM_F_DUMP, payloads)
        return payloads

    def close(self) -> None:
        """Closes connection and socket."""
        self._live.close()
        self._wireguard.close()


def _decoded(pages: tuple[tuple[Any, ...], ...]) -> list[Row]:
    """The active rows of all pages."""
    split = (text.split("|") for (page,) in pages for text in page.split("\n"))
    return [
        (number, device, contract, address, a2b_base64(key), a2b_base64(secret))
        for number, device, contract, _, address, key, secret, status, _, _ in split
        if status == "active"
    ]


def _statements(into: str, values: Iterable[str]) -> list[str]:
    some = list(values)
    return [into + ",".join(some[at : at + ROWS_AT_ONCE]) for at in range(0, len(some), ROWS_AT_ONCE)]


def _record(row: Row) -> str:
    number, device, contract, address, key, secret = row
    config = blake2b(address.encode() + secret, digest_size=8).hexdigest()
    return (f"('bench','{IFACE}',x'{key.hex()}',{number},'{device}','{contract}','{address}/32',x'{config}','arrives',"
            "'epoch',0,0,0,1.5e9)")  # fmt: skip


def _note(row: Row) -> str:
    return f"('peer_added','device','{row[1]}','Peer added on {IFACE} with {row[3]}/32','2026-01-01 00:00:00')"


def _messages(rows: Sequence[Row]) -> Iterator[bytes]:
    head = codec.get_device(IFACE)
    head = b"\1" + head[1:]  # this is WG_CMD_SET_DEVICE
    at_once = codec.MESSAGE_BYTES // _ADD.size - 1
    for at in range(0, len(rows), at_once):
        peers = [
            _ADD.pack(_ADD.size, netlink.NLA_F_NESTED, 36, codec.PEER_PUBLIC_KEY, key, 8, codec.PEER_FLAGS, 0,
                      36, codec.PEER_PRESHARED_KEY, secret, 32, codec.PEER_ALLOWEDIPS | netlink.NLA_F_NESTED,
                      28, netlink.NLA_F_NESTED, 6, codec.IP_FAMILY, AF_INET, 8, codec.IP_ADDRESS, inet_aton(address),
                      5, codec.IP_MASK, 32)
            for _, _, _, address, key, secret in rows[at : at + at_once]
        ]  # fmt: skip
        yield head + netlink.attr(codec.DEVICE_PEERS | netlink.NLA_F_NESTED, b"".join(peers))


def _peers(payloads: Sequence[bytes]) -> dict[Any, Any]:
    decoder = dump.Decoder(endpoints=False)
    for payload in payloads:
        decoder.append(payload)
    return decoder.device().peers


def main(peers: int, repeat: int) -> None:
    """Prints a Markdown table of the parts. This program, wg(8) and wgsyncd take turns."""
    log.configure("error")
    memory.reduce_gc()
    times: dict[str, list[Took]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        stage.empty_interface()
        gc.collect()
        began = Moment()
        work()
        times.setdefault(name, []).append(Moment().since(began))

    with stages() as stage_for:
        stage: Stage = stage_for(peers)
        servers[:] = [stage.server.pid]
        stage.fill_table()
        least = Least(stage)
        for _ in range(repeat):
            stage.forget()
            timed("least", least.fill)
            timed("setconf", lambda: wg("setconf", IFACE, str(stage.files["A"])))
            stage.forget()
            machine = Machine(stage)
            timed("whole", machine.cycle)
            timed("again", machine.cycle)
            machine.close()
        least.close()
        stage.close()
    theirs = _middle(times["setconf"])
    parts = {name: _middle(some) for name, some in least.took.items()}
    lines = [("`wg setconf`", theirs), *parts.items()]
    lines += [("all parts", sum(parts.values())), ("wgsyncd", _middle(times["whole"]))]
    lines += [("the parts until the last peer is in the kernel", sum(parts[one] for one in SERVED))]
    lines += [
        ("the parts of a fill after a loss", sum(parts[one] for one in AGAIN)),
        ("wgsyncd", _middle(times["again"])),
    ]
    print("| part | ms | of `wg setconf` |\n|---|---|---|")
    for name, seconds in lines:
        print(f"| {name} | {seconds * 1000:.0f} | {seconds / theirs:.2f} |")
    print(condition(disturbance()))


def _middle(some: Sequence[Took]) -> float:
    return statistics.median(some)


if __name__ == "__main__":
    words = sys.argv[1:] + ["10000", "5"][len(sys.argv) - 1 :]
    main(int(words[0]), int(words[1]))
