"""The service keeps its promises as seen by wg(8), a second SQL client and MariaDB's own counters."""

from __future__ import annotations

import json
import re

import pytest

from tests.real import counting
from tests.real.bench import PATIENCE, Bench, Device, both_kinds, random_key, real_device, wait
from wgsyncd.demo.testbed import ServerInterface, new_keys

READING = re.compile(r"(SELECT|SHOW|START TRANSACTION|COMMIT|SET SESSION|SET AUTOCOMMIT|SET NAMES)\b")


@both_kinds
def test_ten_cycles_without_a_change_write_nothing(bench: Bench) -> None:
    """Ten reconciles and three polls send no statement that writes and no message that sets something."""
    crowd = [*bench.make(20), *bench.make(5, interface="wg1")]
    bench.insert(Device("0001-psk", "10.200.0.9", preshared_key=random_key()), Device("0001-bad", "10.9.9.9"))
    with counting.wireguard(bench) as counted:
        daemon = bench.daemon.start()
        wait(lambda: len(bench.peers()) == 21, "peers")
        daemon.reconcile(2)
        assert sum(one.sets for one in counted) >= 2  # this proves that the counters count
        log = counting.general_log(bench)
        before, sets = counting.writes(bench), sum(one.sets for one in counted)
        gets, accounts = sum(one.gets for one in counted), daemon.cycles("account")
        daemon.reconcile(10)
        wait(lambda: daemon.cycles("account") > accounts + 3, "three polls and the begin of a fourth")
        assert sum(one.gets for one in counted) >= gets + 2 * 13  # there are two interfaces
        assert sum(one.sets for one in counted) == sets
        after = counting.writes(bench)
        bench.sql("SET GLOBAL general_log = 0")
        bench.sql(f"UPDATE customer_devices SET wg_ip = '10.200.0.200' WHERE device_id = '{crowd[0].device}'")
        wait(lambda: bench.peers()[crowd[0].keys.public].allowed_ips == "10.200.0.200/32", "a change is still made")
        assert sum(one.sets for one in counted) == sets + 1
    said = re.findall(r"\t(?: *\d+ )?Query\t(.*)", log.read_text(errors="replace"))
    assert len(said) > 10 * 3  # each reconcile asks that often at least, so the log is complete
    # The second client makes its own statements. All other statements only read.
    beats = [one for one in said if "wgsyncd_nodes n JOIN wgsyncd_boots" in one]  # one a minute
    assert [
        one for one in said if not READING.match(one.strip()) and "general_log" not in one and one not in beats
    ] == []
    assert after == before or beats


@both_kinds
def test_after_a_reboot_all_is_restored(bench: Bench) -> None:
    """Interfaces are new and empty after a reboot. Each peer is added with one audit row, and the totals continue."""
    held = real_device("0001-held", "10.200.0.9", preshared_key=random_key())
    bench.insert(held)
    on_wg0, on_wg1 = [held, *bench.make(40)], bench.make(15, interface="wg1")
    daemon = bench.daemon.start()
    bench.await_peers(*on_wg0)
    customer = bench.customer(held)
    assert customer.transfer(up=100_000, down=50_000).wait(PATIENCE) == 0
    figures = "SELECT rx_bytes_total rx, tx_bytes_total tx FROM customer_devices WHERE device_id = '0001-held'"
    daemon.stop()
    first = {name: int(value or 0) for name, value in bench.sql(figures)[0].items()}
    assert first["rx"] > 100_000
    audited = len(bench.logs())
    for name in ("wg0", "wg1"):
        bench.world.server.run("ip", "link", "del", name)
        bench.remake(name)
    assert not bench.peers()
    daemon.start()
    bench.await_peers(*on_wg0)
    bench.await_peers(*on_wg1, interface="wg1")
    assert bench.peers()[held.keys.public].preshared_key == held.preshared_key
    customer.configure(bench.world.interfaces["wg0"], held.keys, held.address, held.preshared_key)
    assert customer.transfer(up=200_000, down=70_000).wait(PATIENCE) == 0

    def even() -> bool:
        peer, row = bench.peers()[held.keys.public], bench.sql(figures)[0]
        return (first["rx"] + peer.rx, first["tx"] + peer.tx) == (int(row["rx"] or 0), int(row["tx"] or 0))

    wait(even, "the books are even")
    daemon.stop()
    news = [one[:2] for one in bench.logs()[audited:]]
    assert sorted(news) == [("daemon_started", "bench"), ("daemon_stopped", "bench"),
                            ("interface_restored", "wg0"), ("interface_restored", "wg1")]  # fmt: skip


def test_bad_rows_stop_nobody(bench: Bench) -> None:
    """Each kind of invalid row is beside 200 valid ones.

    The valid rows are served, the actual peers of the invalid ones are frozen, and each invalid row is reported.
    """
    # not every installation has these indexes
    bench.sql("ALTER TABLE customer_devices DROP INDEX public_key, DROP INDEX wg_ip")
    good = bench.make(200)
    key, psk, server = random_key(), random_key()[:42] + "==", bench.world.interfaces["wg0"]
    bench.ear.keep(key, psk)
    kinds = {  # device: (SET of the row that was valid, reason)
        "text": ("public_key = 'not a key'", "bad_key"),
        "null": ("public_key = NULL", "bad_key"),
        "junk": (f"public_key = '{key[:10]}!!{key[10:]}'", "bad_key"),
        "blank": (f"public_key = ' {key}'", "bad_key"),
        "canon": (f"public_key = '{_other_form(key)}'", "bad_key"),
        "zeros": (f"public_key = '{'A' * 43}='", "bad_key"),
        "psk31": (f"preshared_key = '{psk}'", "bad_preshared_key"),
        "pskbad": (f"preshared_key = '{random_key()[:-1]}'", "bad_preshared_key"),
        "outside": ("wg_ip = '192.168.0.1'", "address_outside"),
        "prefix": ("wg_ip = '10.200.0.250/24'", "bad_address"),
        "word": ("wg_ip = '10.200.0.x'", "bad_address"),
        "key": (f"wg_ip = '{key}'", "bad_address"),
        "nulip": ("wg_ip = NULL", "bad_address"),
        "own": ("wg_ip = '10.200.0.1'", "interface_address"),
        "same": (f"wg_ip = '{good[0].address}/32'", "duplicate_address"),
        "twice": (f"public_key = '{good[1].keys.public}'", "duplicate_key"),
        "ours": (f"public_key = '{server.keys.public}'", "interface_key"),
        "wg7": ("wg_iface = 'wg7'", "unknown_interface"),
        "date": ("status = 'issued', qr_expires_at = 0, issued_at = NULL, created_at = 0", "no_deadline"),
    }
    # a row with another readable key belongs to another peer, so these rows never had one
    new = ("zeros", "twice", "ours")
    rows = [Device(name, f"10.200.0.{n}") for n, name in enumerate(kinds, 220)]
    frozen = [one for one in rows if one.device not in new]
    bench.insert(*rows)
    changes = {name: f"UPDATE customer_devices SET {change} WHERE device_id = '{name}';"
               for name, (change, _) in kinds.items()}  # fmt: skip
    bench.sql("".join(changes.pop(name) for name in new))
    named = Device("0001-named", "10.200.0.219", name="\N{MOBILE PHONE} \x1b[31m\N{RIGHT-TO-LEFT OVERRIDE}")
    bench.insert(named)
    daemon = bench.daemon.start()
    bench.await_peers(*good, *frozen, named)
    before = bench.peers()
    bench.sql("SET SESSION sql_mode = ''; START TRANSACTION;"
              + "".join(changes.values())
              + "UPDATE customer_devices SET device_id = CONCAT('0001-', CHAR(0, 10), UNHEX('F09F93B1')),"
                " device_name = CHAR(0) WHERE device_id = '0001-named'; COMMIT")  # fmt: skip
    wait(lambda: len(bench.logs("row_rejected")) >= len(kinds), "rejected")
    more = Device("0001-more", "10.200.0.240")
    bench.insert(more)
    wait(lambda: more.keys.public in bench.peers(), "a good row is served")
    after = dict(bench.peers())
    del after[more.keys.public]
    # this includes the peers of unreadable keys, because nobody can tell which row they belong to
    assert after == before
    rejected = {one["device"]: one["reason"] for one in daemon.status()["rejected"]}
    assert rejected == {name: reason for name, (_, reason) in kinds.items()}
    audited = bench.logs("row_rejected")
    assert {target: message for _, target, message in audited} == {
        name: f"Row is rejected ({reason}). Its live peer, if any, stays as it is"
        for name, (_, reason) in kinds.items()
    }
    metrics = daemon.metrics()
    reasons = [reason for _, reason in kinds.values()]
    for reason in set(reasons):
        assert metrics[f'wgsyncd_rejected_rows{{reason="{reason}"}}'] == reasons.count(reason)
    for command in ("status", "plan"):
        said = daemon.cli(command, code=None).stdout
        assert all(c.isprintable() or c == "\n" for c in said)
        assert all(name in said for name in kinds) or command == "status", "which is one screen"
    assert "rows are ignored because of errors: row " in daemon.cli("status", code=None).stdout
    daemon.reconcile(2)
    # the row is audited when the condition starts, not at each cycle
    assert len(bench.logs("row_rejected")) == len(kinds)
    bench.sql("".join(f"UPDATE customer_devices SET public_key = '{one.keys.public}', wg_ip = '{one.address}',"
                      f" preshared_key = NULL, wg_iface = 'wg0', status = 'active' WHERE device_id = '{one.device}';"
                      for one in rows))  # fmt: skip
    wait(lambda: len(bench.logs("row_accepted")) == len(kinds), "accepted")
    assert daemon.status()["rejected"] == []
    bench.await_peers(*good, *rows, named, more)


def _other_form(key: str) -> str:
    """Returns the same 32 bytes in base64 that is not canonical, with the two spare bits of the last character set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return key[:42] + alphabet[alphabet.index(key[42]) | 1] + "="


@pytest.mark.parametrize(
    "accident",
    ["DELETE FROM customer_devices", "UPDATE customer_devices SET status = 'paused'", "DELETE FROM contracts"],
)
def test_an_accident_removes_nobody_until_an_admin_says_so(bench: Bench, accident: str) -> None:
    crowd, others = bench.make(40), bench.make(10, interface="wg1")
    daemon = bench.daemon.start()
    bench.await_peers(*others, interface="wg1")
    bench.sql(accident)
    wait(lambda: bench.logs("guard_tripped"), "guard")
    daemon.reconcile(2)
    bench.await_peers(*crowd)
    bench.await_peers(*others, interface="wg1")
    assert daemon.metrics()["wgsyncd_guard_tripped"] == 1
    plan = json.loads(daemon.cli("plan", "--json", code=2).stdout)
    assert (plan["changes"], len(plan["withheld"])) == ([], 50)
    plan_id = plan["guard"]["plan"]
    assert f"{daemon.proposed('approve')} {plan_id}" in daemon.cli("plan", code=2).stdout
    assert plan_id in bench.logs("guard_tripped")[0][2]
    assert daemon.notices.has(f"STATUS=NOTHING REMOVED: the guard keeps 50 peers ({daemon.proposed('plan')})…")
    assert plan_id in daemon.cli("approve", "0" * 32, code=1).stderr  # only the id of this plan is accepted
    bench.await_peers(*crowd)
    daemon.cli("approve", plan_id)
    bench.await_peers()
    bench.await_peers(interface="wg1")
    wait(lambda: bench.logs("guard_approved"), "audited")
    assert len(bench.logs("guard_tripped")) == 1
    wait(lambda: daemon.metrics()["wgsyncd_guard_tripped"] == 0, "gauge down")
    assert "nothing is withheld" in daemon.cli("approve", plan_id, code=1).stderr


def test_an_approval_is_for_exactly_that_set(bench: Bench) -> None:
    crowd = bench.make(40)
    daemon = bench.daemon.start()
    bench.await_peers(*crowd)
    bench.sql(f"UPDATE customer_devices SET status = 'paused' WHERE device_id <> '{crowd[0].device}'")
    wait(lambda: bench.logs("guard_tripped"), "guard")
    daemon.stop()
    daemon.cli("approve", daemon.status()["guard"]["plan"])
    bench.sql("UPDATE customer_devices SET status = 'paused'")  # this is one removal more than the approved plan has
    daemon.start()
    daemon.reconcile()
    bench.await_peers(*crowd)
    assert not bench.logs("guard_approved")


def test_two_nodes_share_a_database(bench: Bench) -> None:
    """With `store_name = "…"` each node serves its own interface. A device that moves is right on both nodes."""
    one = bench.daemon
    no_wg0 = {"interfaces.wg0.networks": None, "interfaces.wg0.addresses": None}
    no_wg1 = {"interfaces.wg1.networks": None, "interfaces.wg1.addresses": None}
    first = {"interfaces.wg0.store_name": "tokyo0", "node.ignored_interfaces": ["osaka0"]}
    second = {"interfaces.wg1.store_name": "osaka0", "node.ignored_interfaces": ["tokyo0"], "metrics.listen": "127.0.0.1:9587",
              "interfaces.wg1.networks": ["10.200.0.0/24"]}  # fmt: skip
    bench.configure({**first, **no_wg1}, one)
    two = bench.add_daemon("two", {**second, **no_wg0})
    tokyo = [Device(f"t{n}", f"10.200.0.{n}", "tokyo0") for n in range(10, 30)]
    osaka = [Device(f"o{n}", f"10.200.0.{n}", "osaka0") for n in range(30, 50)]
    bench.insert(*tokyo, *osaka)
    one.start()
    two.start()
    bench.await_peers(*tokyo)
    bench.await_peers(*osaka, interface="wg1")
    bench.sql(f"UPDATE customer_devices SET wg_iface = 'osaka0' WHERE device_id = '{tokyo[0].device}'")
    bench.await_peers(*tokyo[1:])
    bench.await_peers(*osaka, tokyo[0], interface="wg1")
    for daemon in (one, two):
        status = daemon.status()
        assert (status["rejected"], status["pending"], status["withheld"]) == ([], {}, 0)
        daemon.stop()
        assert daemon.lines(level="error") == []
    assert not bench.logs("row_rejected")
    assert {row["node"] for row in bench.sql("SELECT node FROM wgsyncd_nodes")} == {"bench", "two"}


@pytest.mark.vm
@pytest.mark.parametrize("kind", ["kernel"])
def test_an_interface_of_our_own_is_made_and_made_again(bench: Bench) -> None:
    keys = new_keys()
    bench.ear.keep(*keys)
    file = bench.directory / "wg2.key"
    file.touch(0o600)
    file.write_text(keys.private + "\n")
    bench.configure({"interfaces.wg2.networks": ["10.252.0.0/24"], "interfaces.wg2.addresses": ["10.252.0.1/24"],
                       "interfaces.wg2.create": True, "interfaces.wg2.private_key_file": str(file),
                       "interfaces.wg2.listen_port": 51900, "interfaces.wg2.mtu": 1400})  # fmt: skip
    bench.world.interfaces["wg2"] = ServerInterface("wg2", keys, 51900, "10.252.0.1")
    crowd = [Device(f"0001-{n}", f"10.252.0.{n}", "wg2") for n in range(10, 15)]
    bench.insert(*crowd)
    daemon = bench.daemon.start()
    bench.await_peers(*crowd, interface="wg2")
    _is_as_configured(bench, keys.public)
    bench.world.server.run("ip", "link", "del", "wg2")
    wait(lambda: bench.logs("interface_restored"), "made again")
    bench.await_peers(*crowd, interface="wg2")
    _is_as_configured(bench, keys.public)
    assert [target for _, target, _ in bench.logs("interface_restored")] == ["wg2"]
    assert len(daemon.lines(event="interface was missing and has been made")) == 2
    assert not bench.logs("interface_missing")
    assert len(bench.logs("peer_added")) == 5


def _is_as_configured(bench: Bench, public_key: str) -> None:
    server = bench.world.server
    assert server.run("wg", "show", "wg2", "public-key").strip() == public_key
    assert server.run("wg", "show", "wg2", "listen-port").strip() == "51900"
    [link] = json.loads(server.run("ip", "-json", "address", "show", "wg2"))
    assert (link["mtu"], "UP" in link["flags"]) == (1400, True)
    assert [(one["local"], one["prefixlen"]) for one in link["addr_info"]] == [("10.252.0.1", 24)]
