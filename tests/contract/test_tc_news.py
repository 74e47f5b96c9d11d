"""A link of shaping that goes, or goes down, is news at once. Other links are none."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from tests import namespace
from tests.namespace import run
from wgsyncd.dataplane.tc.news import LinkNews

SECONDS = 10


@pytest.fixture
def news() -> Iterator[LinkNews]:
    with namespace.own_network():
        run("ip", "link", "add", "wgsyncd-down", "type", "veth", "peer", "name", "far")
        run("ip", "link", "set", "wgsyncd-down", "up")
        run("ip", "link", "add", "other", "type", "veth", "peer", "name", "another")
        made = LinkNews()
        yield made
        made.close()


def comes(news: LinkNews) -> bool:
    """Whether news come in, and whether they are about a link of shaping."""
    assert select.select([news.descriptor], [], [], SECONDS)[0], "no news at all"
    return news.take()


@pytest.mark.parametrize("change", [("set", "wgsyncd-down", "down"), ("del", "wgsyncd-down")])
def test_a_link_that_goes_is_news_once(news: LinkNews, change: tuple[str, ...]) -> None:
    assert not news.take()
    run("ip", "link", *change)
    assert comes(news)
    assert not news.take()


def test_other_links_are_no_news(news: LinkNews) -> None:
    run("ip", "link", "del", "other")
    assert not comes(news)


def test_news_that_the_kernel_dropped_count_as_news(news: LinkNews) -> None:
    changes = "".join(f"link set other mtu {1300 + number}\n" for number in range(200))
    run("ip", "-batch", "-", text=changes)  # more than the socket's buffer holds
    assert comes(news)
    assert not news.take()
