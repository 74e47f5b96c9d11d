"""Answers GET /devices and the page with the list of devices, in a client's thread.

Only the bytes of devices come from the database. The main thread reads them, and a client waits for them a short time
only. So the list also comes while the database hangs.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.answers import DeviceUsage
from wgsyncd.daemon.http import Refusal
from wgsyncd.engine.agent import Agent
from wgsyncd.engine.reports import devices as devices_report
from wgsyncd.engine.reports.devices import DevicesReport, Selection
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import NotHolder, StoreError

FRESH = 10.0  # seconds that bytes are used again, so that many clients ask the database no more than one
PATIENCE = 2.0  # seconds that a client waits for bytes


class DeviceList:
    """Makes the documents. ``ask``: asks the main thread for the bytes of devices, and waits some seconds at most."""

    def __init__(
        self,
        status: DaemonStatus,
        settings: Callable[[], Settings],
        ask: Callable[[Sequence[str], float], DeviceUsage | str],
    ) -> None:
        self._status, self._settings, self._ask = status, settings, ask

    def report(self, query: Mapping[str, str]) -> DevicesReport:
        """The document for the query of a request. Refusal if the query is wrong."""
        picked = {name: value for name, value in query.items() if name in Selection.__struct_fields__}
        try:
            wanted = msgspec.convert(picked, Selection, strict=False)
        except msgspec.ValidationError as error:
            raise Refusal(400, f"the query is wrong: {error}", str(error).rpartition("$.")[2].rstrip("`")) from None
        return devices_report.build(
            self._status, self._settings(), wanted, lambda devices: self._ask(devices, PATIENCE), time.time()
        )


class UsageCache:
    """The last bytes of devices that the store told. Only the main thread uses it."""

    def __init__(self) -> None:
        self._usage: DeviceUsage | str = ""
        self._devices: Sequence[str] = ()
        self._at = float("-inf")

    def get(self, agent: Agent, devices: Sequence[str]) -> DeviceUsage | str:
        """The bytes of devices, or why there are none. An answer of a moment ago serves again."""
        if time.monotonic() - self._at > FRESH or (devices and devices != self._devices):
            try:
                self._usage = agent.store.device_usage(devices, agent.inspector.calendar())
            except (StoreError, NotHolder) as error:
                self._usage = str(error)
            self._devices, self._at = devices, time.monotonic()
        return self._usage
