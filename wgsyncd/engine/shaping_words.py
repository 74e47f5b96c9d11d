"""Words for the steps of a shaping plan, and the modules that a kernel lacks."""

from collections.abc import Iterable, Mapping, Sequence

from wgsyncd.core.inspect.verify import Check, Discrepancy
from wgsyncd.core.shaping.steps import Action, Clsact, Detour, FailedStep, Link, Redirect, RootQdisc, Step
from wgsyncd.core.shaping.tree import Filter, HtbClass, Leaf

# What a kernel lacks if it refuses every object of a kind, and the modules to load.
MODULES: Mapping[type, str] = {
    Link: "ifb",
    RootQdisc: "sch_htb",
    Leaf: "sch_fq_codel",
    Filter: "cls_flower",
    Clsact: "sch_ingress",
    Redirect: "cls_matchall act_mirred",
    Detour: "cls_flower act_mirred",
}
_LACKS = ("ENOENT", "EOPNOTSUPP")


def missing_modules(steps: Iterable[Step], failed: Sequence[FailedStep]) -> str:
    """The modules of the first kind that failed, if the kernel refused each new object of this kind. Else ""."""
    if not failed or failed[0].step.action is not Action.ADD:
        return ""
    kind = type(failed[0].step.thing)  # Later kinds may fail because they need this one.
    added = sum(type(step.thing) is kind and step.action is Action.ADD for step in steps)
    refused = sum(type(one.step.thing) is kind and one.name in _LACKS for one in failed)
    return MODULES.get(kind, "") if added == refused else ""


def tc_differs(device: str, what: str) -> Discrepancy:
    """A discrepancy of bandwidth. ``what``: the change that tc needs, or why it cannot be compared."""
    return Discrepancy(Check.SHAPING, device, (Check.SHAPING, device, what), error=what)


def kind_of(step: Step) -> str:
    """What a step does, such as "add filter". Metrics count the steps by it."""
    return f"{step.action} {type(step.thing).__name__.lower()}"


def describe(step: Step) -> str:
    """A step in a few words, such as "add filter down 10.200.0.5/32"."""
    thing = step.thing
    if isinstance(thing, Redirect | Clsact):
        place = thing.interface
    elif isinstance(thing, Detour):
        place = f"{thing.interface} {thing.network}"
    elif isinstance(thing, Filter) and thing.network is not None:
        place = str(thing.network)
    else:
        place = str(thing.minor) if isinstance(thing, HtbClass | Leaf | Filter) else ""
    return " ".join(filter(None, (kind_of(step), step.direction, place)))
