"""The page of a node in memory, on a port of its own."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import msgspec

from tests.node import Node
from wgsyncd.daemon.device_list import DeviceList
from wgsyncd.daemon.front_page import FrontPage
from wgsyncd.daemon.monitoring import MonitoringServer
from wgsyncd.engine.reports import status as status_report


class Site:
    """The page of a node in memory."""

    def __init__(self, node: Node, host: str = "127.0.0.1") -> None:
        metrics = msgspec.structs.replace(node.settings.metrics, page=True)
        self.settings = msgspec.structs.replace(node.settings, metrics=metrics)
        devices = DeviceList(
            node.status, lambda: self.settings, lambda names, _: node.store.device_usage(names, node.calendar)
        )
        front = FrontPage(
            lambda: self.settings,
            node.status,
            lambda: status_report.of_daemon(node.status, self.settings, Path("wgsyncd.toml")),
            devices.report,
        )
        self.server = MonitoringServer({"/metrics": {}}, front.answer)
        self.server.listen((host, 0))
        assert self.server.address
        self.port = self.server.address[1]

    def get(self, path: str = "/", host: str = "") -> tuple[int, str, dict[str, str]]:
        headers = {"Host": host} if host else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request) as said:  # noqa: S310 - the address is the site's own
                return said.status, said.read().decode(), dict(said.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(), dict(error.headers)
