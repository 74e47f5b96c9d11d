"""The page shows what the packet filter lets each device reach, and which node of a pair this one is."""

from collections.abc import Iterator

import pytest

from tests.node import Node
from tests.page_site import Site
from tests.policing import networks
from tests.samples import address, device_name
from wgsyncd.core.network import parse_host
from wgsyncd.core.policies.model import Element, Ruleset, tag
from wgsyncd.core.policies.status import FilterStatus


@pytest.fixture
def site(node: Node) -> Iterator[Site]:
    node.account()
    made = Site(node)
    yield made
    made.server.close()


def test_without_a_packet_filter_there_is_no_such_column(site: Site) -> None:
    assert "Reaches" not in site.get()[1]


def test_each_device_has_its_ranges(node: Node, site: Site) -> None:
    office = networks("10.1.0.0/16", "192.0.2.0/24")
    host = parse_host(address(5))
    node.status.policies = FilterStatus()
    node.status.policies.note(
        Ruleset(profiles={office.profile: office}, elements={host: Element(tag(device_name(5)), office.profile)})
    )
    page = site.get()[1]
    assert "Reaches</th>" in page
    assert 'title="10.1.0.0/16, 192.0.2.0/24">10.1.0.0/16 +1<' in page.replace("&#32;", " ")
    assert page.count(">nothing<") == 2, "the other devices have no element"


@pytest.mark.parametrize(("is_active", "told"), [(True, " (active), wgsyncd"), (False, " (standby), wgsyncd")])
def test_the_role_of_a_pair_is_shown(node: Node, site: Site, is_active: bool, told: str) -> None:
    assert "(active)" not in site.get()[1] and "(standby)" not in site.get()[1]
    node.status.is_active = is_active
    assert told in site.get()[1]
