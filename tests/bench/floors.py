"""What is below any program that does the same through PyMySQL and netlink: each byte that is sent is made before the
clock starts, nothing that comes is decoded, nothing is decided."""

from __future__ import annotations

import pymysql

from tests.bench.stage import IFACE, ROWS_AT_ONCE, Stage, address, key
from wgsyncd.core.model import Change, Kind, Peer, PublicKey, decode_key, parse_host
from wgsyncd.demo.mariadb import DATABASE
from wgsyncd.store.connection import MOST_JOINED
from wgsyncd.wireguard import codec
from wgsyncd.wireguard.kernel import KernelWireGuard

PAGE = 2500  # rows in one value
_PAGE = """SELECT GROUP_CONCAT(CONCAT_WS('|', d.id, d.device_id, d.contract_id, d.wg_iface, d.wg_ip, d.public_key,
                                  d.preshared_key, d.status, c.contract_status, d.issued_at) SEPARATOR '\n')
           FROM customer_devices d FORCE INDEX (PRIMARY) LEFT JOIN contracts c ON c.contract_id = d.contract_id
           WHERE d.id BETWEEN {} AND {}"""


class Floors:
    """Bare statements and bare messages for a stage in state A."""

    def __init__(self, stage: Stage) -> None:
        self._live = pymysql.connect(**stage.server.connect_args, database=DATABASE, autocommit=True)
        with self._live.cursor() as cursor:
            cursor.execute(f"SET SESSION group_concat_max_len = {MOST_JOINED}")
        self._stage = stage
        self._rows = " UNION ALL ".join(_PAGE.format(at, at + PAGE - 1) for at in range(1, stage.peers + 1, PAGE))
        self._wireguard = KernelWireGuard("bench", 120)
        self._adds: list[bytes] = []
        self._books: list[str] = []

    def select(self) -> None:
        """All rows, a page of texts in each value."""
        with self._live.cursor() as cursor:
            cursor.execute(self._rows)
            assert sum(page.count("\n") + 1 for (page,) in cursor.fetchall()) >= self._stage.peers

    def prepare(self) -> None:
        """What :meth:`fill` will send."""
        changes, peers, notes = [], [], []
        for n in range(self._stage.peers):
            public, secret = PublicKey(decode_key(key("public", n))), decode_key(key("psk A", n))
            peer = Peer(public, secret, (parse_host(address(n)),))
            changes.append(Change(Kind.ADD, IFACE, public, None, peer))
            peers.append(f"('bench', '{IFACE}', x'{public.hex()}', {n + 1}, 'c{n // 3:06}-DEV-{n % 3:03}', 'c{n // 3:06}',"
                         f" '{address(n)}/32', x'{n:016x}', 'arrives', 'epoch', 0, 0, 0, 1.5e9)")  # fmt: skip
            notes.append(f"('peer_added', 'device', 'c{n // 3:06}-DEV-{n % 3:03}', 'a sentence for the admin', NOW())")
        self._adds = [payload for batch in codec.set_peers(IFACE, changes) for payload in batch.payloads]
        logs = "admin_logs (action_type, target_type, target_id, message, created_at)"
        self._books = [
            f"INSERT INTO {into} VALUES {', '.join(rows[at : at + ROWS_AT_ONCE])}"
            for into, rows in (("wgsyncd_peers", peers), (logs, notes))
            for at in range(0, len(rows), ROWS_AT_ONCE)
        ]

    def restore(self) -> None:
        """Read the rows, add the peers."""
        self.select()
        assert self._wireguard._set(IFACE, self._adds) == 0

    def fill(self) -> None:
        """Read the rows, add the peers, write a baseline and an audit row for each."""
        self.restore()
        with self._live.cursor() as cursor:
            cursor.execute("START TRANSACTION")
            for statement in self._books:
                cursor.execute(statement)
            cursor.execute("COMMIT")

    def close(self) -> None:
        """Give back connection and socket."""
        self._live.close()
        self._wireguard.close()
