"""The scenarios of failures: crashes, foreign peers, unreadable rows, an UPDATE without WHERE."""

from __future__ import annotations

from collections.abc import Callable

from wgsyncd.demo import fixtures
from wgsyncd.demo.environment import Stage
from wgsyncd.demo.observation import Sample, Seen
from wgsyncd.demo.testbed import new_keys

UP, DOWN = 300_000, 900_000  # bytes that a customer sends and receives
_SOME = 40_000  # bytes: enough to see that traffic flows


def killed(stage: Stage) -> Seen:
    """The daemon is killed, traffic goes on, the daemon is started again."""

    def crash() -> None:
        stage.daemon.kill()
        stage.daemon.wait()
        _flows(stage)
        stage.start_daemon()

    return _amid_traffic(stage, crash)


def database_dies(stage: Stage) -> Seen:
    """The database is killed, and is away for some polls. The daemon runs on."""

    def crash() -> None:
        stage.database.kill()
        _flows(stage)
        began = stage.sample().at
        stage.wait(lambda sample: sample.at > began + 1.5 * stage.pace)
        stage.database.start()

    pid = stage.daemon.pid
    seen = _amid_traffic(stage, crash)
    if stage.daemon.pid != pid or stage.daemon.poll() is not None:
        return Seen("the daemon died", seen.table, ok=False)
    return seen


def _flows(stage: Stage) -> None:
    """Wait until the customer has sent some more data."""
    key = stage.key(fixtures.SCANS)
    before = stage.sample().counted(key)
    stage.wait(lambda sample: sample.counted(key).rx > before.rx + _SOME)


def _amid_traffic(stage: Stage, crash: Callable[[], None]) -> Seen:
    """Play ``crash`` while a customer transfers data. No peer may be touched, each byte must be accounted once."""
    spec, key, before = fixtures.SCANS, stage.key(fixtures.SCANS), stage.sample()
    transfer = stage.customer(spec).transfer(up=UP, down=DOWN, seconds=3 * stage.pace)
    _flows(stage)
    crash()
    touched = stage.sample().identities() != before.identities()
    through = stage.finish(transfer)

    def look(sample: Sample) -> Seen:
        counted, total = sample.counted(key), sample.rows[spec.device].total
        grown = counted.rx > before.counted(key).rx + UP and counted.tx > before.counted(key).tx + DOWN
        same = not touched and sample.identities() == before.identities()
        ok = through and same and grown and counted == total
        return Seen(f"{counted}, {'no' if same else 'A'} peer touched", str(total), ok)

    return stage.until(look)


def stray_peer(stage: Stage) -> Seen:
    """Somebody adds a peer by hand. It must be removed, and the peer in `always_keep` must stay."""
    key, site = new_keys().public, stage.site.public
    stage.world.server.run("wg", "set", "wg0", "peer", key, "allowed-ips", "10.200.0.77/32")

    def look(sample: Sample) -> Seen:
        kept, gone = sample.find(site) is not None, sample.find(key) is None
        kernel = f"stray: {sample.where(key)}, site link: {sample.where(site)}"
        return Seen(kernel, sample.last_log, kept and gone and sample.logged("foreign_peer_removed"))

    return stage.until(look)


def unreadable_key(stage: Stage) -> Seen:
    """A row's key becomes unreadable, and later readable again. Meanwhile the table gets another device."""
    spec, key, other = fixtures.BROKEN, stage.key(fixtures.BROKEN), new_keys().public
    before = stage.sample().identities()
    stage.admin("public_key = 'scanned wrongly'", spec)
    named = stage.wait(lambda sample: sample.logged("row_rejected", spec.device))
    columns = "contract_id, device_id, wg_iface, wg_ip, public_key, status"
    values = f"'0002', '0002-DEV-007', 'wg1', '10.251.0.27', '{other}', 'active'"
    stage.database.sql(f"INSERT INTO customer_devices ({columns}) VALUES ({values})")  # noqa: S608
    served = stage.wait(lambda sample: sample.find(other) is not None and sample.find(key) is not None)
    stage.admin(f"public_key = '{key}'", spec)

    def look(sample: Sample) -> Seen:
        same = {one: seen for one, seen in sample.identities().items() if one != other} == before
        accepted = sample.logged("row_accepted", spec.device)
        table = f"{'named' if named else 'NOT named'}, {'then accepted' if accepted else 'NOT accepted'}"
        ok = named and served and same and accepted
        return Seen(f"{sample.where(key)}, beside it {sample.where(other)}", table, ok)

    return stage.until(look)


def without_where(stage: Stage) -> Seen:
    """A slip pauses every device. The slip is undone when the audit trail reports it."""
    before = stage.sample()
    statuses = {row.device: row.status for row in before.rows.values()}
    stage.database.sql("UPDATE customer_devices SET status = 'paused'")
    withheld = stage.wait(lambda sample: sample.logged("guard_tripped"))
    cases = " ".join(f"WHEN '{device}' THEN '{status}'" for device, status in statuses.items())
    stage.database.sql(f"UPDATE customer_devices SET status = CASE device_id {cases} END")  # noqa: S608

    def look(sample: Sample) -> Seen:
        same = sample.identities() == before.identities()
        undone = {row.device: row.status for row in sample.rows.values()} == statuses
        standing = stage.database.sql("SELECT subject FROM wgsyncd_conditions WHERE kind LIKE '%guard%'")
        kernel = f"{len(sample.identities())} peers, {'none' if same else 'SOME'} touched"
        table = f"{'' if withheld else 'NOT '}audited, {'still withheld' if standing else 'nothing withheld any more'}"
        return Seen(kernel, table, withheld and same and undone and not standing)

    return stage.until(look)


def stopped(stage: Stage) -> Seen:
    """The daemon gets SIGTERM. It must exit with status 0 and leave all peers."""
    before = stage.sample().identities()
    stage.daemon.terminate()

    def look(sample: Sample) -> Seen:
        same, code = sample.identities() == before, stage.daemon.poll()
        ok = same and code == 0 and sample.logged("daemon_stopped")
        return Seen(f"{len(sample.identities())} peers", f"exit {code}, {sample.last_log}", ok)

    return stage.until(look)
