"""A fault of the configuration names its line, and proposes the key or section that is probably meant."""

from __future__ import annotations

import re

import pytest

from tests.configuring import LEAST, faults
from tests.core.test_config import ONE_BY_ONE, written
from wgsyncd.config import resources
from wgsyncd.config.load import parse


def test_every_fault_names_the_line_of_its_key() -> None:
    for fault in ONE_BY_ONE:
        text = "# a comment\n\n" + written([fault])
        (found,) = [one for one in faults(text).values() if one.key == fault[2]]
        if found.line is None:
            assert fault[2].rpartition(".")[2] not in text, "it names a key that is missing"
            continue
        line = text.split("\n")[found.line - 1]
        assert line == fault[1] or line == f"[{fault[2]}]"
        assert f" (line {found.line}): " in str(found)


def test_the_shipped_file_has_each_key_on_its_own_line() -> None:
    """Each value of the shipped file is replaced by a wrong one."""
    text = resources.text("wgsyncd.toml")
    section, tried = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        section = found[1] if (found := re.match(r"\[(.*)\]", line)) else section
        if (found := re.match(r"(\w+) +=", line)) and section:
            lines = text.split("\n")
            lines[number - 1] = f"{found[1]} = {{ nothing = 1 }}"
            assert faults("\n".join(lines))[f"{section}.{found[1]}"].line == number
            tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        (
            '[interfaces.wg0]\nnetworks = [\n  "10.200.0.0/24", # one\n\n  "nonsense",\n]\n',
            "interfaces.wg0.networks",
            2,
        ),
        (f"{LEAST}[node]\r\nzone = 5\r\n", "node.zone", 4),
        (f'{LEAST}[node]\nname = """\n[guard]\nmax_share = 5\n"""\nzone = 5\n', "node.zone", 8),
        (f"guard.max_share = 5\n{LEAST}", "guard.max_share", 1),
        (f'{LEAST}[interfaces."a.b"]\nmtu = "x"\n', "interfaces.a.b.mtu", 4),
        (f"{LEAST}[guard]\nmax_share = 5", "guard.max_share", 4),
        ("", "interfaces", None),
        ("[interfaces.wg0]\n", "interfaces.wg0.networks", None),
    ],
)
def test_odd_files(text: str, key: str, line: int | None) -> None:
    assert faults(text)[key].line == line


def test_a_long_file_has_faults_without_lines() -> None:
    long = "\n".join(f"unknown{at} = 1" for at in range(5000))
    found = faults(f"{long}\n{LEAST}")
    assert len(found) == 5000
    assert {one.line for one in found.values()} == {None}


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ('[peers]\nforiegn = "report"', "peers.foriegn", "Did you mean foreign?"),
        ("[gaurd]\nmax_share = 0.1", "gaurd", "Did you mean guard?"),
        ("[guard]\nmax_shares = 0.1", "guard.max_shares", "Did you mean max_share?"),
        ("keepalive = 25", "interfaces.wg0.keepalive", "Did you mean persistent_keepalive?"),
        ("[mikyun.databse]\nport = 1", "mikyun.databse", "Did you mean database?"),
        ("[metrics]\nlisen = 1", "metrics.lisen", "Did you mean listen?"),
    ],
)
def test_a_similar_name_is_proposed(text: str, key: str, meant: str) -> None:
    assert str(faults(LEAST + text)[key]).endswith(f". {meant}")


def test_nothing_is_proposed_for_nonsense() -> None:
    assert "Did you mean" not in str(faults(f"{LEAST}[xyzzy]\na = 1")["xyzzy"])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[mikyun.database]\nport = "3306"', "is not a whole number, without quotes"),
        ("[mikyun.database]\nhost = 5", "is not a text in quotes"),
        ("[mikyun.database]\nsocket = 5", "is not a text in quotes"),
        ('addresses = "10.200.0.1/24"', 'is not a list of texts, such as ["one", "two"]'),
        ("addresses = [5]", 'is not a list of texts, such as ["one", "two"]'),
        ('[metrics]\nper_peer = "true"', "is not true or false, without quotes"),
        ('[guard]\nmax_share = "0.2"', "is not a number, without quotes"),
    ],
)
def test_a_value_of_another_type_is_told_in_words(text: str, why: str) -> None:
    (fault,) = faults(LEAST + text).values()
    assert fault.why == why


def test_a_good_file_is_good() -> None:
    assert parse(LEAST).interfaces


def test_faults_stand_in_the_order_of_their_lines_and_what_is_missing_comes_last() -> None:
    text = '[mikyun]\nperspective = "sever"\n[interfaces.wg0]\n[guard]\nmax_share = 5\n[node]\nzone = 5\n[log]\nlevle = 1\n'
    found = [(one.key, one.line) for one in faults(text).values()]
    assert [line for _, line in found] == [2, 5, 7, 9, None]
    assert found[-1][0] == "interfaces.wg0.networks"


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        (f'{LEAST}[mikyun]\nperspective = "sever"\n', "mikyun.perspective", "server"),
        (f'control_plane = "nexvpn"\n{LEAST}', "control_plane", "nexavpn"),
    ],
)
def test_a_mistyped_value_is_answered_with_the_one_that_is_meant(text: str, key: str, meant: str) -> None:
    assert faults(text)[key].why.endswith(f". Did you mean {meant}?")
