"""Checks of what limits of bandwidth need: modules of the kernel, and nobody else in their place."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import Finding, fault, ok, warning
from wgsyncd.core.shaping.tree import LINKS, Hook, KernelState, Root, Tree
from wgsyncd.engine.shaping_words import MODULES
from wgsyncd.errors import ShapingError

CHECK = "bandwidth"


def check(settings: Settings, read: Callable[[], KernelState], modules: Path | None = None) -> Iterator[Finding]:
    """Every check, if bandwidth is limited. ``modules``: the folder of this kernel's modules."""
    if not settings.shaping_policy.enforce:
        return
    try:
        found = read()
    except ShapingError as error:
        yield warning(CHECK, f"tc cannot be read: {error.text}", "sudo wgsyncd doctor")
        return
    wrong = [*_links(found), *_interfaces(settings, found)]
    if not any(tree.root is Root.OURS for _, _, tree in found.every_tree()):  # Otherwise this kernel has all parts.
        wrong += _modules(modules or Path("/lib/modules", os.uname().release))
    yield from wrong or [ok(CHECK, "tc has all that limits need, and no other program is in the way")]


def _modules(folder: Path) -> Iterator[Finding]:
    texts = [
        file.read_text(errors="replace") for name in ("builtin", "dep") if (file := folder / f"modules.{name}").exists()
    ]
    have = {line.partition(".ko")[0].rpartition("/")[2] for text in texts for line in text.splitlines()}
    needed = dict.fromkeys(one for names in MODULES.values() for one in names.split())
    lacking = [one for one in needed if one not in have]
    if not texts:
        yield warning(CHECK, f"{folder} is not there, so it cannot be told what this kernel has", "wgsyncd status")
    elif lacking:
        why = f"this kernel has no {', '.join(lacking)}: nobody is limited, and peers go on"
        yield fault(CHECK, why, "apt-get install linux-image-amd64  # then reboot")


def _links(found: KernelState) -> Iterator[Finding]:
    for direction, name in LINKS.items():
        tree = found.trees.get(direction, Tree())
        if tree.is_foreign:
            yield fault(CHECK, f"another program uses {name}, so nobody is limited there", f"ip -d link show {name}")
        lost = [place for place, port in found.ports.items() if direction in port.redirects and not tree.is_live]
        live = {one.index for _, way, one in found.every_tree() if way is direction and one.is_live}
        lost += [
            place for place, port in found.ports.items()
            if any(way is direction and led.link not in live for (way, _), led in port.detours.items())
        ]  # fmt: skip
        if lost:
            why = f"{name} is gone or down, and all traffic of {', '.join(sorted(set(lost)))} goes there and is lost"
            yield fault(CHECK, why, "systemctl restart wgsyncd")


def _interfaces(settings: Settings, found: KernelState) -> Iterator[Finding]:
    for name in settings.interfaces:
        port = found.ports.get(name)
        if port is not None and port.hook is Hook.INGRESS:
            why = f"{name} has the qdisc ingress of another program, so nobody on it is limited"
            yield warning(CHECK, why, f"tc qdisc show dev {name}")
        elif port is not None and port.taken:
            why = f"{name} has a filter of another program with a pref from 63333 to 63335, so nobody on it is limited"
            yield warning(CHECK, why, f"tc filter show dev {name} egress && tc filter show dev {name} ingress")
