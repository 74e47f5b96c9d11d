"""The scenarios of everyday life and of failures.

A scenario makes something happen. It returns the function that compares a sample with what is expected.
"""

from datetime import datetime

from wgsyncd.demo import bandwidth
from wgsyncd.demo.bench import DOWN, UP, Scenario
from wgsyncd.demo.environment import ZONE, Environment
from wgsyncd.demo.fixtures import BROKEN, DEVICES, LATECOMER, MOVED, OUTSIDE, REKEYED, SCANS, UNSCANNED, DeviceSpec
from wgsyncd.demo.observation import Check, Outcome, Row, Sample
from wgsyncd.demo.testbed import new_keys


def _daemon_starts(env: Environment) -> Check[Row]:
    wanted = {("wg0", env.site), *((spec.interface, env.key(spec)) for spec in DEVICES if spec.wants_peer)}
    env.node.start()

    def check(sample: Sample[Row]) -> Outcome:
        named = sample.has_audit("row_rejected", OUTSIDE.device)
        table = f"{len(sample.rows)} rows, the unusable one is {'' if named else 'not '}named"
        return Outcome(f"{len(sample.peers)} peers", table, sample.peers.keys() == wanted and named)

    return check


def _scanned(env: Environment) -> Check[Row]:
    env.scan(SCANS)
    through = env.finish(env.customers[SCANS].transfer(up=UP, down=DOWN))

    def check(sample: Sample[Row]) -> Outcome:
        peer, row = sample.peers.get(("wg0", env.key(SCANS))), sample.rows[SCANS.device]
        with_psk = peer is not None and peer.preshared_key == env.preshared_keys[SCANS]
        at = datetime.fromtimestamp(peer.latest_handshake if peer else 0, ZONE).strftime("%Y-%m-%d %H:%M:%S")
        active = row.status == "active" and sample.has_audit("device_activated", SCANS.device)
        times = row.last_handshake_at == at and None is not row.first_handshake_at == row.activated_at
        table = f"{row.status}, first handshake {row.first_handshake_at}, last {row.last_handshake_at}"
        kernel = f"handshake {at}, with{'' if with_psk else 'out'} its preshared key"
        return Outcome(kernel, table, through and with_psk and active and times)

    return check


def _known_bytes(env: Environment) -> Check[Row]:
    specs = (REKEYED, MOVED)
    for spec in specs:
        env.scan(spec)
    through = env.finish(*[env.customers[spec].transfer(up=UP, down=DOWN, seconds=1) for spec in specs])

    def check(sample: Sample[Row]) -> Outcome:
        kernel = [sample.counted(env.key(spec)) for spec in specs]
        rows = [sample.rows[spec.device] for spec in specs]
        exact = kernel == [row.total for row in rows] == [(row.rx_bytes_24h, row.tx_bytes_24h) for row in rows]
        known = all(UP < rx < 2 * UP and DOWN < tx < 2 * DOWN for rx, tx in kernel)  # TCP and WireGuard add bytes
        table = " and ".join(str(row.total) for row in rows)
        return Outcome(" and ".join(map(str, kernel)), table, through and exact and known)

    return check


def _qr_ends(env: Environment) -> Check[Row]:
    key = env.key(UNSCANNED)
    before = env.sample().has_peer(key)
    env.update(UNSCANNED, f"qr_expires_at = '{env.local_time(1 + 2 * env.pace)}'")

    def check(sample: Sample[Row]) -> Outcome:
        status = sample.rows[UNSCANNED.device].status
        expired = status == "expired" and sample.has_audit("qr_expired", UNSCANNED.device)
        return Outcome(sample.where(key), status, before and expired and not sample.has_peer(key))

    return check


def _foreign_peer(env: Environment) -> Check[Row]:
    key = new_keys().public
    env.node.finish("adopt", "--accept")  # as an admin does after the first start
    env.testbed.server.run("wg", "set", "wg0", "peer", key, "allowed-ips", "10.200.0.77/32")

    def check(sample: Sample[Row]) -> Outcome:
        ok = sample.has_peer(env.site) and not sample.has_peer(key) and sample.has_audit("foreign_peer_removed")
        return Outcome(f"by hand: {sample.where(key)}, site: {sample.where(env.site)}", sample.last_audit, ok)

    return check


def _unreadable_key(env: Environment) -> Check[Row]:
    """Meanwhile the table gets another device. Later the key is readable again."""
    key, before = env.key(BROKEN), env.sample().identities()
    env.update(BROKEN, "public_key = 'scanned wrongly'")
    named = env.wait(lambda sample: sample.has_audit("row_rejected", BROKEN.device))
    env.insert(LATECOMER)
    other = env.key(LATECOMER)
    served = env.wait(lambda sample: sample.has_peer(other) and sample.has_peer(key))
    env.update(BROKEN, f"public_key = '{key}'")

    def check(sample: Sample[Row]) -> Outcome:
        identities = sample.identities()
        identities.pop((LATECOMER.interface, other), None)
        accepted = sample.has_audit("row_accepted", BROKEN.device)
        table = f"{'' if named else 'NOT '}named, then {'' if accepted else 'NOT '}accepted"
        kernel = f"{sample.where(key)}, beside it {sample.where(other)}"
        return Outcome(kernel, table, named and served and accepted and identities == before)

    return check


def _rekeyed(env: Environment) -> Check[Row]:
    old, env.keys[REKEYED] = env.key(REKEYED), new_keys()
    return _replaced(env, REKEYED, old, f"public_key = '{env.key(REKEYED)}', private_key = NULL")


def _moved(env: Environment) -> Check[Row]:
    return _replaced(env, MOVED, env.key(MOVED), "wg_iface = 'wg1', wg_ip = '10.251.0.21'")


def _replaced(env: Environment, spec: DeviceSpec, old: str, assignments: str) -> Check[Row]:
    """A row loses one peer and gets another on wg1. Its totals must continue from the old peer's last counters.

    The wire is cut meanwhile. Bytes between the last dump of a peer and its removal would not be accounted.
    """
    customer, key = env.customers[spec], env.key(spec)
    env.testbed.server.ip(f"link set {customer.wire} down")
    before = env.sample().counted(old)
    env.update(spec, assignments)
    env.wait(lambda sample: sample.holders(old, key) == ["wg1"])
    env.testbed.server.ip(f"link set {customer.wire} up")
    env.scan(spec)
    through = env.finish(customer.transfer(up=UP, down=DOWN))

    def check(sample: Sample[Row]) -> Outcome:
        row, since = sample.rows[spec.device], sample.counted(key)
        exact = row.total == (before.rx + since.rx, before.tx + since.tx) and min(before.rx, since.rx) > UP
        kernel = f"{sample.where(key)}: {before} before, {since} since"
        clean = sample.holders(old, key) == ["wg1"]
        return Outcome(kernel, f"{row.wg_iface} {row.wg_ip}: {row.total}", through and clean and exact)

    return check


def _without_where(env: Environment) -> Check[Row]:
    """A slip pauses every device. The slip is undone when the audit trail reports it."""
    before = env.sample()
    statuses = {row.device_id: row.status for row in before.rows.values()}
    env.database.sql("UPDATE customer_devices SET status = 'paused'")
    withheld = env.wait(lambda sample: sample.has_audit("guard_tripped"))
    cases = " ".join(f"WHEN '{device}' THEN '{status}'" for device, status in statuses.items())
    env.database.sql(f"UPDATE customer_devices SET status = CASE device_id {cases} END")  # noqa: S608

    def check(sample: Sample[Row]) -> Outcome:
        same = sample.identities() == before.identities()
        undone = {row.device_id: row.status for row in sample.rows.values()} == statuses
        still = env.database.sql("SELECT subject FROM wgsyncd_conditions WHERE type LIKE '%guard%'")
        kernel = f"{len(sample.peers)} peers, {'none' if same else 'SOME'} touched"
        table = f"{'' if withheld else 'NOT '}audited, {'still withheld' if still else 'nothing withheld any more'}"
        return Outcome(kernel, table, withheld and same and undone and not still)

    return check


def _daemon_stops(env: Environment) -> Check[Row]:
    before = env.sample().identities()
    env.node.daemon.terminate()

    def check(sample: Sample[Row]) -> Outcome:
        code = env.node.daemon.poll()
        ok = sample.identities() == before and code == 0 and sample.has_audit("daemon_stopped")
        return Outcome(f"{len(sample.peers)} peers", f"exit {code}, {sample.last_audit}", ok)

    return check


_EXACT = "each byte is accounted once, no peer touched"
SCENARIOS: tuple[Scenario[Environment], ...] = (
    Scenario("the daemon starts", "each row that wants a peer has one", _daemon_starts),
    Scenario("a customer scans a QR code", "the first handshake activates the device", _scanned),
    Scenario("known bytes up and down", "the columns say what the kernel counts", _known_bytes),
    Scenario("a QR code ends unscanned", "the row is expired, its peer is gone", _qr_ends),
    Scenario("kill -9 amid traffic", _EXACT, lambda env: env.kill_daemon(env.probe(SCANS))),
    Scenario("the database dies amid it", _EXACT, lambda env: env.kill_database(env.probe(SCANS))),
    Scenario("somebody adds a peer by hand", "it is removed, the always_keep peer stays", _foreign_peer),
    Scenario("a key becomes unreadable", "its peer stays, other rows are served", _unreadable_key),
    Scenario("a device gets a new key", "the totals go on from the old key's", _rekeyed),
    Scenario("a device moves to wg1", "the totals go on from wg0's", _moved),
    Scenario("an UPDATE without WHERE", "the guard withholds all removals", _without_where),
    Scenario("two contracts download", "each has the rate of its profile", bandwidth.bought),
    Scenario("a contract buys more", "the new rate holds within a second", bandwidth.raised),
    Scenario("a monthly cap is reached", "the slow profile holds", bandwidth.capped),
    Scenario("the daemon stops", "exit status 0, the peers stay", _daemon_stops),
)
