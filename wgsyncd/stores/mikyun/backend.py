"""The control plane mikyun_cloud as a backend: its store, its reports and its checks."""

import argparse
from collections.abc import Callable, Iterator

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.stores.mikyun import doctor, schema
from wgsyncd.stores.mikyun.facts import examine
from wgsyncd.stores.mikyun.init import ADMIN
from wgsyncd.stores.mikyun.reports import MariaDBReports
from wgsyncd.stores.mikyun.settings import mikyun
from wgsyncd.stores.mikyun.store import MariaDBStore


class Backend:
    """Implements :class:`wgsyncd.ports.Backend` for mikyun_cloud. It connects when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def store(self, on_answer: Callable[[], object]) -> MariaDBStore:
        return MariaDBStore(self._settings, on_answer)

    def reports(self) -> MariaDBReports:
        return MariaDBReports(self._settings)

    def install(self, options: argparse.Namespace) -> Iterator[str]:
        socket = options.socket and str(options.socket)
        database = mikyun(self._settings).database.for_admin(options.user or ADMIN, socket, options.password_file)
        yield from schema.init(database, self._settings.node.zone, options.grants, mikyun(self._settings).language)

    def check(self) -> Iterator[Finding]:
        return doctor.check(self._settings, examine)
