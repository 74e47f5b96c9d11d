"""The play: what happens, what is expected, and what is then seen in the kernel and in the table.

Here the everyday: customers who scan, load and idle, an admin who clicks. What goes wrong:
:mod:`wgsyncd.demo.fault_scenarios`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

from wgsyncd.demo import fault_scenarios, fixtures
from wgsyncd.demo.environment import ZONE, Stage
from wgsyncd.demo.fault_scenarios import DOWN, UP
from wgsyncd.demo.fixtures import Part
from wgsyncd.demo.observation import Bytes, Sample, Seen
from wgsyncd.demo.testbed import new_keys


@dataclass(frozen=True, slots=True)
class Story:
    """One scene. ``play`` makes it happen, and returns when it is as expected or patience is at its end."""

    name: str
    expected: str
    play: Callable[[Stage], Seen]


def _filled(stage: Stage) -> Seen:
    wanted = {stage.key(part): part.interface for part in fixtures.PARTS if part.wants_peer}
    wanted[stage.site.public] = "wg0"
    stage.start_daemon()

    def look(sample: Sample) -> Seen:
        actual = {key: interface for interface, peers in sample.peers.items() for key in peers}
        alive = sum(row.status in ("issued", "active") for row in sample.rows.values())
        named = sample.logged("row_rejected", fixtures.OUTSIDE.device)
        table = f"{alive} of {len(sample.rows)} rows issued or active, unusable row {'' if named else 'not '}named"
        return Seen(f"{len(actual)} peers", table, actual == wanted and named)

    return stage.until(look)


def _scanned(part: Part) -> Callable[[Stage], Seen]:
    def play(stage: Stage) -> Seen:
        stage.scan(part)
        through = stage.finish(stage.customer(part).transfer(up=UP, down=DOWN))

        def look(sample: Sample) -> Seen:
            found, row = sample.find(stage.key(part)), sample.rows[part.device]
            psk = stage.devices[part.device].preshared_key
            at = datetime.fromtimestamp(found[1].latest_handshake if found else 0, ZONE).strftime("%Y-%m-%d %H:%M:%S")
            right_psk = found is not None and found[1].preshared_key == psk
            active = row.status == "active" and sample.logged("device_activated", part.device)
            times = row.last_handshake_at == at and None is not row.first_handshake_at == row.activated_at
            table = f"{row.status}, first handshake {row.first_handshake_at}, last {row.last_handshake_at}"
            kernel = f"handshake {at}{', with its PSK' if psk and right_psk else ''}"
            return Seen(kernel, table, through and right_psk and active and times)

        return stage.until(look)

    return play


def _known_bytes(stage: Stage) -> Seen:
    parts = (fixtures.REKEYED, fixtures.MOVED, fixtures.SWAPPED, fixtures.PAUSED, fixtures.IDLE)
    for part in parts:
        stage.scan(part)
    through = stage.finish(*[stage.customer(part).transfer(up=UP, down=DOWN, seconds=1) for part in parts])

    def look(sample: Sample) -> Seen:
        kernel = [sample.counted(stage.key(part)) for part in parts]
        rows = [sample.rows[part.device] for part in parts]
        exact = kernel == [row.total for row in rows] == [row.last_24h for row in rows]
        known = all(UP < rx < 2 * UP and DOWN < tx < 2 * DOWN for rx, tx in kernel)  # TCP and WireGuard add to it
        return Seen(f"{reduce(Bytes.plus, kernel)}, {len(parts)} customers",
                    f"{reduce(Bytes.plus, [row.total for row in rows])}", through and exact and known)  # fmt: skip

    return stage.until(look)


def _qr_runs_out(stage: Stage) -> Seen:
    part, key = fixtures.UNSCANNED, stage.key(fixtures.UNSCANNED)
    before = stage.sample().find(key) is not None
    stage.admin(f"qr_expires_at = '{stage.local_time(1 + 2 * stage.pace)}'", part)

    def look(sample: Sample) -> Seen:
        status, gone = sample.rows[part.device].status, sample.find(key) is None
        expired = status == "expired" and sample.logged("qr_expired", part.device)
        return Seen(sample.where(key), status, before and gone and expired)

    return stage.until(look)


def _rekeyed(stage: Stage) -> Seen:
    device, new = stage.devices[fixtures.REKEYED.device], new_keys()
    old, device.keys = device.keys, new
    return _replaced(stage, fixtures.REKEYED, old.public, f"public_key = '{new.public}', private_key = NULL", "wg1")


def _moved(stage: Stage) -> Seen:
    return _replaced(stage, fixtures.MOVED, stage.key(fixtures.MOVED), "wg_iface = 'wg1', wg_ip = '10.251.0.21'", "wg1")


def _replaced(stage: Stage, part: Part, old: str, assignments: str, interface: str) -> Seen:
    """One peer goes, another comes, for one row: its totals go on from where the old one ended."""
    stage.silence(old)
    before, key = stage.sample().counted(old), stage.key(part)
    stage.admin(assignments, part)
    stage.wait(lambda sample: key in sample.peers[interface] and (old == key or sample.find(old) is None))
    stage.scan(part)
    through = stage.finish(stage.customer(part).transfer(up=UP, down=DOWN))

    def look(sample: Sample) -> Seen:
        row, since = sample.rows[part.device], sample.counted(key)
        holders = [name for name, peers in sample.peers.items() if key in peers or old in peers]
        clean = holders == [interface] and (old == key or sample.find(old) is None)
        exact = row.total == before.plus(since) and since.rx > UP and before.rx > UP
        kernel = f"{sample.where(key)}: {before} before, {since} since"
        return Seen(kernel, f"{row.interface} {row.address}: {row.total}", through and clean and exact)

    return stage.until(look)


def _swapped(stage: Stage) -> Seen:
    one, other = fixtures.SWAPPED, fixtures.SWAPPED_WITH
    new = {stage.key(one): f"{other.address}/32", stage.key(other): f"{one.address}/32"}
    before = stage.sample()
    click = "UPDATE customer_devices SET wg_ip = '{}' WHERE device_id = '{}';"
    stage.database.sql(  # wg_ip is UNIQUE: over a value that nobody has, in one transaction
        f"START TRANSACTION; {click.format('swap', one.device)} {click.format(one.address, other.device)}"
        f" {click.format(other.address, one.device)} COMMIT"
    )
    stage.wait(lambda sample: all(sample.where(key) == f"wg0 {address}" for key, address in new.items()))
    stage.scan(one)
    through = stage.finish(stage.customer(one).transfer(up=UP, down=DOWN))

    def look(sample: Sample) -> Seen:
        counted, row = sample.counted(stage.key(one)), sample.rows[one.device]
        right = all(sample.where(key) == f"wg0 {address}" for key, address in new.items())
        kept = counted.rx > before.counted(stage.key(one)).rx + UP  # a peer that was taken away counts from zero
        exact = counted == row.total
        others = {key: seen for key, seen in sample.identities().items() if key not in new}
        untouched = others == {key: seen for key, seen in before.identities().items() if key not in new}
        ok = through and right and kept and exact and untouched
        return Seen(", ".join(map(sample.where, new)), f"{row.address}: {row.total}", ok)

    return stage.until(look)


def _paused(stage: Stage) -> Seen:
    part, key = fixtures.PAUSED, stage.key(fixtures.PAUSED)
    stage.silence(key)
    last = stage.sample().counted(key)
    stage.admin(f"status = 'paused', paused_at = '{stage.local_time(0)}', pause_reason = 'demo'", part)

    def look(sample: Sample) -> Seen:
        row = sample.rows[part.device]
        gone = sample.find(key) is None and sample.logged("peer_removed", part.device)
        return Seen(f"{sample.where(key)}, was {last}", f"{row.status}, {row.total}", gone and row.total == last)

    return stage.until(look)


def _revoked(stage: Stage) -> Seen:
    part, key = fixtures.REVOKED, stage.key(fixtures.REVOKED)
    stage.admin("status = 'revoked'", part)

    def look(sample: Sample) -> Seen:
        gone, status = sample.find(key) is None, sample.rows[part.device].status
        return Seen(
            sample.where(key), status, gone and status == "revoked" and sample.logged("peer_removed", part.device)
        )

    return stage.until(look)


def _contract_paused(stage: Stage) -> Seen:
    keys = list(map(stage.key, fixtures.OF_PAUSED_CONTRACT))
    before = all(map(stage.sample().find, keys))
    stage.database.sql("UPDATE contracts SET contract_status = 'paused' WHERE contract_id = '0003'")

    def look(sample: Sample) -> Seen:
        statuses = {sample.rows[part.device].status for part in fixtures.OF_PAUSED_CONTRACT}
        ok = before and not any(map(sample.find, keys)) and statuses == {"active"}
        return Seen(", ".join(map(sample.where, keys)), f"devices still {', '.join(statuses)}", ok)

    return stage.until(look)


def _idle(stage: Stage) -> Seen:
    part, key = fixtures.IDLE, stage.key(fixtures.IDLE)
    stage.silence(key)

    def look(sample: Sample) -> Seen:
        row, counted = sample.rows[part.device], sample.counted(key)
        same = counted == row.total and counted.rx > UP
        return Seen(f"{sample.where(key)}: {counted}", f"{row.status}: {row.total}", same and row.status == "active")

    return stage.until(look)


STORIES = (
    Story("the daemon starts", "a peer for each row that wants one, no others; the unusable row named", _filled),
    Story("a QR is scanned", "the first handshake activates, at the kernel's time", _scanned(fixtures.SCANS)),
    Story("a QR with a preshared key", "the handshake is made with it, and activates", _scanned(fixtures.PRESHARED)),
    Story("known bytes up and down", "totals and 24 h figures are what wg counts", _known_bytes),
    Story("a QR runs out", "expired, and its peer gone", _qr_runs_out),
    Story("kill -9 amid traffic", "every byte booked once, no other peer touched", fault_scenarios.killed),
    Story("the database dies amid traffic", "no peer lost, every byte booked once", fault_scenarios.database_dies),
    Story("a stray peer", "removed; a link that is always kept stays", fault_scenarios.stray_peer),
    Story("a key is unreadable", "its peer stays, the row is named, others are served", fault_scenarios.unreadable_key),
    Story("a device is revoked", "its peer gone", _revoked),
    Story("a device is re-keyed", "old key gone, new key in, totals go on", _rekeyed),
    Story("a device moves to wg1", "gone from wg0, there on wg1, totals go on", _moved),
    Story("two addresses are swapped", "each peer has the other's; none was taken away", _swapped),
    Story("a device is paused", "its peer gone, its last byte booked", _paused),
    Story("a contract is paused", "the peers of its devices gone", _contract_paused),
    Story("an UPDATE without WHERE", "removals withheld, so that it can be undone", fault_scenarios.without_where),
    Story("a device is idle", "still the same peer, nothing booked", _idle),
    Story("the daemon stops", "exit 0, peers stay", fault_scenarios.stopped),
    Story("no key is told", "none in admin_logs, no secret in the log", fault_scenarios.no_key_told),
)
