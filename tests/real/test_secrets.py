"""No key and no password is ever written where others may read it.

The last test searches all output of the whole run, so conftest.py puts it at the end. The first tests cover the most
likely faults.
"""

from __future__ import annotations

import base64
import re
import signal

import pytest

from tests.real.bench import Bench, Device, Ear, random_key, wait

KEY_SHAPED = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=|(?<![0-9A-Fa-f])[0-9A-Fa-f]{64}")

BYTES = re.compile(r"(\\x[0-9a-f]{2}.?){8}")  # Python prints bytes in this form


def test_what_stands_in_the_wrong_column_is_not_repeated(bench: Bench) -> None:
    """Keys stand in place of an address, an interface and a name. Some names try to disguise lines of a terminal."""
    keys = [random_key() for _ in range(4)]
    bench.ear.keep(*keys, keys[1][:32])
    good = bench.make(3)
    bench.insert(
        Device("0001-ip", keys[0]),
        Device("0001-iface", "10.200.0.20", interface=keys[1][:32]),
        Device(keys[2], "192.168.0.9"),
        Device("0001-psk", "10.200.0.21", preshared_key=keys[3][:-1]),
        Device("0001-\x1b[31m\x07\N{RIGHT-TO-LEFT OVERRIDE}", "192.168.0.10"),
    )
    daemon = bench.daemon.start()
    bench.await_peers(*good)
    wait(lambda: len(bench.logs("row_rejected")) == 5, "rejected")
    daemon.metrics()
    said = daemon.cli("status", code=None).stdout + daemon.cli("plan", code=None).stdout
    assert "0001-psk" in said
    assert [c for c in said if not c.isprintable() and c != "\n"] == []
    for text in (said, daemon.cli("status", "--json", code=None).stdout, daemon.cli("plan", "--json", code=None).stdout,
                 daemon.log.read_text(), str(bench.logs())):  # fmt: skip
        assert [key for key in keys if key[:32] in text] == []


def test_errors_do_not_repeat_what_they_choke_on(bench: Bench) -> None:
    """The cases are a password in the configuration, a refused password, and a key in a statement's error."""
    crowd = bench.make(1)
    daemon = bench.daemon.start()
    bench.await_peers(*crowd)
    password = bench.database.password_file.read_text().strip()
    bench.configure({"mikyun.database.password": password, "peers.always_keep": [random_key()[:-1]]})
    daemon.signal(signal.SIGHUP)
    wait(lambda: bench.logs("config_rejected"), "refused")
    assert "mikyun.database.password" in daemon.cli("reload", code=2).stderr
    daemon.cli("reload", "--json", code=2)
    assert "password" in daemon.cli("check-config", code=2).stderr
    wrong = bench.directory / "wrong"
    wrong.write_text(f"{password}x\n")
    bench.configure({"mikyun.database.password_file": str(wrong)})
    assert "1045" in daemon.cli("status", "--no-daemon", code=2).stdout
    bench.configure({"mikyun.database.password_file": None})
    assert "1045" in daemon.cli("plan", "--no-daemon", code=1).stderr
    # error 1406: data too long
    bench.sql("DELETE FROM wgsyncd_peers; ALTER TABLE wgsyncd_peers MODIFY public_key BINARY(3)")
    bench.insert(Device("0001-more", "10.200.0.99", preshared_key=random_key()))
    wait(lambda: daemon.lines(level="error", task="reconcile"), "an error of the server")


def _assert_no_secret(ear: Ear, *sources: str) -> None:
    text = ear.file.read_text(encoding="utf-8", errors="replace")
    for source in sources:
        assert ear.heard.get(source, 0) > 200, f"too little was heard of {source}: {ear.heard}"
    assert len(ear.secrets) > 15
    assert len(text) >= sum(ear.heard.values())
    said = "\n".join({word for word in text.split() if len(word) > 20})  # each word once, because many are equal
    found = {form for secret in ear.secrets for form in _forms(secret) if form in said}
    lines = [line for line in text.splitlines() if KEY_SHAPED.search(line) or BYTES.search(line)]
    assert not found, f"{len(found)} secrets were said"
    assert not lines, "a key-shaped text was said"


def _forms(secret: str) -> set[str]:
    """Returns the secret itself, or a key without padding, in hexadecimal and in the URL-safe alphabet."""
    try:
        raw = base64.b64decode(secret, validate=True)
    except ValueError:
        return {secret}
    if len(raw) != 32:
        return {secret}
    return {secret[:-1], raw.hex(), raw.hex().upper(), secret[:-1].translate({43: "-", 47: "_"})}


def test_the_search_would_find_one(ear: Ear) -> None:
    key = random_key()
    assert KEY_SHAPED.search(f"peer={key} refused")
    assert KEY_SHAPED.search(f"peer={base64.b64decode(key).hex()}")
    assert not KEY_SHAPED.search(f"peer={key[:8]}… refused; plan 0123456789ab")


def test_nothing_that_was_said_in_this_run_holds_a_secret(ear: Ear) -> None:
    _assert_no_secret(ear, "log", "admin_logs", "metrics", "cli", "notices")


@pytest.mark.vm
def test_nothing_that_was_said_in_this_run_on_the_kernel_holds_a_secret(ear: Ear) -> None:
    _assert_no_secret(ear, "log", "admin_logs", "metrics")
