"""Reads and changes the kernel's tc, over one rtnetlink socket.

A dump of tc never says that it was interrupted (no nl_dump_check_consistent in net/sched/ of Linux). So a step that
adds what the dump lacked is refused with EEXIST, if it is there, and the next cycle looks again.
"""

import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.steps import Action, Clsact, Detour, FailedStep, Link, Redirect, Step
from wgsyncd.core.shaping.tree import PLACES, Hook, KernelState, Leaf, Led, Port, Root, Tree, link_name
from wgsyncd.dataplane.tc import codec, dump
from wgsyncd.dataplane.tc.hooks import Ahead, HookReader
from wgsyncd.dataplane.tc.news import LinkNews
from wgsyncd.dataplane.tc.talk import Talk
from wgsyncd.errors import ShapingError

_BATCH = 128 * 1024  # bytes of one send: less than the usual send buffer
_HEADS = ("matchall", "flower")  # without a handle, a message of these kinds is the head of a pref, which is no filter


class KernelTc:
    """The kernel's tc, in the network namespace of the thread that first uses this object.

    ``timeout``: seconds that the kernel may take to answer one batch. One thread uses the object.
    """

    def __init__(self, timeout: float = 30.0) -> None:
        self._talk, self._hooks = Talk(timeout), HookReader()
        self._news: LinkNews | None = None
        self._last_look: tuple[object, KernelState] | None = None  # by links and interfaces, until tc is changed here

    def close(self) -> None:
        self._talk.end()
        if self._news is not None:
            self._news.close()
            self._news = None

    # -- news

    @property
    def descriptor(self) -> int | None:
        """Where news of links come in. None: the kernel tells none."""
        with contextlib.suppress(OSError):
            self._news = self._news or LinkNews()
        return self._news.descriptor if self._news else None

    def has_news(self) -> bool:
        """Whether somebody has changed a link of shaping since the last call."""
        return self._news is not None and self._news.take()

    # -- reading

    def read(self) -> KernelState:
        """All that shaping has in the kernel. ShapingError if the kernel does not answer."""
        try:
            return self._read()
        except ValueError as error:
            self._talk.end()
            raise ShapingError("EBADMSG", f"cannot make sense of the kernel's dump: {error}") from error

    def _read(self) -> KernelState:
        links = [dump.link(one) for one in self._talk.dump(codec.GETLINK, codec.get_links())]
        qdiscs, leaves = dump.qdiscs(self._talk.dump(codec.GETQDISC, codec.get_objects()))
        roots = {one.ifindex: one for one in qdiscs if one.parent == codec.TC_H_ROOT and one.handle}
        trees = _numbered(links, lambda direction, link: self._tree(direction, link, roots, leaves))
        hooks = {one.ifindex: one for one in qdiscs if one.handle == codec.INGRESS_HANDLE}
        ports = {one.name: self._port(one.ifindex, hooks.get(one.ifindex)) for one in links}
        passed = dump.passed_by_trees(qdiscs, {one.ifindex: one.name for one in links})
        found = KernelState(trees.pop(0), ports, passed, trees)
        some = [len(tree.classes) + len(tree.leaves) + len(tree.filters) for _, _, tree in found.every_tree()]
        dump.forget_old(len(qdiscs) + sum(some))
        self._hooks.forget_old(sum(len(port.detours) for port in ports.values()))
        return found

    def look(self, interfaces: Iterable[str]) -> KernelState:
        """The links of all trees, and what leads these interfaces there, without the trees themselves.

        It is cheap. If no link has changed since the last time, the redirects and detours of that time are returned.
        """
        try:
            links = {one.name: one for one in map(dump.link, self._talk.dump(codec.GETLINK, codec.get_links()))}
            seen = links, frozenset(interfaces)
            if self._last_look and self._last_look[0] == seen:
                return self._last_look[1]
            trees = _numbered(links.values(), lambda _, link: _as_live(link))
            hook = dump.QdiscFound(0, codec.INGRESS_HANDLE, codec.TC_H_CLSACT, "clsact", b"", False)
            ports = {name: self._port(links[name].ifindex, hook) for name in interfaces if name in links}
        except ValueError as error:
            self._talk.end()
            raise ShapingError("EBADMSG", f"cannot make sense of the kernel's dump: {error}") from error
        self._last_look = seen, KernelState(trees.pop(0), ports, more=trees)
        return self._last_look[1]

    def _tree(
        self, direction: Direction, link: dump.LinkFound,
        roots: Mapping[int, dump.QdiscFound], leaves: Mapping[int, Mapping[int, Leaf]],
    ) -> Tree:  # fmt: skip
        root = roots.get(link.ifindex)
        state = Root.NONE if root is None else Root.OURS if dump.is_our_root(root) else Root.FOREIGN
        tree = Tree(link.ifindex, link.kind == "ifb", link.is_up, link.queue, state)
        if tree.is_foreign or state is Root.NONE:
            return tree
        which = codec.get_objects(link.ifindex, codec.ROOT_HANDLE)
        filters, foreign = dump.filters(self._talk.dump(codec.GETTFILTER, which), direction)
        classes = dump.classes(self._talk.dump(codec.GETTCLASS, which))
        its_leaves = leaves.get(link.ifindex, {})
        return replace(tree, classes=classes, leaves=its_leaves, filters=filters, foreign_prefs=foreign)

    def _port(self, index: int, hook: dump.QdiscFound | None) -> Port:
        if hook is None:
            return Port()
        if hook.kind != "clsact" or hook.has_block:
            return Port(Hook.INGRESS)
        redirects, taken, has_foreign = {}, set[Direction](), False
        detours: dict[tuple[Direction, Network], Led] = {}
        for direction, parent in codec.HOOKS.items():
            for payload in self._talk.dump(codec.GETTFILTER, codec.get_objects(index, parent)):
                one = self._hooks.read(payload, direction)
                if isinstance(one, Ahead):
                    if one.network is None:
                        redirects[direction] = one.led.link
                    else:
                        detours[direction, one.network] = one.led
                elif one.handle or one.kind not in _HEADS:
                    has_foreign = True
                    if one.pref in (codec.REDIRECT_PREF, *codec.DETOUR_PREFS.values()):
                        taken.add(direction)
        return Port(Hook.CLSACT, redirects, frozenset(taken), has_foreign, detours)

    # -- changing

    def apply(self, steps: Iterable[Step]) -> list[FailedStep]:
        """Make the steps in their order, in few messages. Returns the steps that the kernel refused."""
        self._last_look = None
        try:
            return self._apply(steps)
        except ValueError as error:
            self._talk.end()
            raise ShapingError("EBADMSG", f"cannot make sense of the kernel's answer: {error}") from error

    def _apply(self, steps: Iterable[Step]) -> list[FailedStep]:
        failed: list[FailedStep] = []
        for is_alone, some in groupby(steps, lambda step: isinstance(step.thing, Link | Clsact)):
            if is_alone:  # A new link has an index only afterwards.
                for step in some:
                    failed += self._one_by_one(step)
            else:
                failed += self._send(list(some))
        return failed

    def _one_by_one(self, step: Step) -> list[FailedStep]:
        if step.action is Action.DELETE and isinstance(step.thing, Clsact):
            port = self._port_now(step.thing.interface)
            if port.hook is not Hook.CLSACT or port.redirects or port.detours or port.has_foreign_filters:
                return []  # Somebody has made a filter here meanwhile.
        return self._send([step])

    def _port_now(self, name: str) -> Port:
        try:
            index = socket.if_nametoindex(name)
        except OSError:
            return Port()
        qdiscs, _ = dump.qdiscs(self._talk.dump(codec.GETQDISC, codec.get_objects()))
        hook = next((one for one in qdiscs if (one.ifindex, one.handle) == (index, codec.INGRESS_HANDLE)), None)
        return self._port(index, hook)

    def _send(self, steps: Sequence[Step]) -> list[FailedStep]:
        failed: list[FailedStep] = []
        places = {(step.direction, step.number) for step in steps}
        indexes = {(one, number): _index(link_name(one, number)) for one, number in places if one is not None}
        names = {step.thing.interface for step in steps if isinstance(step.thing, Clsact | Redirect | Detour)}
        interfaces = {name: _index(name) for name in names}
        batch: list[tuple[Step, codec.Request]] = []
        size = 0
        for step in steps:
            index = indexes[step.direction, step.number] if step.direction is not None else 0
            thing = step.thing
            place = interfaces[thing.interface] if isinstance(thing, Clsact | Redirect | Detour) else index
            if not place and not (isinstance(thing, Link) and step.action is Action.ADD):
                failed.append(FailedStep(step, "ENODEV", "no such interface"))
                continue
            request = codec.encode(step, index, interfaces)
            if batch and size + len(request.payload) + 16 > _BATCH:
                failed += self._talk.exchange(batch)
                batch, size = [], 0
            batch.append((step, request))
            size += len(request.payload) + 16
        return failed + (self._talk.exchange(batch) if batch else [])


def _numbered(
    links: Iterable[dump.LinkFound], tree: Callable[[Direction, dump.LinkFound], Tree]
) -> dict[int, dict[Direction, Tree]]:
    """The trees of the links by number. Number 0 is always there, and each number has both directions."""
    found = {0: {direction: Tree() for direction in Direction}}
    for link in links:
        if place := PLACES.get(link.name):
            direction, number = place
            found.setdefault(number, {one: Tree() for one in Direction})[direction] = tree(direction, link)
    return {number: found[number] for number in sorted(found)}


def _as_live(link: dump.LinkFound) -> Tree:
    return Tree(link.ifindex, link.kind == "ifb", link.is_up, link.queue, Root.OURS)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
