"""Answers GET / on the port of the metrics: with the page, or with the paths while the page is off."""

import base64
import hashlib
import time
from collections.abc import Callable, Mapping

from wgsyncd.config import resources
from wgsyncd.config.schema import Settings
from wgsyncd.core.network import is_loopback
from wgsyncd.daemon.choice import Choice
from wgsyncd.daemon.http import TEXT, Refusal, Request, Response
from wgsyncd.daemon.monitoring import MonitoringServer
from wgsyncd.engine.reports.devices import DevicesReport
from wgsyncd.engine.reports.status_document import StatusReport
from wgsyncd.engine.status import DaemonStatus

STYLE = resources.text("page.css")
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_POLICY = (
    "default-src 'none'",
    f"style-src 'sha256-{_HASH}'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
)
HEADERS = (
    "Content-Security-Policy: " + ";".join(_POLICY),
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
    "Referrer-Policy: no-referrer",
    "Cache-Control: no-store",
)
"""No script, no style but the page's own, nothing from elsewhere, and no other site may show the page inside it."""


class FrontPage:
    """Makes the page in a client's thread, which only reads."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        status: DaemonStatus,
        report: Callable[[], StatusReport],
        devices: Callable[[Mapping[str, str]], DevicesReport],
    ) -> None:
        self._settings, self._status, self._report, self._devices = settings, status, report, devices

    def answer(self, server: MonitoringServer, request: Request) -> Response:
        """The page. Refusal if others than this machine's users could ask: the page shows names and addresses."""
        if not self._settings().metrics.page:
            paths = "".join(f"GET {path}\n" for path in server.routes)
            return Response(200, f"{paths}The page is off: metrics.page = true turns it on.\n".encode(), TEXT)
        if not server.is_private:
            why = "metrics.page needs a port on loopback: change ListenStream= (systemctl edit wgsyncd.socket)"
            raise Refusal(403, why, "metrics.page")
        if not is_ours(request.host):
            raise Refusal(403, "open the page as localhost or 127.0.0.1, because another name may be a trap", "Host")
        choice = Choice.of(request.query)
        devices = self._devices(choice.selection())
        from wgsyncd.daemon.page import render  # It loads xml, and most nodes never show the page.

        page = render(choice, self._report(), devices, self._status.history, STYLE, time.time())
        body = page.encode("utf-8", "backslashreplace")
        return Response(200, body, "text/html; charset=utf-8", headers=HEADERS)


def is_ours(host: str) -> bool:
    """Whether the Host of a request names this machine. A site of others could lead a browser here by its own name."""
    name, _, port = host.rpartition(":")
    name = name if port.isdecimal() and name else host
    return not host or is_loopback(name.strip("[]"))
