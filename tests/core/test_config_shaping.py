"""The settings of shaping become a policy, and every fault in them is reported at once."""

from __future__ import annotations

import pytest

from tests.configuring import LEAST, faults
from wgsyncd.config.load import parse
from wgsyncd.core.network import as_networks, parse_network
from wgsyncd.core.shaping.profiles import Counted, Profile, ShapingPolicy

WHOLE = """
[shaping]
mode = "enforce"
default = "slow"
exempt = ["10.200.0.1/32", "10.0.0.0/8"]
[bandwidth.standard]
down = "100Mbit"
up = "20Mbit"
shared = false
monthly = "500GiB"
beyond = "slow"
counts = "down"
[bandwidth.slow]
down = "64kbit"
"""


def test_the_policy_has_bytes_per_second() -> None:
    assert parse(LEAST + WHOLE).shaping_policy == ShapingPolicy(
        True, "slow", as_networks((parse_network("10.200.0.1/32"), parse_network("10.0.0.0/8"))),
        {
            "standard": Profile(12_500_000, 2_500_000, False, 500 << 30, "slow", Counted.DOWN),
            "slow": Profile(8000, None),
        },
    )  # fmt: skip


def test_without_settings_nothing_is_shaped() -> None:
    assert parse(LEAST).shaping_policy == ShapingPolicy()


@pytest.mark.parametrize(
    ("size", "is_bytes"),
    [("1B", 1), ("2kB", 2000), ("3MB", 3_000_000), ("1GB", 10**9), ("2TB", 2 * 10**12), ("1KiB", 1024),
     ("1MiB", 1 << 20), ("1.5GiB", 3 << 29), ("1TiB", 1 << 40)],
)  # fmt: skip
def test_sizes(size: str, is_bytes: int) -> None:
    text = f'[bandwidth.a]\nmonthly = "{size}"\nbeyond = "b"\n[bandwidth.b]\n'
    assert parse(LEAST + text).bandwidth["a"].monthly == is_bytes


@pytest.mark.parametrize(
    ("text", "key", "why"),
    [
        (
            '[shaping]\ndefault = "fast"',
            "shaping.default",
            "is no bandwidth profile: there is no table [bandwidth.fast]",
        ),
        ('[shaping]\nmode = "on"', "shaping.mode", "is none of off, enforce"),
        ('[shaping]\nexempt = ["fd00::/8"]', "shaping.exempt", "has fd00::/8, and no interface has this IP version"),
        ('[shaping]\nexempt = ["10.0.0.1/8"]', "shaping.exempt", "entry 1: 10.0.0.1/8 has host bits set"),
        ('[bandwidth.a]\ndown = "63kbit"', "bandwidth.a.down", "is not between 64kbit and 30Gbit"),
        ('[bandwidth.a]\nup = "31Gbit"', "bandwidth.a.up", "is not between 64kbit and 30Gbit"),
        ('[bandwidth.a]\nup = "0kbit"', "bandwidth.a.up", "is not between 64kbit and 30Gbit"),
        ("[bandwidth.a]\nup = 5", "bandwidth.a.up", "is not a number with a unit (kbit, Mbit, Gbit, Tbit)"),
        ('[bandwidth.a]\nmonthly = "5GB"', "bandwidth.a.beyond", "is needed with monthly"),
        ('[bandwidth.a]\nmonthly = "5"\nbeyond = "b"\n[bandwidth.b]', "bandwidth.a.monthly", "is not a number with"),
        ('[bandwidth.a]\nmonthly = "0B"\nbeyond = "b"\n[bandwidth.b]', "bandwidth.a.monthly", "is not between 1B and"),
        ('[bandwidth.a]\nbeyond = "b"\n[bandwidth.b]', "bandwidth.a.monthly", "is needed with beyond"),
        ('[bandwidth.a]\nmonthly = "5GB"\nbeyond = "b"', "bandwidth.a.beyond", "is no bandwidth profile"),
        ('[bandwidth.a]\nmonthly = "5GB"\nbeyond = "a"', "bandwidth.a.beyond", "is the profile itself"),
        ('[bandwidth.a]\ncounts = "all"', "bandwidth.a.counts", "is none of both, down, up"),
        ("[bandwidth.a]\nburst = 5", "bandwidth.a.burst", "is not a key that wgsyncd knows"),
        (f"[bandwidth.{'x' * 65}]", f"bandwidth.{'x' * 65}", "has a name that is empty, unprintable or longer"),
        (
            '[shaping]\nby_group = { staff = "x" }\n[bandwidth.x]',
            "shaping.by_group",
            "needs groups, and mikyun has none",
        ),
        ('[shaping]\nby_group = "x"', "shaping.by_group", "is not a table of texts"),
        ("[shaping]\nby_group = { a = 1 }", "shaping.by_group", "is not a table of texts"),
        ('[bandwidth.a]\ndown = "١٠Mbit"', "bandwidth.a.down", "is not a number with a unit"),
        ('[bandwidth.a]\ndown = "10 Mbit😀"', "bandwidth.a.down", "is not a number with a unit"),
        ('[bandwidth.a]\ndown = "-10Mbit"', "bandwidth.a.down", "is not a number with a unit"),
        ("[bandwidth.a]\nup = nan", "bandwidth.a.up", "is not a number with a unit"),
        ("[bandwidth.a]\nshared = 1", "bandwidth.a.shared", "is not true or false"),
        ('[bandwidth.""]', "bandwidth.", "has a name that is empty"),
        ('[bandwidth.a]\nup = "1Mbit"\n[bandwidth.a]\ndown = "1Mbit"', "(file)", "twice (at line"),
        ('[limits]\ndevices = "drop"', "limits.devices", "is none of ignore, report, reject"),
        ("[bandwidth]\na = 5", "bandwidth.a", "is not a table"),
    ],
)
def test_each_fault_is_told_with_its_key(text: str, key: str, why: str) -> None:
    found = faults(LEAST + text)
    assert list(found) == [key]
    assert why in found[key].why


def test_nexavpn_has_no_monthly_caps_and_no_device_limits() -> None:
    text = '[bandwidth.a]\nmonthly = "5GB"\nbeyond = "b"\n[bandwidth.b]\n[limits]\ndevices = "report"\n'
    found = faults('control_plane = "nexavpn"\n' + LEAST + text)
    assert {key: one.why.partition(",")[0] for key, one in found.items()} == {
        "bandwidth.a.monthly": "needs the bytes of an owner's month", "limits.devices": "needs a number of devices that owners may have",
    }  # fmt: skip


def test_all_faults_are_told_at_once() -> None:
    text = (
        '[shaping]\nmode = "on"\ndefault = "x"\n[bandwidth.a]\ndown = "1kbit"\nup = "x"\nmonthly = "1B"\nbeyond = "z"'
    )
    assert sorted(faults(LEAST + text)) == [
        "bandwidth.a.beyond", "bandwidth.a.down", "bandwidth.a.up", "shaping.default", "shaping.mode"
    ]  # fmt: skip
