"""`wgsyncd doctor` finds devices whose packets do not leave by their interface, in a network namespace of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fakes import FakeWireGuard
from tests.samples import address, peer
from wgsyncd.cli.doctor import routes
from wgsyncd.config.load import parse

SETTINGS = parse('[interfaces.wg0]\nnetworks = ["10.200.0.0/24"]\n[interfaces.wg1]\nnetworks = ["10.251.0.0/24"]')
LINKS = "ip link set lo up; ip link add wg0 type veth peer name eth9; ip link set wg0 up; ip link set eth9 up; " \
        "ip address add 10.200.0.1/24 dev wg0; ip address add fd00::1/64 dev wg0 nodad"  # fmt: skip
PROGRAM = "from tests.shell.test_doctor_routes import said; said()"


def said() -> None:
    """Prints the findings about two peers, in this process's network namespace."""
    wg = FakeWireGuard("wg0", "wg1")
    for one in (peer(5, address(5), "fd00::5/128"), peer(6, address(6)), peer(7, "0.0.0.0/0")):
        wg.add_behind("wg0", one)
    for found in routes.check(SETTINGS, wg):
        print(found.severity.value, found.check, found.message, found.fix, sep="|")


def findings(trouble: str) -> list[list[str]]:
    script = f'{LINKS}; {trouble}; exec "$0" -c "{PROGRAM}"'
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script, sys.executable], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [line.split("|") for line in done.stdout.splitlines()]


def test_all_is_well_without_trouble() -> None:
    assert findings(":") == [["ok", "wg0 routes", "packets to 3 addresses leave by it", ""]]


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("ip route add blackhole 10.200.0.5/32", "1 address of its devices do not leave by it: those to 10.200.0.5 are dropped"),
        ("ip -6 route add blackhole fd00::5/128", "1 address of its devices do not leave by it: those to fd00::5 are dropped"),
        ("ip rule add to 10.200.0.0/29 prohibit", "2 addresses of its devices do not leave by it: those to 10.200.0.5 are"),
        ("ip route add 10.200.0.6/32 dev eth9", "1 address of its devices do not leave by it: those to 10.200.0.6 leave by eth9"),
        ("ip route add default dev eth9 table 7; ip rule add to 10.200.0.0/24 lookup 7", "to 10.200.0.5 leave by eth9"),
    ],
)  # fmt: skip
def test_packets_that_do_not_come_to_a_device_are_a_fault(trouble: str, told: str) -> None:
    ((severity, check, message, fix),) = findings(trouble)
    assert (severity, check, fix) == ("fault", "wg0 routes", "ip rule list && ip route show table all")
    assert told in message
