"""Until an admin has adopted the node, foreign peers stay, whatever the configuration says."""

from __future__ import annotations

import pytest

from tests.node import Node
from tests.samples import address, key, peer, text
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.errors import StoreError

LINK = 250


@pytest.fixture
def node() -> Node:
    """Returns a node at its first start. It has a device, and a peer that somebody made by hand."""
    made = Node()
    made.db.adopted_from_the_start = False
    made.device(5)
    made.wg.add_behind("wg0", peer(LINK, address(LINK)))
    return made


def adopt(node: Node, *, accepted: bool) -> None:
    action = AuditAction.NODE_ADOPTED if accepted else AuditAction.ADOPTION_UNDONE
    event = AuditEvent(action, "r640", AuditFacts(by="root"))
    node.store.adopt(accepted=accepted, audit=[event], calendar=node.calendar)


def test_the_first_start_removes_no_peer_without_a_row(node: Node) -> None:
    node.cycle()
    assert node.kernel_of("wg0").keys() == {key(5), key(LINK)}
    node.change(5, status="paused")
    node.cycle()
    assert node.kernel_of("wg0").keys() == {key(LINK)}, "a row that ends access is obeyed"
    node.quiet()


def test_what_waits_for_an_admin_is_no_drift(node: Node) -> None:
    """A cycle that added peers said that the kernel had refused to remove those without a row."""
    node.cycle()
    assert (node.status.pending, node.status.waiting_for_adoption) == ({}, 1)
    node.device(6)
    node.cycle()
    assert (node.status.pending, node.status.interfaces["wg0"].drift) == ({}, 0)


def test_a_peer_that_stays_for_good_waits_for_no_admin() -> None:
    kept = Node(f'[peers]\nalways_keep = ["{text(LINK)}"]')
    kept.db.adopted_from_the_start = False
    for number in (LINK, LINK + 1):
        kept.wg.add_behind("wg0", peer(number, address(number)))
    kept.cycle()
    assert (kept.status.interfaces["wg0"].foreign, kept.status.waiting_for_adoption) == (2, 1)


def test_an_adopted_node_removes_them_until_that_is_undone(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    node.cycle()
    before = node.store.digest()
    adopt(node, accepted=True)
    assert node.store.digest() != before, "the next look notices it"
    node.cycle()
    assert node.kernel_of("wg0").keys() == {key(5)}
    assert ("node_adopted", "r640") in node.actions
    assert f"{address(LINK)}/32" in "".join(capfd.readouterr()), "the log names the peer that went"
    adopt(node, accepted=False)
    node.wg.add_behind("wg0", peer(LINK, address(LINK)))
    node.start()
    node.cycle()
    assert node.kernel_of("wg0").keys() == {key(5), key(LINK)}


def test_before_the_first_start_nobody_adopts(node: Node) -> None:
    """The node may have another name until then, or another program may count its bytes."""
    with pytest.raises(StoreError):
        adopt(node, accepted=True)
    node.cycle()
    assert node.kernel_of("wg0").keys() == {key(5), key(LINK)}


def test_a_row_whose_address_a_foreign_peer_has_is_rejected_by_hints_as_well(node: Node) -> None:
    """If the row got the address, the customer behind the foreign peer would lose it."""
    node.cycle()
    node.device(6, address=address(LINK))
    node.agent.reconcile_devices(frozenset(["0001-DEV-006"]))
    node.cycle()
    assert node.kernel_of("wg0").keys() == {key(5), key(LINK)}
    assert ("row_rejected", "0001-DEV-006") in node.actions
