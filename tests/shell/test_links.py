"""The link of an interface is in the status, the metrics and the page: nobody can connect to one that is down."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.node import Node
from wgsyncd.daemon.choice import Choice
from wgsyncd.daemon.machine import link
from wgsyncd.daemon.metrics import exposition, registry
from wgsyncd.daemon.page import render
from wgsyncd.engine.reports.devices import Selection, of_preview
from wgsyncd.engine.reports.status import of_daemon
from wgsyncd.engine.reports.status_document import StatusReport, Verdict
from wgsyncd.engine.status import DaemonStatus, InterfaceStatus, LinkState


@pytest.mark.parametrize(
    ("state", "values"), [(LinkState.UP, (1, 1)), (LinkState.DOWN, (1, 0)), (LinkState.MISSING, (0, 0))]
)
def test_the_metrics_have_the_link_of_now(state: LinkState, values: tuple[int, int]) -> None:
    status = DaemonStatus(interfaces={"wg0": InterfaceStatus(True), "wg1": InterfaceStatus(True)})
    shown = exposition(registry(partial(status.now, lambda name: state if name == "wg1" else LinkState.UP)), "")[1]
    for name, value in zip(("present", "up"), values, strict=True):
        assert f'wgsyncd_interface_{name}{{interface="wg0"}} 1.0\n' in shown.decode()
        assert f'wgsyncd_interface_{name}{{interface="wg1"}} {value}.0\n' in shown.decode()


def report(node: Node, **links: LinkState) -> StatusReport:
    node.cycle()
    return of_daemon(node.status, node.settings, Path("wgsyncd.toml"), links)


def test_the_report_has_it_and_the_node_fails(node: Node) -> None:
    found = report(node, wg0=LinkState.DOWN, wg1=LinkState.UP)
    assert [(one.present, one.up, one.errno) for one in found.interfaces] == [(True, False, ""), (True, True, "")]
    (fault,) = [one for one in found.troubles if one.check == "wg0"]
    assert (found.verdict, fault.fix) == (Verdict.FAILING, "ip link set wg0 up || ss -lunp")
    gone = report(node, wg0=LinkState.MISSING)
    assert [(one.present, one.up, one.errno) for one in gone.interfaces] == [(False, None, "ENODEV"), (True, None, "")]


def test_the_page_has_it(node: Node) -> None:
    devices = of_preview(DaemonStatus(), node.settings, node.agent, Selection(), "")
    for state, count in ((LinkState.UP, 0), (LinkState.DOWN, 1)):
        page = render(Choice.of({}), report(node, wg0=state), devices, {}, "", 0.0)
        assert page.count('wg0 <b class="bad">down</b>') == count
        assert page.count("is down, so nobody can connect") == count


def test_the_kernel_is_asked_for_the_link() -> None:
    assert link("lo") is not LinkState.MISSING
    assert link("nothing0") is LinkState.MISSING
