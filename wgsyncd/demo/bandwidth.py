"""The scenarios of bandwidth: what contracts have bought, another profile, and a monthly cap.

A kernel without all parts of tc limits nobody. Then these scenarios show that customers are served all the same.
"""

import re
import time
from collections.abc import Mapping

from wgsyncd.demo.bench import GIB
from wgsyncd.demo.environment import Environment
from wgsyncd.demo.fixtures import MOVED, SCANS, DeviceSpec
from wgsyncd.demo.observation import Check, Outcome, Row, Sample

MBIT = {"standard": 4, "premium": 16}  # of each profile, down and up. See CONFIGURATION in environment.py
_BEGUN = 150_000  # bytes after which a download has passed its burst
_SECONDS = 2  # of one measurement
_PIECE = 4_000_000  # bytes of one download on the way to the cap
_LEAST, _MOST = 0.5, 1.1  # of a rate: a busy machine is slower, and WireGuard counts its own headers


def bought(env: Environment) -> Check[Row]:
    """Two customers download at the same time, one with "standard" and one with "premium"."""
    _name(env, {"0001": "standard", "0002": "premium"})
    env.wait(lambda sample: sample.has_audit("shaping_started") or _is_lacking(sample))
    if _is_lacking(env.sample()):
        _name(env, {"0001": "", "0002": ""})
        return _unlimited(env)
    rates = _download(env, SCANS, MOVED)
    fits = _fits(env, rates[SCANS], "standard") and _fits(env, rates[MOVED], "premium")
    seen = f"0001 has {rates[SCANS]:.1f} Mbit/s, 0002 has {rates[MOVED]:.1f} Mbit/s"
    return lambda _: Outcome(seen, "0001 standard, 0002 premium", fits)


def raised(env: Environment) -> Check[Row]:
    """The contract of the slow customer gets the fast profile."""
    if _is_lacking(env.sample()):
        return _unlimited(env)
    began = time.monotonic()
    _name(env, {"0001": "premium"})
    while MBIT["standard"] in _ceilings(env) and time.monotonic() < began + 10 * env.pace:
        time.sleep(0.01)
    took = time.monotonic() - began
    rate = _download(env, SCANS)[SCANS]
    seen, ok = f"0001 has {rate:.1f} Mbit/s, {took * 1000:.0f} ms after the UPDATE", _fits(env, rate, "premium")
    in_time = took < env.pace  # a second on an ordinary machine

    def check(sample: Sample[Row]) -> Outcome:
        audited = sample.has_audit("bandwidth_changed", "0001")
        return Outcome(seen, f"0001 premium, {'' if audited else 'NOT '}audited", ok and in_time and audited)

    return check


def capped(env: Environment) -> Check[Row]:
    """A customer downloads until the monthly cap of the contract is reached."""
    if _is_lacking(env.sample()):
        return _unlimited(env)
    _name(env, {"0002": "capped"})
    for _ in range(6):
        if env.finish(env.customers[MOVED].transfer(up=0, down=_PIECE)) and env.sample().has_audit("cap_reached"):
            break

    def check(sample: Sample[Row]) -> Outcome:
        slow = MBIT["standard"] in _ceilings(env)
        reached = sample.has_audit("cap_reached", "0002")
        month = sample.rows[MOVED.device].total
        table = f"{sum(month):,} bytes, the cap is {'' if reached else 'NOT '}reached"
        return Outcome(f"0002 has {'the slow' if slow else 'its own'} rates", table, slow and reached)

    return check


def _name(env: Environment, profiles: Mapping[str, str]) -> None:
    """Contracts get other profiles, as by a click in the web application."""
    for contract, profile in profiles.items():
        env.database.sql(
            f"UPDATE contracts SET bandwidth_profile = NULLIF('{profile}', '') WHERE contract_id = '{contract}'"  # noqa: S608
        )


def _is_lacking(sample: Sample[Row]) -> bool:
    return sample.has_audit("shaping_failed")


def _unlimited(env: Environment) -> Check[Row]:
    """Customers are served without limits."""
    through = env.finish(env.customers[SCANS].transfer(up=0, down=_BEGUN))
    note = "not shown: this kernel lacks parts of tc"
    return lambda _: Outcome("nobody is limited", "customers are served", through, note)


def _download(env: Environment, *devices: DeviceSpec) -> dict[DeviceSpec, float]:
    """The Mbit/s at which devices download at the same time, as WireGuard counts."""
    before = env.sample()
    transfers = [env.customers[spec].transfer(up=0, down=GIB) for spec in devices]

    def got(sample: Sample[Row], spec: DeviceSpec) -> int:
        return sample.counted(env.key(spec)).tx

    env.wait(lambda sample: all(got(sample, one) > got(before, one) + _BEGUN for one in devices))
    first = env.sample()
    env.wait(lambda sample: sample.at > first.at + _SECONDS * env.pace)
    last = env.sample()
    for one in transfers:
        one.kill()
        one.wait()
    return {one: (got(last, one) - got(first, one)) / (last.at - first.at) / 125_000 for one in devices}


def _fits(env: Environment, rate: float, profile: str) -> bool:
    """Whether a device has the rate of its profile. A slow machine may not reach it, but nothing may exceed it."""
    return _LEAST / env.pace * MBIT[profile] < rate < _MOST * MBIT[profile]


def _ceilings(env: Environment) -> set[int]:
    """The Mbit/s that the classes of downloads have at most, as tc(8) shows them."""
    shown = env.testbed.server.run("tc", "class", "show", "dev", "wgsyncd-down")
    return {int(number) for number in re.findall(r"ceil (\d+)Mbit", shown)}
