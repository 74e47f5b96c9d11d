"""The steps of a shaping plan: single changes of the kernel, in the phases of a cycle."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from wgsyncd.core.network import Network
from wgsyncd.core.shaping.profiles import Direction
from wgsyncd.core.shaping.tree import Filter, HtbClass, Leaf, Pref


class Link(NamedTuple):
    """The link of a tree: ADD makes it and sets it up, CHANGE sets it up and its queue, DELETE takes all with it."""


class RootQdisc(NamedTuple):
    """The HTB at the root of a tree."""


class Clsact(NamedTuple):
    """The qdisc clsact of an interface. Its DELETE leaves it there if it has a filter that is not wgsyncd's."""

    interface: str


class Redirect(NamedTuple):
    """The filter that leads an interface's traffic of one direction through its tree."""

    interface: str


class Detour(NamedTuple):
    """The filter that leads one address's traffic of one direction to a link with another number than 0."""

    interface: str
    network: Network
    handle: int  # 0: a new filter, for which the kernel chooses one


Thing = Link | RootQdisc | HtbClass | Leaf | Filter | Pref | Clsact | Redirect | Detour


class Action(StrEnum):
    """What a step does. ADD never takes what is there already. CHANGE of a filter gives it another class."""

    ADD = "add"
    CHANGE = "change"
    DELETE = "delete"


class Step(NamedTuple):
    """One change of the kernel."""

    action: Action
    direction: Direction | None  # None: of the qdisc clsact, which both directions use
    thing: Thing
    number: int = 0  # of the link


@dataclass(slots=True)
class Steps:
    """The steps of one direction and link, as they are found."""

    direction: Direction
    number: int = 0
    withdraw: list[Step] = field(default_factory=list)
    prepare: list[Step] = field(default_factory=list)
    clean_up: list[Step] = field(default_factory=list)

    def step(self, action: Action, thing: Thing) -> Step:
        return Step(action, self.direction, thing, self.number)

    def add(self, thing: Thing) -> None:
        self.prepare.append(self.step(Action.ADD, thing))

    def change(self, thing: Thing) -> None:
        self.prepare.append(self.step(Action.CHANGE, thing))

    def delete(self, thing: Thing) -> None:
        self.prepare.append(self.step(Action.DELETE, thing))

    def delete_later(self, thing: Thing) -> None:
        self.clean_up.append(self.step(Action.DELETE, thing))


class FailedStep(NamedTuple):
    """A step that the kernel refused, with the errno's name (``ENOENT``) and the kernel's own text."""

    step: Step
    name: str
    text: str


class ShapingPlan(NamedTuple):
    """The steps of one cycle. From any state, after any part of them, the next cycle reaches the desired state."""

    withdraw: tuple[Step, ...] = ()  # redirects and detours that lead nowhere
    prepare: tuple[Step, ...] = ()  # before peers are added
    clean_up: tuple[Step, ...] = ()  # after peers were removed
    no_minor: tuple[str, ...] = ()  # devices that stay unshaped, because no minor is free
    foreign: tuple[str, ...] = ()  # links and interfaces where somebody else has what shaping needs

    @property
    def is_empty(self) -> bool:
        """Whether the kernel is as it should be."""
        return not (self.withdraw or self.prepare or self.clean_up)

    def clean_up_after(self, first: "ShapingPlan") -> list[Step]:
        """What may be deleted in the cycle that has prepared ``first``. This plan was made afterwards.

        What waits in a class that a device has just left would be lost with it. So the next cycle deletes the classes
        of a tree in which filters have moved.
        """
        moved = {(one.direction, one.number) for one in first.prepare
                 if one.action is Action.CHANGE and isinstance(one.thing, Filter)}  # fmt: skip
        return [one for one in self.clean_up
                if not isinstance(one.thing, HtbClass) or (one.direction, one.number) not in moved]  # fmt: skip
