"""`wgsyncd doctor` says what limits of bandwidth lack on this system, and who is in their way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.configuring import LEAST
from tests.tcmodel import TcModel
from wgsyncd.cli.doctor import shaping
from wgsyncd.config.load import parse
from wgsyncd.core.inspect.finding import Finding
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import Hook, Port, Root, Tree
from wgsyncd.engine.shaping_words import MODULES

ENFORCED = LEAST + '[shaping]\nmode = "enforce"\n'
NAMES = [one for names in MODULES.values() for one in names.split()]
LIVE = Tree(7, is_up=True, root=Root.OURS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "modules.builtin").write_text(f"kernel/net/sched/{NAMES[0]}.ko\n")
    (tmp_path / "modules.dep").write_text("".join(f"kernel/net/sched/{one}.ko.xz: kernel/a.ko\n" for one in NAMES[1:]))
    return tmp_path


def found(tc: TcModel, folder: Path, written: str = ENFORCED) -> list[Finding]:
    return list(shaping.check(parse(written), tc.read, folder))


def test_a_good_system_before_and_after_the_first_limits(folder: Path) -> None:
    (one,) = found(TcModel(), folder)
    assert (one.severity, one.check) == ("ok", "bandwidth")
    trees = dict.fromkeys(Direction, LIVE)
    port = Port(Hook.CLSACT, dict.fromkeys(Direction, 7))
    assert found(TcModel(trees, {"wg0": port}), folder / "gone") == [one], "what stands there, the kernel has"


def test_without_limits_nothing_is_checked(folder: Path) -> None:
    assert found(TcModel({Direction.UP: Tree(3, is_ifb=False)}), folder / "gone", LEAST) == []


def test_missing_modules_are_named(folder: Path) -> None:
    text = (folder / "modules.dep").read_text()
    (folder / "modules.dep").write_text(text.replace("cls_flower", "cls_fw").replace("sch_fq_codel", "sch_fq"))
    (one,) = found(TcModel(), folder)
    assert one.severity == "fault"
    assert "this kernel has no sch_fq_codel, cls_flower: nobody is limited" in one.message
    (one,) = found(TcModel(), folder / "gone")
    assert (one.severity, "is not there" in one.message) == ("warning", True)


def foreign_link(tc: TcModel) -> None:
    tc.trees[Direction.UP] = Tree(3, is_ifb=False)


def foreign_root(tc: TcModel) -> None:
    tc.trees[Direction.DOWN] = Tree(3, is_up=True, root=Root.FOREIGN)


def lost_link(tc: TcModel) -> None:
    tc.ports["wg0"] = Port(Hook.CLSACT, {Direction.DOWN: 9})


def ingress(tc: TcModel) -> None:
    tc.ports["wg0"] = Port(Hook.INGRESS)


def same_pref(tc: TcModel) -> None:
    tc.ports["wg0"] = Port(Hook.CLSACT, taken=frozenset((Direction.UP,)))


@pytest.mark.parametrize(
    ("happens", "severity", "why"),
    [
        (foreign_link, "fault", "another program uses wgsyncd-up"),
        (foreign_root, "fault", "another program uses wgsyncd-down"),
        (lost_link, "fault", "wgsyncd-down is gone or down, and all traffic of wg0 goes there and is lost"),
        (ingress, "warning", "wg0 has the qdisc ingress of another program"),
        (same_pref, "warning", "wg0 has a filter of another program with a pref from 63333 to 63335"),
    ],
)
def test_who_is_in_the_way_is_named(happens: Callable[[TcModel], None], severity: str, why: str, folder: Path) -> None:
    tc = TcModel()
    happens(tc)
    (one,) = found(tc, folder)
    assert (one.severity, one.message.startswith(why), bool(one.fix)) == (severity, True, True), one


def test_a_kernel_that_does_not_answer(folder: Path) -> None:
    tc = TcModel()
    tc.fails = "EPERM"
    (one,) = found(tc, folder)
    assert (one.severity, one.fix) == ("warning", "sudo wgsyncd doctor")
