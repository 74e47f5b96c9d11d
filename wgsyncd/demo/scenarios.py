"""The scenarios of everyday life, and the list of all scenarios.

:mod:`wgsyncd.demo.fault_scenarios` has the scenarios of failures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

from wgsyncd.demo import fault_scenarios, fixtures
from wgsyncd.demo.environment import ZONE, Stage
from wgsyncd.demo.fault_scenarios import DOWN, UP
from wgsyncd.demo.fixtures import DeviceSpec
from wgsyncd.demo.observation import Bytes, Sample, Seen
from wgsyncd.demo.testbed import new_keys


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario of the demo.

    ``play`` makes something happen. It returns when the outcome is as expected, or when time is up.
    """

    name: str
    expected: str
    play: Callable[[Stage], Seen]


def _filled(stage: Stage) -> Seen:
    wanted = {stage.key(spec): spec.interface for spec in fixtures.DEVICES if spec.wants_peer}
    wanted[stage.site.public] = "wg0"
    stage.start_daemon()

    def look(sample: Sample) -> Seen:
        actual = {key: interface for interface, peers in sample.peers.items() for key in peers}
        alive = sum(row.status in ("issued", "active") for row in sample.rows.values())
        named = sample.logged("row_rejected", fixtures.OUTSIDE.device)
        table = f"{alive} of {len(sample.rows)} rows issued or active, unusable row {'' if named else 'not '}named"
        return Seen(f"{len(actual)} peers", table, actual == wanted and named)

    return stage.until(look)


def _scanned(stage: Stage) -> Seen:
    spec = fixtures.SCANS
    stage.scan(spec)
    through = stage.finish(stage.customer(spec).transfer(up=UP, down=DOWN))

    def look(sample: Sample) -> Seen:
        found, row = sample.find(stage.key(spec)), sample.rows[spec.device]
        right_psk = found is not None and found[1].preshared_key == stage.devices[spec.device].preshared_key
        at = datetime.fromtimestamp(found[1].latest_handshake if found else 0, ZONE).strftime("%Y-%m-%d %H:%M:%S")
        active = row.status == "active" and sample.logged("device_activated", spec.device)
        times = row.last_handshake_at == at and None is not row.first_handshake_at == row.activated_at
        table = f"{row.status}, first handshake {row.first_handshake_at}, last {row.last_handshake_at}"
        kernel = f"handshake {at}{', with its preshared key' if right_psk else ''}"
        return Seen(kernel, table, through and right_psk and active and times)

    return stage.until(look)


def _known_bytes(stage: Stage) -> Seen:
    specs = (fixtures.REKEYED, fixtures.MOVED)
    for spec in specs:
        stage.scan(spec)
    through = stage.finish(*[stage.customer(spec).transfer(up=UP, down=DOWN, seconds=1) for spec in specs])

    def look(sample: Sample) -> Seen:
        kernel = [sample.counted(stage.key(spec)) for spec in specs]
        rows = [sample.rows[spec.device] for spec in specs]
        exact = kernel == [row.total for row in rows] == [row.last_24h for row in rows]
        known = all(UP < rx < 2 * UP and DOWN < tx < 2 * DOWN for rx, tx in kernel)  # TCP and WireGuard add bytes
        return Seen(f"{reduce(Bytes.plus, kernel)}, {len(specs)} customers",
                    f"{reduce(Bytes.plus, [row.total for row in rows])}", through and exact and known)  # fmt: skip

    return stage.until(look)


def _qr_ends(stage: Stage) -> Seen:
    spec, key = fixtures.UNSCANNED, stage.key(fixtures.UNSCANNED)
    before = stage.sample().find(key) is not None
    stage.admin(f"qr_expires_at = '{stage.local_time(1 + 2 * stage.pace)}'", spec)

    def look(sample: Sample) -> Seen:
        status, gone = sample.rows[spec.device].status, sample.find(key) is None
        expired = status == "expired" and sample.logged("qr_expired", spec.device)
        return Seen(sample.where(key), status, before and gone and expired)

    return stage.until(look)


def _rekeyed(stage: Stage) -> Seen:
    device, new = stage.devices[fixtures.REKEYED.device], new_keys()
    old, device.keys = device.keys, new
    return _replaced(stage, fixtures.REKEYED, old.public, f"public_key = '{new.public}', private_key = NULL", "wg1")


def _moved(stage: Stage) -> Seen:
    return _replaced(stage, fixtures.MOVED, stage.key(fixtures.MOVED), "wg_iface = 'wg1', wg_ip = '10.251.0.21'", "wg1")


def _replaced(stage: Stage, spec: DeviceSpec, old: str, assignments: str, interface: str) -> Seen:
    """A row loses one peer and gets another. Its totals must continue from the last counters of the old peer."""
    stage.silence(old)
    before, key = stage.sample().counted(old), stage.key(spec)
    stage.admin(assignments, spec)
    stage.wait(lambda sample: key in sample.peers[interface] and (old == key or sample.find(old) is None))
    stage.scan(spec)
    through = stage.finish(stage.customer(spec).transfer(up=UP, down=DOWN))

    def look(sample: Sample) -> Seen:
        row, since = sample.rows[spec.device], sample.counted(key)
        holders = [name for name, peers in sample.peers.items() if key in peers or old in peers]
        clean = holders == [interface] and (old == key or sample.find(old) is None)
        exact = row.total == before.plus(since) and since.rx > UP and before.rx > UP
        kernel = f"{sample.where(key)}: {before} before, {since} since"
        return Seen(kernel, f"{row.interface} {row.address}: {row.total}", through and clean and exact)

    return stage.until(look)


SCENARIOS = (
    Scenario("the daemon starts", "each row that wants a peer has one", _filled),
    Scenario("a customer scans a QR code", "the first handshake activates the device", _scanned),
    Scenario("known bytes up and down", "the columns say what the kernel counts", _known_bytes),
    Scenario("a QR code ends unscanned", "the row is expired, its peer is gone", _qr_ends),
    Scenario("kill -9 amid traffic", "each byte is accounted once, no peer touched", fault_scenarios.killed),
    Scenario(
        "the database dies, likewise", "each byte is accounted once, no peer touched", fault_scenarios.database_dies
    ),
    Scenario("somebody adds a peer by hand", "it is removed, the always_keep peer stays", fault_scenarios.stray_peer),
    Scenario("a key becomes unreadable", "its peer stays, other rows are served", fault_scenarios.unreadable_key),
    Scenario("a device gets a new key", "the totals go on from the old key's", _rekeyed),
    Scenario("a device moves to wg1", "the totals go on from wg0's", _moved),
    Scenario("an UPDATE without WHERE", "the guard withholds all removals", fault_scenarios.without_where),
    Scenario("the daemon stops", "exit status 0, the peers stay", fault_scenarios.stopped),
)
