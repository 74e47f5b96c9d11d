"""The page shows the node's documents in a real browser, safely, on this machine only."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import Browser
from tests.node import Node
from tests.page_site import Site
from tests.wait import until
from wgsyncd.daemon.choice import EACH
from wgsyncd.daemon.html import chart
from wgsyncd.engine.status import Quarter

MARKUP = '<script>window.hacked=1</script><b id="x">&amp;"\'>'
CONTRAST = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (one) => rgb(one).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const paper = (one) => {
    for (; one; one = one.parentElement) {
      const found = getComputedStyle(one).backgroundColor;
      if (rgb(found)[3] !== 0) return found;
    }
    return "rgb(255, 255, 255)";
  };
  const low = [];
  for (const one of document.querySelectorAll("body *")) {
    const text = [...one.childNodes].some((part) => part.nodeType === 3 && part.textContent.trim());
    if (!text || !one.getClientRects().length) continue;
    const [a, b] = [light(getComputedStyle(one).color), light(paper(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(`${one.className} ${one.textContent}: ${ratio}`);
  }
  return JSON.stringify(low);
})()
"""  # the contrast of WCAG 2: text needs 4.5
ADDRESS_LINES = """
document.querySelectorAll(".devices td.number").forEach((one) => { one.textContent = "294.20 KiB" });
Math.max(...[...document.querySelectorAll('td[data-head="Address"]')].map((one) => {
  const text = document.createRange();
  text.selectNodeContents(one.lastChild);
  return text.getClientRects().length;
}))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def site(node: Node) -> Iterator[Site]:
    node.account()
    node.traffic(5, 3000, 600)
    node.account()
    node.status.database_up = True  # the daemon's tasks set this and the times
    node.status.started_at = time.time() - 300
    node.status.succeeded_at = dict.fromkeys(("reconcile", "account"), time.time())
    made = Site(node)
    yield made
    made.server.close()


def shown(browser: Browser, site: Site, path: str = "/") -> str:
    browser.open(f"http://127.0.0.1:{site.port}{path}")
    text: str = browser.eval("document.body.innerText")
    return text


def rows(browser: Browser) -> list[list[str]]:
    script = "[...document.querySelectorAll('table.devices tbody tr')].map((row) => [...row.cells].map((one) => one.innerText))"
    found: list[list[str]] = json.loads(browser.eval(f"JSON.stringify({script})"))
    return found


def test_the_page_has_its_sections_in_order(node: Node, site: Site, browser: Browser) -> None:
    node.db.update(5, preshared_key="junk")
    node.cycle()
    browser.show(1600)
    text = shown(browser, site)
    assert text.startswith("ATTENTION")
    heads = json.loads(browser.eval("JSON.stringify([...document.querySelectorAll('h2')].map((one) => one.innerText))"))
    assert heads == ["Interfaces", "Devices", "Rows that are ignored: 1", "Last changes"]
    assert "bad_preshared_key: " in text
    assert browser.eval("document.querySelectorAll('figure svg').length") == 1, "wg1 moved nothing"
    assert "wg1 in the last 24 hours, or since the daemon's start: nothing" in text
    assert browser.eval("document.title").startswith("r640: ")
    first = {row[0].split()[-1]: row[1:] for row in rows(browser)}["0001-DEV-005"]
    assert (first[0], first[2], first[6], first[7]) == ("0001", "10.200.0.5", "3.52 KiB", "3.52 KiB")
    assert browser.complaints() == []


@pytest.mark.parametrize(
    ("field", "value"), [("config_ok", False), ("quarantined", 1), ("findings", {"days": 1}), ("waiting_for_adoption", 3),
                         ("database_up", False), ("succeeded_at", {}), ("pending", {"add": 1})],
)  # fmt: skip
def test_it_never_says_ok_while_something_is_wrong(node: Node, site: Site, field: str, value: object) -> None:
    assert "<title>r640: OK</title>" in site.get()[1]
    setattr(node.status, field, value)
    text = site.get()[1]
    assert "<title>r640: ATTENTION</title>" in text or "<title>r640: FAILING</title>" in text


def test_removals_that_wait_are_shown_without_a_way_to_allow_them(node: Node, site: Site, browser: Browser) -> None:
    for number in (5, 6, 7):
        del node.db.devices[number]
    node.cycle()
    text = shown(browser, site)
    assert "FAILING" in text
    assert "Removals that wait: 3" in text and "0001-DEV-006" in text
    assert "wgsyncd approve" not in browser.eval("document.documentElement.outerHTML")
    assert browser.eval("[...document.forms].every((one) => one.method === 'get')")


def test_markup_in_a_name_stays_text(node: Node, site: Site, browser: Browser) -> None:
    node.device(9, device_id=MARKUP)
    node.cycle()
    assert "Filter: <script>alert(1)" in shown(browser, site, "/?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%3E")
    shown(browser, site, "/?pause=1&q=%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%3E")
    assert browser.eval("document.querySelector('input[name=q]').value") == '<script>alert(1)</script>">'
    text = shown(browser, site)
    assert MARKUP in text
    assert browser.eval("document.querySelectorAll('script, #x').length") == 0
    assert browser.complaints() == []
    # Even if an element came in, the browser would not run it, because the header forbids it.
    browser.eval(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked=1'}))"
    )
    assert browser.eval("window.hacked === undefined")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 800, 1600])
def test_the_page_fits_and_can_be_read(
    node: Node, site: Site, browser: Browser, width: int, dark: bool, tmp_path: Path
) -> None:
    node.db.update(5, preshared_key="junk")
    node.device(9, device_id="D" * 64)
    node.device(205, device_id="0001-DEV-205")
    node.shake(6)
    node.cycle()
    browser.show(width, dark=dark)
    shown(browser, site)
    assert browser.eval("document.documentElement.scrollWidth") <= width
    assert browser.eval(ADDRESS_LINES) == 1, "no address is broken into two lines"
    assert json.loads(browser.eval(CONTRAST)) == []
    paper = browser.eval("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is not dark
    browser.picture(tmp_path / f"page{width}{'dark' if dark else ''}.png")


def test_the_tab_key_goes_through_the_page_in_its_order(node: Node, site: Site, browser: Browser) -> None:
    browser.show(800)
    shown(browser, site)
    every = "[...document.querySelectorAll('a[href], input:not([type=hidden]), button')]"
    every += ".filter((one) => one.getClientRects().length)"  # what a narrow page does not show has no focus
    count = browser.eval(f"{every}.length")
    assert count > 10
    for at in range(count):
        browser.press("Tab", 9)
        assert browser.eval(f"{every}.indexOf(document.activeElement)") == at
        assert browser.eval("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"


def test_a_click_sorts_and_a_form_filters(node: Node, site: Site, browser: Browser) -> None:
    node.traffic(7, 9000, 0)
    node.account()
    shown(browser, site)
    link = browser.eval("[...document.querySelectorAll('th a')].find((one) => one.innerText === '24 h').href")
    shown(browser, site, link.partition(str(site.port))[2])
    assert [row[0].split()[-1] for row in rows(browser)][:2] == ["0001-DEV-007", "0001-DEV-005"]
    assert browser.eval("document.querySelector('[aria-sort]').innerText").startswith("24 h")
    shown(browser, site, "/?q=dev-006&sort=owner&online=")
    assert [row[0].split()[-1] for row in rows(browser)] == ["0001-DEV-006"]


def test_a_long_list_has_pages(node: Node, site: Site) -> None:
    for number in range(20, 20 + EACH):
        node.device(number)
    node.cycle()
    _, first, _ = site.get("/")
    _, second, _ = site.get("/?page=2")
    assert first.count('role="img" aria-label="o') == EACH
    assert second.count('role="img" aria-label="o') == 3
    assert '<a href="/?page=2"' in first and "201 to 203 here" in second
    assert site.get("/?page=9999")[1].count('role="img" aria-label="o') == 0


def test_a_long_word_of_a_message_fits_a_telephone(node: Node, site: Site, browser: Browser) -> None:
    """A plan id, or the path of a socket."""
    node.status.database_up, node.status.database_error, node.status.quarantined = False, "/run" * 20, 1
    browser.show(400)
    assert "/run/run" in shown(browser, site)
    assert browser.eval("document.documentElement.scrollWidth") <= 400


def test_a_node_without_a_wanted_peer_does_not_praise_its_0_peers(node: Node, site: Site) -> None:
    assert "OK</strong> 3 peers are as the rows want them, 0 online." in site.get()[1]
    for number in (5, 6, 7):
        node.db.update(number, status="paused")
    node.cycle()
    assert (
        "OK</strong> No row wants a peer on wg0, wg1, so nobody can connect. `wgsyncd devices --all`" in site.get()[1]
    )


def test_a_list_without_devices_has_no_table_and_no_odd_words(node: Node, site: Site) -> None:
    assert "0 of 3 devices online.<" in site.get()[1], "all are shown"
    assert "without a peer" not in site.get()[1], "there are none"
    none = site.get("/?q=nobody")[1]
    assert " 0 shown." in none and "devices" not in re.findall('table class="(.*?)"', none)
    node.db.update(5, status="paused")
    node.cycle()
    assert "Also the 1 without a peer" in site.get()[1] and " 2 shown." in site.get()[1]


@pytest.mark.parametrize(
    "query", ["sort=nonsense", "page=-1", "page=9e9", "page=%C2%B2", "q=%00%ff%f0", "sort=24h&sort=owner", "a=b"]
)
def test_odd_queries_get_a_page(site: Site, query: str) -> None:
    status, text, _ = site.get(f"/?{query}")
    assert status == 200 and text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    "name", ["a\u202eb", "端末「山田」🎉", "a\x1b[31m", "a\ud800", "a\x00b", "]]><!--", "&#60;b&#62;", "a\u2028b"]
)
def test_odd_names_make_a_whole_page(node: Node, site: Site, name: str) -> None:
    node.device(9, device_id=name)
    node.cycle()
    status, text, _ = site.get()
    assert status == 200 and text.endswith("</html>")
    assert not re.search(r"[\x00-\x08\x0b-\x1f]|<!--|<b>", text)


def test_it_names_the_zone_of_its_times(site: Site) -> None:
    """A browser may be in another zone than `node.zone`."""
    assert re.search(r"\d\d:\d\d:\d\d UTC\+09:00\. ", site.get()[1])


def test_it_refreshes_itself_until_somebody_pauses_it(site: Site) -> None:
    assert '<meta http-equiv="refresh" content="10">' in site.get()[1]
    assert "http-equiv" not in site.get("/?pause=1&q=a")[1]


def test_nothing_can_be_typed_into_a_page_that_loads_itself_again(node: Node, site: Site, browser: Browser) -> None:
    """A reload would lose it. The form stands on a page that stands still, and leads back to one that moves."""
    shown(browser, site, "/?sort=owner&online=1")
    assert browser.eval("document.querySelectorAll('input').length") == 0

    def link(text: str) -> str:
        found = f"[...document.links].find((one) => one.innerText.startsWith('{text}')).href"
        return str(browser.eval(found)).partition(str(site.port))[2]

    shown(browser, site, link("Also those offline"))
    shown(browser, site, link("Filter"))
    assert browser.eval("document.querySelector('meta[http-equiv]') === null")
    browser.eval("document.querySelector('input[name=q]').value = 'dev-006'; document.forms[0].submit()")
    until(lambda: browser.eval("document.querySelector('meta[http-equiv]') !== null"), 20, "it moves again")
    assert [row[0].split()[-1] for row in rows(browser)] == ["0001-DEV-006"]
    assert browser.eval("document.querySelector('[aria-sort]').innerText").startswith("Owner")
    shown(browser, site, link("No filter"))
    assert len(rows(browser)) == 3


def test_the_header_forbids_what_the_page_does_not_need(site: Site) -> None:
    _, text, headers = site.get()
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "style-src 'sha256-" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert "<script" not in text and "style=" not in text and "http://" not in text.replace("http://www.w3.org", "")


def test_the_chart_has_a_bar_for_each_quarter_of_an_hour_of_a_day() -> None:
    now = 1_800_000_000.0
    drawn = chart("wg0", [Quarter(int(now) - 900 * at, 100 * at, 300 * at) for at in range(95, -1, -1)], now)
    paths = {one.get("class"): one.get("d") or "" for one in drawn}
    assert paths["rx"].startswith("M0 96v-24h9v24z") and paths["tx"].startswith("M0 72v-72h9v72z")
    assert paths["tx"].count("M") == 95, "nothing moved in the last quarter"
    assert [one.get("class") for one in chart("wg0", [], now)] == ["grid"]
