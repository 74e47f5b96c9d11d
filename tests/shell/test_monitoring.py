"""The alert rules and the dashboard are valid and complete, without a running Prometheus.

tests/real/test_prometheus.py runs one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import pages
from tests.monitoring import RULE_TESTS, RULES, Alert, alerts, dashboard, names, panels, queries
from wgsyncd.core.model import Counters
from wgsyncd.daemon import metrics
from wgsyncd.engine.status import DaemonStatus, InterfaceStatus, PeerStatus, ShapingStatus

PROMETHEUS_OWN = {"up", "ALERTS"}
PEER = PeerStatus(
    "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=", "10.200.0.5/32", "MK-1", Counters(rx=10, tx=20), 1.7e9
)

every_alert = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)


def exported() -> set[str]:
    status = DaemonStatus(interfaces={"wg0": InterfaceStatus(True, peers=(PEER,))}, intervals={"account": 15})
    status.shaping = ShapingStatus(True, {"standard": 1}, 1, 0, 0, 0, "")
    status.sampled_at, status.store_conditions, status.sealed = {"wg0": 1.7e9}, {"parent_conflict": 0}, {"fra1": 1}
    return {sample.name for family in metrics.registry(lambda: status).collect() for sample in family.samples}


def promtool(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    assert shutil.which("promtool"), "NOT TESTED: needs promtool of Debian's prometheus"
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, cwd=cwd)


def told(*arguments: str, cwd: Path | None = None) -> str:
    """Returns the output of promtool, which must report no error."""
    done = promtool(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def passes(directory: Path, tests: Path, rules: str) -> bool:
    """Returns whether a file of tests passes on these rules."""
    (directory / "tests").mkdir(exist_ok=True)
    (directory / RULES.name).write_text(rules)
    (directory / "tests" / tests.name).write_text(tests.read_text())
    return promtool("test", "rules", f"tests/{tests.name}", cwd=directory).returncode == 0


def test_promtool_has_nothing_to_say_about_the_rules() -> None:
    assert f"{len(alerts())} rules found" in told("check", "rules", str(RULES))


@pytest.mark.parametrize("tests", RULE_TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(tests: Path) -> None:
    told("test", "rules", tests.name, cwd=tests.parent)


@every_alert
def test_the_tests_hold_each_rule(alert: Alert, tmp_path: Path) -> None:
    """The tests expect the alert to fire. They fail if it fires on a healthy node, too early or too late."""
    (tests,) = [one for one in RULE_TESTS if f'ALERTS{{alertname="{alert.name}",' in one.read_text()]
    head = re.split(" unless| and", alert.expr)[0]  # the exceptions of the alert follow after this
    loose = re.sub(r"> (on .+ )?\d+", r"> \1-1e12", re.sub("== [01]", ">= 0", head)).replace("absent(", "(")
    assert loose != head
    wrong = [alert.text.replace(head, loose)]
    if alert.field("for"):
        number, unit = int(alert.field("for")[:-1]), alert.field("for")[-1]
        later = f"{number + 1 if unit == 'm' else number * 60 + 1}m"
        wrong += [re.sub("for: .+", f"for: {one}", alert.text) for one in ("0m", later)]
    rules = RULES.read_text()
    assert [one for one in wrong if passes(tmp_path, tests, rules.replace(alert.text, one))] == []


@every_alert
def test_every_alert_asks_for_metrics_that_exist(alert: Alert) -> None:
    assert names(alert.expr)
    assert names(alert.expr) <= exported() | PROMETHEUS_OWN


@every_alert
def test_every_alert_has_what_its_reader_needs(alert: Alert) -> None:
    assert re.fullmatch("Wgsyncd([A-Z][a-z]+)+", alert.name)
    assert alert.field("severity") in ("critical", "warning", "info")
    assert alert.field("summary")
    assert alert.field("description")
    assert alert.field("runbook_url") == f"etc/doc/runbook.md#{alert.name.lower()}"


def test_no_alert_is_about_a_single_peer() -> None:
    """Phones sleep, so a quiet peer is no fault."""
    assert not [alert.name for alert in alerts() if "wireguard_" in alert.expr]


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    found = queries()
    assert len(found) > 40
    variables = [one["definition"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]
    asked = {name for _, expr in found for name in names(expr)}
    asked |= {name for text in variables for name in re.findall(r"wgsyncd_\w+", text)}
    assert asked <= exported() | PROMETHEUS_OWN


def test_every_metric_of_ours_is_in_an_alert_or_on_the_dashboard() -> None:
    """A metric that nobody uses need not be exported. These three are for a closer look."""
    looked_at = {name for alert in alerts() for name in names(alert.expr)}
    looked_at |= {name for _, expr in queries() for name in names(expr)}
    unseen = {name for name in exported() if name.startswith(("wgsyncd_", "wireguard_"))} - looked_at
    assert unseen == {
        "wgsyncd_config_loaded_timestamp_seconds",
        "wgsyncd_database_last_read_timestamp_seconds",
        "wgsyncd_task_last_duration_seconds",
    }


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    """The uid is fixed, so a new import replaces the dashboard.

    It has a data source to choose, and no panels overlap.
    """
    board = dashboard()
    assert (board["uid"], board["id"]) == ("wgsyncd", None)
    assert 36 <= board["schemaVersion"] <= 39  # Grafana 9.0 to 11: version 10 migrates older dashboards upwards
    source = {"type": "prometheus", "uid": "${datasource}"}
    listed = board["templating"]["list"]
    assert [one["name"] for one in listed] == ["datasource", "job", "instance", "interface"]
    assert listed[0]["type"] == "datasource"
    assert all(one["datasource"] == source for one in listed[1:])
    every = list(panels())
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["description"]
        assert panel["datasource"] == source
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_the_dashboard_takes_its_windows_from_grafana() -> None:
    for title, expr in queries():
        assert set(re.findall(r"\[(.+?)\]", expr)) <= {"$__rate_interval"}, title
        for selector in re.findall(r"\b(?:wgsyncd|wireguard|process)_\w+(\{.*?\})?", expr):
            assert not selector or 'instance=~"$instance"' in selector, title


@pytest.mark.parametrize(
    "file", ["/etc/prometheus/prometheus.yml", "/usr/share/doc/prometheus/examples/prometheus.yml"]
)
def test_the_commands_of_the_page_add_rules_and_scrape_to_debians_file(file: str, tmp_path: Path) -> None:
    """They may run twice. Both files come with Debian's package."""
    (tmp_path / "prometheus.yml").write_text(Path(file).read_text())
    script = pages.commands(pages.DOC / "monitoring.md", "prometheus")
    shutil.copytree(RULES.parent, tmp_path / "shipped")
    script = script.replace("/usr/share/wgsyncd/prometheus", f"{tmp_path}/shipped").replace("systemctl", ": systemctl")
    for name in ("scrape.yml", "wgsyncd.rules.yml"):
        assert name in script
    # The shipped files name /etc/prometheus, so promtool reads copies with another name.
    script = script.replace("promtool", f"sed -i s,/etc/prometheus/,{tmp_path}/, {tmp_path}/prometheus.yml\npromtool")
    for _ in range(2):
        done = subprocess.run(
            ["sh", "-ec", script.replace("/etc/prometheus", str(tmp_path))], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS: 1 rule files found" in done.stdout
        assert f"SUCCESS: {tmp_path}/prometheus.yml is valid" in done.stdout
    text = (tmp_path / "prometheus.yml").read_text()
    assert text.count("job_name: wgsyncd") == text.count("wgsyncd.rules.yml") == 1
    assert (tmp_path / "wgsyncd.targets.yml").read_text().splitlines()[-1] == '- targets: ["127.0.0.1:9586"]'


def test_grafana_finds_the_dashboard_where_the_package_puts_it() -> None:
    text = (RULES.parents[1] / "grafana" / "provisioning" / "wgsyncd.yaml").read_text()
    assert "path: /usr/share/wgsyncd/grafana\n" in text
    packaged = (RULES.parents[1] / "debian" / "install").read_text().split()
    assert packaged[packaged.index("etc/grafana") + 1] == "usr/share/wgsyncd"


def test_the_console_asks_for_metrics_that_exist() -> None:
    text = (RULES.parent / "consoles" / "wgsyncd.html").read_text()
    asked = set(re.findall(r"wgsyncd_[a-z_]+(?=[{\[)'\"])", text)) - {"wgsyncd_"}
    asked |= {f"wgsyncd_{one}_peers" for one in ("desired", "actual", "online", "frozen", "foreign")}
    assert len(asked) > 10
    assert asked - {"wgsyncd_task_last_success_timestamp_seconds"} <= exported() | {"wgsyncd_rejected_rows"}
