"""Keys, networks and addresses have exactly one text each, and no text shows a secret."""

from __future__ import annotations

import base64
import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import key, loose_base64, psk, row, text
from wgsyncd.core.model import (
    NO_PRESHARED_KEY,
    Change,
    ChangeKind,
    PeerConfig,
    PublicKey,
    decode_key,
    encode_key,
    fingerprint,
)
from wgsyncd.core.network import Network, parse_host, parse_network

GOOD = text(1)
BAD_KEYS = {
    "none": None,
    "empty": "",
    "spaces": "   ",
    "word": "not a key",
    "31 bytes": base64.b64encode(bytes(31)).decode(),
    "33 bytes": base64.b64encode(bytes(33)).decode(),
    "no padding": GOOD.rstrip("="),
    "two paddings": GOOD + "=",
    "newline at the end": GOOD + "\n",
    "space before": " " + GOOD,
    "newline inside": GOOD[:20] + "\n" + GOOD[20:],
    "junk inside": GOOD[:20] + "!*" + GOOD[20:],
    "one junk character": "!" + GOOD[1:],
    "url alphabet": base64.urlsafe_b64encode(b"\xff" * 32).decode(),
    "hexadecimal": key(1).hex(),
    "not canonical": loose_base64(key(1)),
    "NUL": GOOD[:-2] + "\0=",
    "emoji": "🔑" * 11,
    "full-width": "Ａ" * 43 + "=",
    "twice": GOOD + GOOD,
}


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_text_that_is_not_strictly_a_key_is_refused(bad: str | None) -> None:
    with pytest.raises(ValueError, match="is|has") as caught:
        decode_key(bad)
    assert not bad or len(bad) < 9 or bad not in str(caught.value)


def test_the_loose_text_really_names_the_same_bytes() -> None:
    assert base64.b64decode(loose_base64(key(1))) == key(1)
    assert loose_base64(key(1)) != text(1)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_has_one_text(raw: bytes) -> None:
    assert decode_key(encode_key(raw)) == raw
    assert len(encode_key(raw)) == 44


@given(st.text(alphabet=string.ascii_letters + string.digits + "+/=\n -_", min_size=40, max_size=48))
def test_what_decodes_is_what_would_be_encoded(any_text: str) -> None:
    try:
        raw = decode_key(any_text)
    except ValueError:
        return
    assert encode_key(raw) == any_text


@given(st.binary(min_size=32, max_size=32))
def test_a_fingerprint_begins_like_the_key_and_is_too_short_to_be_one(raw: bytes) -> None:
    assert encode_key(raw).startswith(fingerprint(raw)[:-1])
    assert len(fingerprint(raw)) == 9


HOSTS = {
    "10.200.0.5": "10.200.0.5/32",
    "10.200.0.5/32": "10.200.0.5/32",
    "fd00::5": "fd00::5/128",
    "fd00:0::5/128": "fd00::5/128",
    "FD00::5": "fd00::5/128",
}


@pytest.mark.parametrize(("written", "meant"), HOSTS.items())
def test_a_host_with_or_without_its_prefix_length_is_the_same(written: str, meant: str) -> None:
    assert str(parse_host(written)) == meant


@pytest.mark.parametrize(
    "bad",
    ["", " ", "10.200.0.5/24", "10.200.0.5/", "10.200.0.5/032", "10.200.0.5/255.255.255.255", "10.200.0.05", "10.200.0",
     "10.200.0.5 ", " 10.200.0.5", "10.200.0.5\n", "10.200.0.5\0", "10.200.0.5/32 ", "10.200.0.5,10.200.0.6", "0/0",
     "10.200.0.256", "fd00::5/64", "fe80::1%eth0", "fe80::1%eth0/128", "167837701", "１０.200.0.5", "localhost", "📱"],
)  # fmt: skip
def test_what_is_not_one_host_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_host(bad)


@given(st.one_of(st.text("0123456789./ :af\0", max_size=18), st.ip_addresses().map(str), st.lists(
    st.one_of(st.integers(0, 300).map(str), st.sampled_from(["", "00", "01", "+1", "1_0", "\u0661"])), min_size=3, max_size=5
).map(".".join)))  # fmt: skip
def test_a_host_is_what_ipaddress_takes_for_one(written: str) -> None:
    try:
        meant = ipaddress.ip_address(written)
    except ValueError:
        meant = None
    try:
        found = parse_host(written)
    except ValueError:
        assert meant is None
    else:
        assert found.packed == ipaddress.ip_address(written.partition("/")[0]).packed
        assert meant is not None or written.partition("/")[2] == str(found.prefixlen)


@pytest.mark.parametrize("bad", ["10.200.0.1/24", "", "10.200.0.0/33", "10.200.0.0/-1", "x"])
def test_a_network_with_host_bits_or_none_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_network(bad)


@pytest.mark.parametrize(
    ("outer", "inner", "covered"),
    [
        ("10.200.0.0/24", "10.200.0.5/32", True),
        ("10.200.0.0/24", "10.200.0.255/32", True),
        ("10.200.0.0/24", "10.200.1.0/32", False),
        ("10.200.0.0/24", "10.199.255.255/32", False),
        ("10.200.0.5/32", "10.200.0.0/24", False),
        ("0.0.0.0/0", "203.0.113.9/32", True),
        ("0.0.0.0/0", "fd00::1/128", False),
        ("::/0", "10.200.0.5/32", False),
        ("fd00::/64", "fd00::ffff/128", True),
    ],
)
def test_covers(outer: str, inner: str, covered: bool) -> None:
    assert parse_network(outer).covers(parse_network(inner)) is covered


@given(st.integers(0, 2**32 - 1), st.integers(0, 32), st.integers(0, 2**32 - 1))
def test_covers_agrees_with_bitwise_and(base: int, length: int, host: int) -> None:
    mask = (2**32 - 1) ^ (2 ** (32 - length) - 1)
    net = Network((base & mask).to_bytes(4), length)
    assert net.covers(Network(host.to_bytes(4), 32)) == (host & mask == base & mask)


def test_no_repr_shows_a_preshared_key() -> None:
    secret = psk(1)
    peer = PeerConfig(key(1), secret, ())
    shown = repr(peer) + repr(row(1, preshared_key=encode_key(secret)))
    shown += repr(Change(ChangeKind.UPDATE, "wg0", key(1), peer, peer))
    for form in (encode_key(secret), secret.hex(), repr(secret)):
        assert form not in shown


ZEROS, ONE, TWO = NO_PRESHARED_KEY, psk(1), psk(2)


@pytest.mark.parametrize(
    ("before", "after", "sent"),
    [
        (ZEROS, ZEROS, False), (ZEROS, ONE, True), (ONE, TWO, True), (ONE, ONE, False),
        (ONE, ZEROS, True),  # a cleared key is sent as zeros, because a key that is left out stays unchanged
        (None, ZEROS, False), (None, ONE, True),
    ],
)  # fmt: skip
def test_a_preshared_key_is_sent_where_it_differs(before: bytes | None, after: bytes, sent: bool) -> None:
    old = PeerConfig(key(1), before, ()) if before is not None else None
    kind = ChangeKind.ADD if old is None else ChangeKind.UPDATE
    assert Change(kind, "wg0", key(1), old, PeerConfig(key(1), after, ())).sets_preshared_key is sent


def test_only_what_differs_is_sent() -> None:
    five, six = (parse_host("10.200.0.5"),), (parse_host("10.200.0.6"),)
    old = PeerConfig(PublicKey(key(1)), ONE, five, 25)
    cases = {old: (False, False, False), old._replace(allowed_ips=six): (True, False, False),
             old._replace(persistent_keepalive=0): (False, True, False),
             old._replace(preshared_key=TWO): (False, False, True)}  # fmt: skip
    for new, sent in cases.items():
        change = Change(ChangeKind.UPDATE, "wg0", old.public_key, old, new)
        assert (change.sets_allowed_ips, change.sets_keepalive, change.sets_preshared_key) == sent
    removal = Change(ChangeKind.REMOVE, "wg0", old.public_key, old, None)
    assert not (removal.sets_allowed_ips or removal.sets_keepalive or removal.sets_preshared_key)


@pytest.mark.parametrize("name", ["spaces", "newline at the end", "space before", "newline inside"])
def test_white_space_in_a_key_is_told_as_such(name: str) -> None:
    """It is not to be seen where people look at a key."""
    with pytest.raises(ValueError, match="has a space or a line break in it"):
        decode_key(BAD_KEYS[name])
