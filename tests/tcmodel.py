"""A model of tc in memory: it makes the steps of a shaping plan by the kernel's rules, as trials have shown them.

Every error of the kernel ends the test, and so does what would cut a device off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import Action, Clsact, Detour, FailedStep, Link, Redirect, RootQdisc, Step
from wgsyncd.core.shaping.tree import Filter, Hook, HtbClass, KernelState, Leaf, Led, Passed, Port, Pref, Root, Tree
from wgsyncd.errors import ShapingError


class TcModel:
    """Holds the trees and the interfaces' redirects."""

    def __init__(self, trees: dict[Direction, Tree] | None = None, ports: dict[str, Port] | None = None) -> None:
        self.trees = {one: Tree() for one in Direction} | (trees or {})
        self.ports = ports if ports is not None else {"wg0": Port(), "wg1": Port()}
        self.more: dict[int, dict[Direction, Tree]] = {}
        self.index = 100  # of the last link
        self.handle = 0  # of the last detour
        self.lacks: set[str] = set()  # kinds of things that this kernel does not have
        self.fails = ""  # the errno of every reading
        self.writes = 0
        self.passed: dict[Direction, Passed] = {}
        self.descriptor: int | None = None
        self.news = False  # somebody has changed a link

    def has_news(self) -> bool:
        news, self.news = self.news, False
        return news

    @property
    def state(self) -> KernelState:
        return KernelState(
            dict(self.trees), dict(self.ports), dict(self.passed), {n: dict(one) for n, one in self.more.items()}
        )

    def read(self) -> KernelState:
        if self.fails:
            raise ShapingError(self.fails, "no tc now")
        return self.state

    def look(self, interfaces: Iterable[str]) -> KernelState:
        state = self.read()
        return replace(state, ports={name: one for name, one in state.ports.items() if name in set(interfaces)})

    def apply(self, steps: Iterable[Step]) -> list[FailedStep]:
        failed = []
        for step in steps:
            kind = type(step.thing).__name__
            if step.action is Action.ADD and (kind in self.lacks or self._lacks_before(step)):
                failed.append(FailedStep(step, "ENOENT", "kind is unknown"))
                continue
            if isinstance(step.thing, Clsact) and step.action is Action.DELETE and self._is_used(step.thing.interface):
                continue
            self.make(step)
            self.writes += 1
        return failed

    def of(self, number: int) -> dict[Direction, Tree]:
        """The trees of the links with this number."""
        return self.more.setdefault(number, {one: Tree() for one in Direction}) if number else self.trees

    def _lacks_before(self, step: Step) -> bool:
        """Whether the kernel has refused what the step needs."""
        thing = step.thing
        tree = self.of(step.number)[step.direction] if step.direction is not None else Tree()
        if not self.lacks or isinstance(thing, Link | Clsact):
            return False
        if isinstance(thing, Redirect | Detour):
            return self.ports[thing.interface].hook is not Hook.CLSACT
        if isinstance(thing, HtbClass):
            return tree.root is not Root.OURS or thing.parent not in {0, *tree.classes}
        if isinstance(thing, Leaf | Filter):
            return thing.minor not in {0, *tree.classes}
        return not tree.index

    def _is_used(self, name: str) -> bool:
        port = self.ports[name]
        return bool(
            port.redirects or port.detours or port.taken or port.has_foreign_filters or port.hook is not Hook.CLSACT
        )

    def make(self, step: Step) -> None:
        action, direction, thing, number = step
        if isinstance(thing, Clsact):
            self._clsact(action, thing.interface)
            return
        assert direction is not None
        if isinstance(thing, Redirect):
            self._redirect(action, direction, thing.interface)
            return
        if isinstance(thing, Detour):
            self._detour(action, direction, thing, number)
            return
        trees = self.of(number)
        tree = trees[direction]
        assert not tree.is_foreign, "somebody else's link"
        match thing:
            case Link():
                trees[direction] = self._link(action, direction, tree)
            case RootQdisc():
                assert tree.index and tree.root is Root.NONE
                trees[direction] = replace(tree, root=Root.OURS)
            case HtbClass():
                trees[direction] = _class(action, tree, thing)
            case Leaf():
                trees[direction] = _leaf(action, tree, thing)
            case Filter():
                trees[direction] = _filter(action, tree, thing)
            case Pref():
                assert thing in tree.foreign_prefs
                trees[direction] = replace(tree, foreign_prefs=tree.foreign_prefs - {thing})

    def _link(self, action: Action, direction: Direction, tree: Tree) -> Tree:
        if action is Action.ADD:
            assert not tree.index, "EEXIST"
            self.index += 1
            return Tree(index=self.index, is_up=True)
        assert tree.index, "ENODEV"
        if action is Action.CHANGE:
            return replace(tree, is_up=True, queue=1000)
        leads = [
            name for name, port in self.ports.items()
            if (direction, tree.index) in {*port.redirects.items(), *((way, led.link) for (way, _), led in port.detours.items())}
        ]  # fmt: skip
        assert not leads, "these interfaces would lose every packet"
        return Tree()

    def _clsact(self, action: Action, name: str) -> None:
        port = self.ports[name]
        if action is Action.ADD:
            assert port.hook is Hook.NONE, "EEXIST"
            self.ports[name] = Port(Hook.CLSACT)
            return
        assert port.hook is Hook.CLSACT
        assert not port.redirects and not port.detours and not port.has_foreign_filters and not port.taken, (
            "it has filters"
        )
        self.ports[name] = Port()

    def _redirect(self, action: Action, direction: Direction, name: str) -> None:
        port, tree = self.ports[name], self.trees[direction]
        there = dict(port.redirects)
        if action is Action.ADD:
            assert port.hook is Hook.CLSACT, "on ingress, it would be a filter for the wrong direction"
            assert direction not in there and direction not in port.taken, "EEXIST"
            assert tree.is_live and tree.root is Root.OURS, "a redirect into an empty place"
            there[direction] = tree.index
        else:
            del there[direction]
        self.ports[name] = replace(port, redirects=there)

    def _detour(self, action: Action, direction: Direction, thing: Detour, number: int) -> None:
        port, tree, way = self.ports[thing.interface], self.of(number)[direction], (direction, thing.network)
        there = dict(port.detours)
        assert port.hook is Hook.CLSACT, "on ingress, it would be a filter for the wrong direction"
        if action is Action.DELETE:
            assert there.pop(way).handle == thing.handle
        else:
            assert number and tree.is_live and tree.root is Root.OURS, "a detour into an empty place"
            assert thing.network in {one.network for one in tree.filters}, "nothing there shapes it"
            if action is Action.ADD:
                assert way not in there and direction not in port.taken, "EEXIST"
                self.handle += 1
            else:
                assert there[way].handle == thing.handle, "it would be another filter"
            there[way] = Led(thing.handle or self.handle, tree.index)
        self.ports[thing.interface] = replace(port, detours=there)


def _class(action: Action, tree: Tree, thing: HtbClass) -> Tree:
    now = dict(tree.classes)
    assert tree.root is Root.OURS, "ENOENT"
    if action is Action.ADD:
        assert thing.minor not in now, "EEXIST"
        assert thing.parent == 0 or thing.parent in now, "ENOENT"
        assert thing.parent not in tree.leaves, "a leaf would be lost"
        now[thing.minor] = thing
    elif action is Action.CHANGE:
        found = now[thing.minor]
        is_inner = any(one.parent == thing.minor for one in now.values())
        quantum = found.quantum if is_inner else thing.quantum  # htb_change_class, net/sched/sch_htb.c
        now[thing.minor] = thing._replace(parent=found.parent, quantum=quantum)
    else:
        assert not [one for one in now.values() if one.parent == thing.minor], "EBUSY: it has classes"
        assert not [one for one in tree.filters if one.minor == thing.minor], "EBUSY: it has filters"
        del now[thing.minor]
    leaves = {minor: one for minor, one in tree.leaves.items() if minor in now}
    return replace(tree, classes=now, leaves=leaves)


def _leaf(action: Action, tree: Tree, thing: Leaf) -> Tree:
    assert thing.minor in tree.classes, "ENOENT"
    assert not [one for one in tree.classes.values() if one.parent == thing.minor], "an inner class has no leaf"
    if action is Action.ADD:
        assert thing.minor not in tree.leaves, "EEXIST"
        assert thing.handle not in {one.handle for one in tree.leaves.values()}, "EEXIST"
    else:
        assert action is Action.CHANGE
        assert tree.leaves[thing.minor].flows == thing.flows, "EINVAL"
    return replace(tree, leaves={**tree.leaves, thing.minor: thing})


def _filter(action: Action, tree: Tree, thing: Filter) -> Tree:
    assert tree.root is Root.OURS
    at = {(one.pref, one.handle): one for one in tree.filters}
    if action is Action.DELETE:
        del at[thing.pref, thing.handle]
    else:
        assert thing.pref not in {one.pref for one in tree.foreign_prefs}, "EINVAL"
        assert thing.minor == 0 or thing.minor in tree.classes, "traffic would be unshaped"
        if action is Action.ADD:
            assert (thing.pref, thing.handle) not in at, "EEXIST"
            assert (thing.pref, thing.network) not in {(one.pref, one.network) for one in tree.filters}, "EEXIST"
        else:
            assert at[thing.pref, thing.handle].network == thing.network, "it would take an address from a filter"
        at[thing.pref, thing.handle] = thing
    return replace(tree, filters=tuple(at.values()))
