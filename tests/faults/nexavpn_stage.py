"""The same stage on NexaVPN's tables: a private PostgreSQL takes the place of MariaDB."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import psycopg

from tests.faults.books import NexavpnBooks
from tests.faults.postgres_wire import PostgresWire
from tests.faults.proxy import Proxy
from tests.faults.stage import NETS, NODE, Device, Stage
from tests.faults.web import Away, Web
from tests.nexavpn_sides import NexavpnTables, named
from tests.postgres import NODE_ROLE, PrivatePostgres
from tests.real.running import Daemon
from wgsyncd.core.model import decode_key

T = TypeVar("T")
OTHER = "faults-b"  # the second node, which serves the second gateway
ROLES = {NODE: NODE_ROLE, OTHER: "wgsyncd_other"}
_SOCKET = ".s.PGSQL.5432"


class Server(PrivatePostgres):
    """The private server, as the faults know the one of MariaDB."""

    def __init__(self) -> None:
        super().__init__("-c deadlock_timeout=200ms")

    @property
    def pid(self) -> int:
        """Returns the process id of the postmaster, which the first line of its file has."""
        return int((self.directory / "data" / "postmaster.pid").read_text().splitlines()[0])

    def kill(self) -> None:
        """Ends the server as a crash does."""
        self.stop("immediate")

    def stop(self, how: str = "fast") -> None:
        """Ends the server, in an orderly way if ``how`` is not given."""
        super().stop(how)

    def signal(self, what: signal.Signals) -> None:
        """Sends a signal to the postmaster and then to all of its children, so that none of them is forked meanwhile."""
        pid = self.pid
        for one in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, what)


class NexavpnWeb(Web):
    """NexaVPN's application is the second client of the database, and it does not wait for locks."""

    _own: psycopg.Connection | None = None

    def __init__(self, server: Server, timeout: float) -> None:
        self._server, self._patience, self.usable = server, timeout, True

    def transact(self, work: Callable[[Any], T]) -> T:
        """See :meth:`Web.transact`."""
        if not self.usable:
            raise Away
        try:
            if self._own is None:
                self._own = self.enter()
            with self._own.cursor() as cursor:
                result = work(cursor)
            self._own.commit()
        except psycopg.Error as error:
            self.close()
            raise Away(str(error)) from error
        return result

    def enter(self) -> psycopg.Connection:
        """Returns a new connection of the administrator. A statement that waits for a lock fails."""
        own = self._server.admin()
        milliseconds = int(self._patience * 1000)
        own.execute(f"SET statement_timeout = {milliseconds}".encode())
        own.execute(f"SET lock_timeout = {milliseconds // 2}".encode())
        own.commit()
        return own

    def close(self) -> None:
        """Drops the connection."""
        if self._own is not None:
            self._own.close()
            self._own = None


class NexavpnStage(Stage):
    """Holds everything that the faults hit, with NexaVPN's tables."""

    books, control_plane = NexavpnBooks(), "nexavpn"
    nodes: ClassVar[Mapping[str, tuple[str, ...]]] = {NODE: ("wg0",), OTHER: ("wg1",)}  # the gateways of each node
    enforce = False  # Two nodes are in one network namespace, which has one packet filter.
    others: Sequence[Daemon] = ()  # the daemons of the further nodes
    web: NexavpnWeb
    tables: NexavpnTables

    def _private_server(self) -> Server:
        return Server()

    def _open_database(self) -> None:
        self.database.__enter__()
        self._stack = ExitStack()
        self.tables = NexavpnTables(self.database, self._stack)
        self.tables.settings()  # it writes the file with the key of preshared keys
        self.tables.sql(f"CREATE ROLE {ROLES[OTHER]} LOGIN IN ROLE wgsyncd_node")
        for node, role in ROLES.items():
            self.tables.sql("INSERT INTO wgsyncd.nodes VALUES (%s, %s, '{}')", node, role)
        for gateway in NETS:
            self.tables.gateway(gateway)
        way = self.directory / "proxy"
        way.mkdir()
        target = self.database.directory / _SOCKET
        self.proxy = Proxy(way / _SOCKET, target, self.is_daemon, lambda: self.database.pid, PostgresWire)
        self.web = NexavpnWeb(self.database, 2.0 * max(1.0, self.pace / 2))

    def hang(self, on: bool) -> None:
        """See :meth:`Stage.hang`."""
        self.database.signal(signal.SIGSTOP if on else signal.SIGCONT)

    def _device_name(self, number: int) -> str:
        return str(self.tables.id(number + 1))

    def _insert_devices(self) -> None:
        for device in self.devices:
            self.enter_device(self.tables, device)
        for node in ROLES:
            gateways = [named(gateway) for gateway in self.nodes.get(node, ())]
            self.tables.sql("UPDATE wgsyncd.nodes SET gateways = %s::uuid[] WHERE node = %s", gateways, node)
        self._stack.close()

    @staticmethod
    def enter_device(tables: NexavpnTables, device: Device) -> None:
        """Writes the rows of a device, of its peer and of its address."""
        number = device.row
        tables.insert(number, device.interface, public_key=device.keys.public, assigned_ip=device.address)
        tables.update("devices", tables.id(number), public_key=device.keys.public)

    def sealed(self, device: Device) -> str | None:
        """Returns the envelope of the device's preshared key."""
        key = device.preshared_key
        return None if key is None else self.tables.seal(device.row, decode_key(key))

    def _store(self, daemon: Daemon, timeout: str) -> dict[str, dict[str, object]]:
        directory = self.database.directory
        return {"nexavpn.database": {"hosts": [str(self.directory / "proxy")], "name": "postgres",
                                     "user": ROLES[self.node_of(daemon)],
                                     "timeout": timeout},
                "nexavpn.preshared_keys": {"test": str(directory / "keys")},
                "nexavpn.policies": {"enforce": self.enforce}}  # fmt: skip

    def backends(self) -> list[int]:
        """Returns the server's processes that serve the daemons."""
        sql = "SELECT pid FROM pg_stat_activity WHERE usename = ANY(%s)"
        return [pid for (pid,) in self.web.query(sql, (list(ROLES.values()),))]

    # -- two nodes in one network namespace, each with a gateway of its own

    def _add_copy(self) -> None:
        self.others = [Daemon(self.world, self.ear, self.directory / "other") for node in self.nodes if node == OTHER]

    @property
    def everybody(self) -> list[Daemon]:
        """See :attr:`Stage.everybody`."""
        return [*self.daemons, *self.others]

    @property
    def kept(self) -> list[Daemon]:
        """See :attr:`Stage.kept`."""
        return [self.daemons[0], *self.others]

    def node_of(self, daemon: Daemon) -> str:
        """See :meth:`Stage.node_of`."""
        return OTHER if daemon in self.others else self.node

    def served(self, daemon: Daemon) -> list[str]:
        """See :meth:`Stage.served`."""
        return list(self.nodes[self.node_of(daemon)])

    def environment(self, daemon: Daemon) -> dict[str, str]:
        """See :meth:`Stage.environment`."""
        state = self.state.with_name("state-b" if daemon in self.others else "state")
        state.mkdir(exist_ok=True)
        return {**self.clock.environment, "BOOTED": str(self._booted), "STATE_DIRECTORY": str(state)}
