"""The stage on the tables in MariaDB, with a copy of the server."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any, cast

from tests.faults.books import Books
from tests.faults.proxy import Proxy
from tests.faults.stage import BOOT_ID, NETS, Stage
from tests.faults.web import Web
from tests.real.running import Daemon
from wgsyncd.demo.mariadb import PrivateServer, quote
from wgsyncd.demo.testbed import Namespace, Testbed

SERVER = ("--loose-innodb-buffer-pool-size-max=256m", "--log-bin=log", "--sync-binlog=0", "--max-binlog-size=1048576",
          "--binlog-expire-logs-seconds=120")  # fmt: skip


class MikyunStage(Stage):
    """Holds everything that the faults hit, with the tables in MariaDB."""

    books, control_plane = Books(), "mikyun"

    def _private_server(self) -> Any:
        return PrivateServer(options=SERVER, parent=self.disk)

    def _open_database(self) -> None:
        self.database.install()
        self.database.start()
        self.database.load()
        self.database.sql("ALTER TABLE wgsyncd_nodes ALTER adopted SET DEFAULT 1")
        self.database.create_account()
        self.proxy = Proxy(self.directory / "proxy", self.database.socket, self.is_daemon, lambda: self.database.pid)
        self.web = Web(self.database, 2.0 * max(1.0, self.pace / 2))

    def _add_copy(self) -> None:
        """Makes the daemon of a copy of the server: another network and boot, and the same machine id and node."""
        machine = self._copied = Namespace()
        boot = self.directory / "boot_of_the_copy"
        boot.write_text(f"{uuid.uuid4()}\n")
        machine.run("mount", "--bind", str(boot), BOOT_ID)
        machine.ip("link set lo up")
        for name in NETS:
            machine.make_wireguard(self.kind, name, log=self.directory / "world.log")
        self.twin = Daemon(cast("Testbed", SimpleNamespace(server=machine)), self.ear, self.directory / "copy")

    def _device_name(self, number: int) -> str:
        return f"0001-{number}"

    def _insert_devices(self) -> None:
        rows = ", ".join(
            f"({d.row}, '0001', {quote(d.name)}, '{d.interface}', '{d.address}', '{d.keys.public}',"
            f" '{d.keys.private}', 'active', NOW())"
            for d in self.devices
        )
        self.database.sql(
            "INSERT INTO contracts (contract_number, contract_id, contract_status) VALUES (1, '0001', 'active');"
            "INSERT INTO customer_devices (id, contract_id, device_id, wg_iface, wg_ip, public_key, private_key, status,"
            f" issued_at) VALUES {rows}"
        )

    def _store(self, _: Daemon, timeout: str) -> dict[str, dict[str, object]]:
        return {"mikyun.database": {"socket": str(self.proxy.path), "password_file": str(self.database.password_file),
                                    "timeout": timeout}, "mikyun": {"language": "en"}}  # fmt: skip
