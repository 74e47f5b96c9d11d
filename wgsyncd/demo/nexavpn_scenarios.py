"""The scenarios on NexaVPN.

A scenario makes something happen. It returns the function that compares a sample with what is expected.
"""

from wgsyncd.demo.bench import DOWN, UP, Scenario
from wgsyncd.demo.nexavpn import Device, Environment
from wgsyncd.demo.nexavpn_fixtures import (
    DEVICES,
    LAPTOP,
    OF_DAVE,
    ROTATED,
    TRAVELLER,
    UNALLOCATED,
    USERS,
    WAITING,
    DeviceSpec,
    identify,
    role,
)
from wgsyncd.demo.observation import Bytes, Check, Outcome, Sample
from wgsyncd.demo.processes import CommandFailed

_KEEPALIVES = 2 * 32  # bytes that a client and a server may still send to each other (WireGuard's timers)
_NEW_ADDRESS = "10.251.0.13"  # of the device that moves
# What a thief tries with the role of gateway fra1.
_FORBIDDEN = (
    "SELECT password_hash FROM public.users",
    "SELECT email FROM public.users",
    "SELECT preshared_key_ciphertext FROM public.wireguard_peers",
    "SELECT message FROM public.audit_logs",
    "UPDATE public.devices SET status = 'active'",
    "UPDATE wgsyncd.devices SET status = 'active'",
    "UPDATE wgsyncd.nodes SET gateways = ARRAY(SELECT id FROM gateways)",
    "SET ROLE wgsyncd_owner",
    "SET SESSION AUTHORIZATION wgsyncd_tyo1",
)


def _daemons_start(env: Environment) -> Check[Device]:
    wanted = {(spec.gateway, env.key(spec)) for spec in DEVICES if spec.wants_peer}
    for node in env.nodes:
        node.start()

    def check(sample: Sample[Device]) -> Outcome:
        named = sample.has_audit("gateway.row_rejected", UNALLOCATED.id)
        table = f"{len(sample.rows)} devices, the one without an allocation is {'' if named else 'not '}named"
        return Outcome(f"{len(sample.peers)} peers", table, sample.peers.keys() == wanted and named)

    return check


def _approved(env: Environment) -> Check[Device]:
    key = env.key(WAITING)
    before = env.sample().has_peer(key)
    env.database.sql(f"UPDATE devices SET approved_at = now() WHERE id = '{WAITING.id}'")  # noqa: S608
    env.wait(lambda sample: sample.has_peer(key))
    through = env.finish(env.configure(WAITING, "fra1", WAITING.address).transfer(up=UP, down=DOWN))

    def check(sample: Sample[Device]) -> Outcome:
        peer, row = sample.peers.get(("fra1", key)), sample.rows[WAITING.id]
        with_psk = peer is not None and peer.preshared_key == env.preshared_keys[WAITING.name]
        at = peer.latest_handshake if peer else 0
        audited = sample.has_audit("gateway.peer_added", WAITING.id)
        kernel = f"handshake {at}, with{'' if with_psk else 'out'} its preshared key"
        table = f"last seen {row.seen}, connected {row.connected}"
        ok = not before and through and with_psk and audited and at > 0 and row.seen == at == row.connected
        return Outcome(kernel, table, ok)

    return check


def _known_bytes(env: Environment) -> Check[Device]:
    specs = (LAPTOP, TRAVELLER, OF_DAVE[0])
    transfers = [env.configure(one, "fra1", one.address).transfer(up=UP, down=DOWN, seconds=1) for one in specs]
    through = env.finish(*transfers)

    def check(sample: Sample[Device]) -> Outcome:
        kernel = [sample.counted(env.key(spec)) for spec in specs]
        view = [sample.rows[spec.id].total for spec in specs]
        known = all(UP < rx < 2 * UP and DOWN < tx < 2 * DOWN for rx, tx in kernel)  # TCP and WireGuard add bytes
        return Outcome(
            " and ".join(map(str, kernel)), " and ".join(map(str, view)), through and kernel == view and known
        )

    return check


def _rotated(env: Environment) -> Check[Device]:
    """The application makes a new preshared key and seals it with another key id. Then the client gets it."""
    key, before, old = env.key(LAPTOP), env.sample(), env.preshared_keys[LAPTOP.name]
    envelope, new = env.new_preshared_key(LAPTOP, ROTATED), env.preshared_keys[LAPTOP.name]
    env.database.sql(
        f"UPDATE wireguard_peers SET preshared_key_ciphertext = '{envelope}' WHERE id = '{LAPTOP.peer_id}'"  # noqa: S608
    )
    env.wait(lambda sample: (peer := sample.peers.get(("fra1", key))) is not None and peer.preshared_key == new)
    customer = env.configure(LAPTOP, "fra1", LAPTOP.address)
    through = env.finish(customer.transfer(up=UP, down=DOWN))

    def check(sample: Sample[Device]) -> Outcome:
        peer, counted, total = sample.peers.get(("fra1", key)), sample.counted(key), sample.rows[LAPTOP.id].total
        has_new = peer is not None and old != peer.preshared_key == new
        same = sample.identities().keys() == before.identities().keys()
        grown = counted.rx > before.counted(key).rx + UP
        kernel = f"{'the new' if has_new else 'NOT the new'} key, {counted}"
        return Outcome(kernel, str(total), through and has_new and same and grown and counted == total)

    return check


def _user_disabled(env: Environment) -> Check[Device]:
    """A user has a device at each gateway. Later the user is let in again."""
    before, keys = env.sample(), [env.key(spec) for spec in OF_DAVE]
    others = {which for which in before.peers if which[1] not in keys}
    _set_active(env, OF_DAVE[0], "false")
    gone = env.wait(lambda sample: not sample.holders(*keys) and sample.peers.keys() == others)
    _set_active(env, OF_DAVE[0], "true")

    def check(sample: Sample[Device]) -> Outcome:
        back = set(sample.holders(*keys)) == {spec.gateway for spec in OF_DAVE}
        audited = all(sample.has_audit("gateway.peer_removed", spec.id) for spec in OF_DAVE)
        kept, counted = sample.rows[OF_DAVE[0].id].total, before.counted(keys[0])
        exact = all(0 <= one - other <= _KEEPALIVES for one, other in zip(kept, counted, strict=True))
        kernel = f"peers {'gone' if gone else 'NOT gone'}, then {'back' if back else 'NOT back'}"
        return Outcome(kernel, f"{kept} kept", gone and back and audited and exact)

    return check


def _set_active(env: Environment, spec: DeviceSpec, value: str) -> None:
    env.database.sql(f"UPDATE users SET is_active = {value} WHERE id = '{identify('users', spec.user)}'")  # noqa: S608


def _denied(env: Environment) -> Check[Device]:
    """A policy denies a group the gateway's address. A device of another group transfers meanwhile, then it ends."""
    spec, policy, group = OF_DAVE[0], identify("policies", "deny"), identify("groups", USERS[OF_DAVE[0].user])
    waiting, other = env.configure(spec, "fra1", spec.address), env.customer(LAPTOP)
    before, kept = env.profile(spec), env.profile(LAPTOP)
    env.database.transact(
        f"INSERT INTO policies (id, name, priority, effect) VALUES ('{policy}', 'deny', 10, 'deny');",  # noqa: S608
        f"INSERT INTO policy_targets (policy_id, target_type, target_id) VALUES ('{policy}', 'group', '{group}');",  # noqa: S608
        f"INSERT INTO policy_destinations (policy_id, destination) VALUES ('{policy}', '10.200.0.1/32');",  # noqa: S608
    )
    changed = env.wait(lambda _: env.profile(spec) != before) and env.profile(LAPTOP) == kept
    transfer = waiting.transfer(up=UP, down=DOWN)
    others = env.finish(other.transfer(up=UP, down=DOWN, seconds=env.pace))
    refused = transfer.poll() is None
    env.database.sql(f"UPDATE policies SET deleted_at = now() WHERE id = '{policy}'")  # noqa: S608
    through = env.finish(transfer)

    def check(_: Sample[Device]) -> Outcome:
        back = env.profile(spec) == before == kept != ""
        kernel = f"{'refused' if refused else 'NOT refused'}, then {'through' if through else 'NOT through'}"
        table = f"the filter {'changed' if changed else 'has NOT changed'}, and {'is' if back else 'is NOT'} as before"
        return Outcome(kernel, table, changed and refused and others and through and back)

    return check


def _moved(env: Environment) -> Check[Device]:
    """The wire is cut meanwhile. Nobody could compare bytes between the last dump of a peer and its removal."""
    key, gateway = env.key(TRAVELLER), identify("gateways", "tyo1")
    env.set_wire(TRAVELLER, "fra1", "down")
    before = env.sample().counted(key)
    sealed = env.seal(TRAVELLER, "tyo1")
    env.database.transact(
        f"UPDATE devices SET gateway_id = '{gateway}' WHERE id = '{TRAVELLER.id}';",  # noqa: S608
        f"UPDATE ip_allocations SET gateway_id = '{gateway}', address = '{_NEW_ADDRESS}' WHERE device_id = '{TRAVELLER.id}';",  # noqa: E501, S608
        f"UPDATE wireguard_peers SET gateway_id = '{gateway}', assigned_ip = '{_NEW_ADDRESS}',"  # noqa: S608
        f" preshared_key_ciphertext = '{sealed}' WHERE id = '{TRAVELLER.peer_id}';",
    )
    env.wait(lambda sample: sample.holders(key) == ["tyo1"])
    through = env.finish(env.configure(TRAVELLER, "tyo1", _NEW_ADDRESS).transfer(up=UP, down=DOWN))

    def check(sample: Sample[Device]) -> Outcome:
        total, since = sample.rows[TRAVELLER.id].total, sample.counted(key)
        exact = total == Bytes(before.rx + since.rx, before.tx + since.tx) and min(before.rx, since.rx) > UP
        kernel = f"{sample.where(key)}: {before} before, {since} since"
        return Outcome(kernel, str(total), through and exact and sample.holders(key) == ["tyo1"])

    return check


def _role_stolen(env: Environment) -> Check[Device]:
    """The thief has the password of gateway fra1. An admin sees that there is something to steal."""
    name, file = role("fra1"), env.nodes[0].directory / "password"
    open_to = [text for text in _FORBIDDEN if not _is_refused(env, text)]
    seen = env.database.sql_of(
        name, file,
        "SELECT g.name, count(p.preshared_key_ciphertext) FROM wgsyncd.wireguard_peers p"
        " LEFT JOIN wgsyncd.gateways g ON g.id = p.gateway_id GROUP BY 1",
    ).split()  # fmt: skip
    here = _count(env, "wireguard_peers", f"gateway_id = '{identify('gateways', 'fra1')}'")
    there = _count(env, "wireguard_peers", f"gateway_id = '{identify('gateways', 'tyo1')}'")
    hashes = _count(env, "users", "password_hash <> ''")

    def check(_: Sample[Device]) -> Outcome:
        ok = not open_to and seen == [f"fra1|{here}"] and there > 0 and hashes == len(USERS)
        refused = f"{len(_FORBIDDEN) - len(open_to)} of {len(_FORBIDDEN)} attempts refused {' '.join(open_to)}"
        return Outcome(refused.strip(), f"seen: {' '.join(seen)}, there are {there} at tyo1, {hashes} hashes", ok)

    return check


def _is_refused(env: Environment, text: str) -> bool:
    try:
        env.database.sql_of(role("fra1"), env.nodes[0].directory / "password", text)
    except CommandFailed as error:
        return str(error).startswith("permission denied")
    return False


def _count(env: Environment, table: str, condition: str) -> int:
    return int(env.database.sql(f"SELECT count(*) FROM {table} WHERE {condition}"))  # noqa: S608


def _daemons_stop(env: Environment) -> Check[Device]:
    before = env.sample().identities()
    for node in env.nodes:
        node.daemon.terminate()

    def check(sample: Sample[Device]) -> Outcome:
        codes = [node.daemon.poll() for node in env.nodes]
        stopped = sum(action == "gateway.daemon_stopped" for action, _ in sample.audit)
        ok = sample.identities() == before and codes == [0, 0] and stopped >= len(codes)
        return Outcome(f"{len(sample.peers)} peers", f"exit {codes}, {stopped} audited", ok)

    return check


_EXACT = "each byte is accounted once, no peer touched"
SCENARIOS: tuple[Scenario[Environment], ...] = (
    Scenario("two gateways start", "each has the peers of its own rows", _daemons_start),
    Scenario("an admin approves a device", "it connects, with its preshared key", _approved),
    Scenario("known bytes up and down", "the view says what the kernel counts", _known_bytes),
    Scenario("a preshared key is rotated", "the peer has the new one, and its bytes", _rotated),
    Scenario("kill -9 amid traffic", _EXACT, lambda env: env.kill_daemon(env.probe(LAPTOP))),
    Scenario("the database dies amid it", _EXACT, lambda env: env.kill_database(env.probe(LAPTOP))),
    Scenario("a user is disabled", "the user's peers go, no other", _user_disabled),
    Scenario("a policy denies a group", "its packets are refused, others pass", _denied),
    Scenario("a device moves to tyo1", "its bytes go on from fra1's", _moved),
    Scenario("the role of fra1 is stolen", "no hash, no other gateway's preshared key", _role_stolen),
    Scenario("the daemons stop", "exit status 0, the peers stay", _daemons_stop),
)
