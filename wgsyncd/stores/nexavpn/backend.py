"""The control plane NexaVPN as a backend: its installation and its checks."""

import argparse
from collections.abc import Callable, Iterator

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.stores.nexavpn import doctor, schema
from wgsyncd.stores.nexavpn.init import ADMIN
from wgsyncd.stores.nexavpn.reports import NexaReports
from wgsyncd.stores.nexavpn.settings import nexavpn
from wgsyncd.stores.nexavpn.store import NexaStore


class Backend:
    """Implements :class:`wgsyncd.ports.Backend` for NexaVPN. It connects when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def store(self, on_answer: Callable[[], object]) -> NexaStore:
        return NexaStore(self._settings, on_answer)

    def reports(self) -> NexaReports:
        return NexaReports(self._settings)

    def install(self, options: argparse.Namespace) -> Iterator[str]:
        own = nexavpn(self._settings).database
        socket = options.socket and str(options.socket)
        database = own.for_admin(options.user or ADMIN, socket, options.password_file)
        if options.drop_views:
            yield from schema.drop_views(database)
            return
        gateways = options.gateway or [one.store_name for one in self._settings.interfaces.values()]
        node = options.node or self._settings.node.name
        entry = schema.NodeEntry(node, options.role or own.user, tuple(gateways))
        yield from schema.install(database, entry, triggers=options.triggers)

    def check(self) -> Iterator[Finding]:
        return doctor.check(self._settings)
