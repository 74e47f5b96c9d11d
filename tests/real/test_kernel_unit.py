"""The shipped unit works with the kernel's WireGuard, on a booted systemd in the virtual machine."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.real.installed import SELDOM, UNIT, Node
from tests.wait import until

pytestmark = pytest.mark.vm
LIMITS = """
[shaping]
mode = "enforce"
default = "standard"
exempt = ["192.0.2.0/24"]
[bandwidth.standard]
down = "8Mbit"
up = "4Mbit"
[bandwidth.slow]
down = "2Mbit"
up = "1Mbit"
shared = false
"""
NET_ADMIN = f"{1 << 12:016x}"  # uapi/linux/capability.h


def test_a_life(installed: Node) -> None:
    """The test leads from the package to a customer's bytes in the table: start, traffic, a changed row, reload and
    stop.

    Every step uses the kernel's netlink, as the daemon's user and in its sandbox.
    """
    node, run = installed, installed.system.run
    run("systemctl", "enable", "--now", UNIT)
    node.await_ready()
    assert "wireguard" in run("ip", "-details", "link", "show", "wg0")
    assert node.key in node.peers()
    pid = node.show("MainPID")
    node.database.sql("UPDATE customer_devices SET status = 'paused'")
    until(lambda: node.peers() == "", 60, "the peer goes with its row")
    node.database.sql("UPDATE customer_devices SET status = 'active'")
    until(lambda: node.key in node.peers(), 60, "and comes back")

    node.configure('persistent_keepalive = "25s"', text=SELDOM)
    node.systemctl("reload")
    until(lambda: node.peers().strip().endswith("\t25"), 60, "the keepalive of the new configuration is in force")
    assert node.show("MainPID") == pid
    node.connect()
    node.traffic()
    assert node.posted() != node.counted(), "nobody has looked meanwhile"
    node.systemctl("stop")
    assert node.show("Result") == "success"
    assert node.posted() == node.counted()
    assert min(node.posted()) >= 20 * 1000


def test_limits_of_bandwidth(installed: Node) -> None:
    """The daemon makes, changes and removes all that limits need, with CAP_NET_ADMIN alone.

    Nobody has loaded the modules for it. The kernel loads them when the daemon asks for these parts of tc.
    """
    node = installed

    def tc(*argv: str) -> str:
        return node.system.run("tc", *argv, check=False)

    def rates() -> list[str]:
        """The highest rate of each class."""
        shown = "".join(tc("class", "show", "dev", f"wgsyncd-{way}") for way in ("down", "up"))
        return re.findall(r"^class htb .* ceil (\S+)", shown, re.MULTILINE)

    def nothing() -> bool:
        return "wgsyncd" not in node.system.run("ip", "link") and "clsact" not in tc("qdisc")

    node.configure(text=SELDOM + LIMITS)
    node.systemctl("restart")
    node.await_ready()
    status = node.system.run("cat", f"/proc/{node.show('MainPID')}/status")
    held = {line.split()[1] for line in status.splitlines() if line.startswith(("CapPrm", "CapEff", "CapBnd"))}
    assert held == {NET_ADMIN}
    assert rates() == ["8Mbit", "4Mbit"], "of the only device of its contract, in both directions"
    for way, hook in (("down", "egress"), ("up", "ingress")):
        filters = tc("filter", "show", "dev", f"wgsyncd-{way}")
        assert {"10.200.0.5", "192.0.2.0/24"} <= set(filters.split()), filters
        assert "fq_codel" in tc("qdisc", "show", "dev", f"wgsyncd-{way}")
        assert f"wgsyncd-{way}" in tc("filter", "show", "dev", "wg0", hook)
    node.connect()
    node.traffic()
    explained = json.loads(node.system.run("wgsyncd", "explain", "0001-DEV-001", "--json"))
    passed = {way: one["sent"] for way, one in explained["bandwidth"]["traffic"].items()}
    assert min(passed["down"], passed["up"]) >= 20 * 1000

    node.database.sql("UPDATE contracts SET bandwidth_profile = 'slow'")
    until(lambda: rates() == ["2Mbit", "1Mbit"], 60, "the new rates")
    node.database.sql("UPDATE customer_devices SET status = 'paused'")
    until(nothing, 60, "with the last device, links and redirects go")
    node.database.sql("UPDATE customer_devices SET status = 'active'")
    until(lambda: rates() == ["2Mbit", "1Mbit"], 60, "the limits are back with the device")
    values = re.findall(r"^wgsyncd_shaping_(ok|failures_total)(?:\{.*\})? (\S+)$", node.get("/metrics"), re.MULTILINE)
    assert set(values) == {("ok", "1.0"), ("failures_total", "0.0")}
    node.configure(text=SELDOM)
    node.systemctl("reload")
    until(nothing, 60, "without the section, nothing is left")
    node.database.sql("UPDATE contracts SET bandwidth_profile = NULL")
    node.systemctl("stop")


def test_a_module_that_is_not_loaded(installed: Node) -> None:
    """The command of `wgsyncd doctor` loads it, as root types it.

    Debian has WireGuard as a module. A question about its interfaces loads it, unless the kernel may load none by
    itself. Without wireguard-go, only the kernel can provide the interface.
    """
    run, loader = installed.system.run, Path("/proc/sys/kernel/modprobe")
    before, program = loader.read_text(), run("sh", "-c", "command -v wireguard-go").strip()
    installed.connect()
    installed.take_down()  # Else the kernel would remove the interface of the customer with the module.
    loader.write_text("/bin/false")
    run("mv", program, f"{program}.away")
    try:
        subprocess.run(["modprobe", "--remove", "wireguard"], check=True)  # the container does not see /sys/module
        assert not Path("/sys/module/wireguard").exists()
        found = wg0_of_doctor(installed)
        assert (found["severity"], "module is not loaded" in found["message"]) == ("fault", True), found
        run("sh", "-ec", found["fix"])
        assert wg0_of_doctor(installed)["severity"] == "ok"
        assert run("cat", "/etc/modules-load.d/wireguard.conf") == "wireguard\n", "also after the next boot"
    finally:
        loader.write_text(before)
        run("mv", f"{program}.away", program)
        run("rm", "--force", "/etc/modules-load.d/wireguard.conf")


def wg0_of_doctor(node: Node) -> dict[str, str]:
    """What doctor says of wg0."""
    told = json.loads(node.system.run("wgsyncd", "doctor", "--json", check=False))["checks"]
    return next(one for one in told if one["check"] == "wg0")
