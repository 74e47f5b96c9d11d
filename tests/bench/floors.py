"""The floors are times that no program with PyMySQL and netlink can be faster than.

Each byte that is sent is made before the clock starts. No answer is decoded, and nothing is decided.
"""

from __future__ import annotations

import pymysql

from tests.bench.stage import IFACE, ROWS_AT_ONCE, Stage, address, key
from tests.bench.timing import Moment
from wgsyncd.core.model import Change, ChangeKind, PeerConfig, PublicKey, decode_key
from wgsyncd.core.network import parse_host
from wgsyncd.dataplane import netlink
from wgsyncd.dataplane.wireguard import codec
from wgsyncd.dataplane.wireguard.kernel import KernelWireGuard
from wgsyncd.demo.mariadb import DATABASE
from wgsyncd.stores.mikyun.connection import MOST_JOINED

PAGE = 2500  # rows in one value
_PAGE = """SELECT GROUP_CONCAT(CONCAT_WS('|', d.id, d.device_id, d.contract_id, d.wg_iface, d.wg_ip, d.public_key,
                                  d.preshared_key, d.status, c.contract_status, d.issued_at) SEPARATOR '\n')
           FROM customer_devices d FORCE INDEX (PRIMARY) LEFT JOIN contracts c ON c.contract_id = d.contract_id
           WHERE d.id BETWEEN {} AND {}"""


def select_rows(peers: int) -> str:
    """Returns the SELECT of all rows. Each value has the texts of one page of rows."""
    return " UNION ALL ".join(_PAGE.format(at, at + PAGE - 1) for at in range(1, peers + 1, PAGE))


def _insert(into: str, rows: list[str]) -> str:
    return f"INSERT INTO {into} VALUES {', '.join(rows)}"


def _family() -> int:
    """Returns the number of WireGuard's netlink family."""
    with netlink.open_socket(16, 4 << 20, 5) as opened:  # NETLINK_GENERIC
        opened.send(netlink.message(netlink.GENL_ID_CTRL, netlink.NLM_F_REQUEST, 1, netlink.get_family("wireguard")))
        (answer, *_) = netlink.messages(opened.recv(65536))
        return netlink.decode_family(answer.payload)


class Floors:
    """Sends bare statements and bare messages for a stage in state A."""

    def __init__(self, stage: Stage) -> None:
        self._live = pymysql.connect(**stage.server.connect_args, database=DATABASE, autocommit=True)
        with self._live.cursor() as cursor:
            cursor.execute(f"SET SESSION group_concat_max_len = {MOST_JOINED}")
        self._stage = stage
        self._rows = select_rows(stage.peers)
        self._wireguard = KernelWireGuard("bench", 120)
        self._adds: list[bytes] = []
        self._before: list[str] = []
        self._after: list[str] = []
        self._family = _family()
        self.changed_at = Moment()  # when the last peer was in the kernel

    def select(self) -> None:
        """Reads all rows. Each value has the texts of one page of rows."""
        with self._live.cursor() as cursor:
            cursor.execute(self._rows)
            assert sum(page.count("\n") + 1 for (page,) in cursor.fetchall()) >= self._stage.peers

    def prepare(self) -> None:
        """Makes the bytes that :meth:`fill` will send."""
        changes, peers, notes = [], [], []
        for n in range(self._stage.peers):
            public, secret = PublicKey(decode_key(key("public", n))), decode_key(key("psk A", n))
            peer = PeerConfig(public, secret, (parse_host(address(n)),))
            changes.append(Change(ChangeKind.ADD, IFACE, public, None, peer))
            peers.append(f"('bench', '{IFACE}', x'{public.hex()}', {n + 1}, 'c{n // 3:06}-DEV-{n % 3:03}', 'c{n // 3:06}',"
                         f" '{address(n)}/32', x'{n:016x}', 'arrives', 'epoch', 0, 0, 0, 1.5e9)")  # fmt: skip
            notes.append(f"('peer_added', 'device', 'c{n // 3:06}-DEV-{n % 3:03}', 'a sentence for the admin', NOW())")
        self._adds = [payload for batch in codec.set_peers(IFACE, changes) for payload in batch.payloads]
        records = ("wgsyncd_peers (node, interface, public_key, row_id, device, contract, address, config_digest, state, epoch, rx,"
                   " tx, latest_handshake, sampled_at)")  # fmt: skip
        self._before = [_insert(records, peers[at : at + ROWS_AT_ONCE]) for at in range(0, len(peers), ROWS_AT_ONCE)]
        logs = "admin_logs (action_type, target_type, target_id, message, created_at)"
        self._after = [
            f"UPDATE wgsyncd_peers SET state = 'present' WHERE node = 'bench' AND interface = '{IFACE}'",
            *(_insert(logs, notes[at : at + ROWS_AT_ONCE]) for at in range(0, len(notes), ROWS_AT_ONCE)),
        ]

    def dump(self) -> None:
        """Sends the request for a dump, and receives until its end."""
        with netlink.open_socket(16, 4 << 20, 5) as opened:  # NETLINK_GENERIC
            request = netlink.message(
                self._family, netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP, 1, codec.get_device(IFACE)
            )
            opened.send(request)
            buffer = bytearray(128 * 1024)
            while True:
                # The message DONE contains a number, and may share the datagram with others.
                last = opened.recv_into(buffer) - netlink.NLMSGHDR.size - 4
                if netlink.NLMSGHDR.unpack_from(buffer, last)[1] == netlink.NLMSG_DONE:
                    return

    def noop(self) -> None:
        """Reads the interface and the rows."""
        self.dump()
        self.select()

    def restore(self) -> None:
        """Reads the rows, adds the peers and reads the interface."""
        self.select()
        assert self._wireguard._set(IFACE, self._adds) == 0
        self.changed_at = Moment()
        self.dump()

    def fill(self) -> None:
        """Does the same, with a baseline for each peer before it is added.

        Afterwards it writes the state of each baseline and an audit row.
        """
        with self._live.cursor() as cursor:
            for statements in (self._before, None, self._after):
                if statements is None:
                    self.restore()
                    continue
                cursor.execute("START TRANSACTION")
                for statement in statements:
                    cursor.execute(statement)
                cursor.execute("COMMIT")

    def close(self) -> None:
        """Closes connection and socket."""
        self._live.close()
        self._wireguard.close()
