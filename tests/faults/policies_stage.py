"""The stage on NexaVPN's tables with one node, which enforces policies while forbidden packets are sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

from tests.faults.nexavpn_stage import NexavpnStage
from tests.faults.prober import Prober, host_of
from tests.faults.stage import NETS, NODE, Device
from tests.nexavpn_sides import named
from wgsyncd.demo.processes import CommandFailed


class PoliciesStage(NexavpnStage):
    """Has a policy for each device, which allows one host, and one for all, which allows an address that nobody has."""

    nodes: ClassVar = {NODE: tuple(NETS)}
    enforce = True
    prober: Prober

    def open(self) -> None:
        """See :meth:`Stage.open`."""
        super().open()
        self.prober = Prober(self.world.server, self.devices, [f"{net}.0/24" for net in NETS.values()])
        self.prober.start()

    def _insert_devices(self) -> None:
        # A device that loses its own policy keeps this one: the guard would withhold losses of all access.
        self.tables.policy("to-all", "allow", "10.3.0.1/32", to=[("user", named("alice"))])
        for device in self.devices:
            target = ("device", self.tables.id(device.row))
            self.tables.policy(self.policy(device), "allow", f"{host_of(device)}/32", to=[target])
        super()._insert_devices()

    @staticmethod
    def policy(device: Device) -> str:
        """Returns the name of the device's policy."""
        return f"to-{device.row}"

    def introduce(self, device: Device) -> None:
        """See :meth:`Stage.introduce`."""
        super().introduce(device)
        self.prober.introduce(device, self.world.interfaces[device.interface].keys.public)

    def new_boot(self) -> None:
        """See :meth:`Stage.new_boot`. The packet filter is empty after a restart."""
        super().new_boot()
        self.world.server.run("nft", "flush", "ruleset")

    def profiles(self, devices: Sequence[Device]) -> list[str | None]:
        """Returns the chains that judge the devices. None: there is none, or no table."""
        shown = ""
        with suppress(CommandFailed):
            shown = self.world.server.run("nft", "list", "map", "inet", "wgsyncd", "devices4")
        found = (re.search(rf'\b{re.escape(one.address)} comment "[^"]*" : goto (\w+)', shown) for one in devices)
        return [one and one[1] for one in found]

    def probes(self) -> Mapping[str, int]:
        """Returns the counts of the sent packets."""
        return self.prober.data()

    def close(self) -> None:
        """See :meth:`Stage.close`."""
        try:
            if hasattr(self, "prober"):
                self.prober.close()
        finally:
            super().close()
