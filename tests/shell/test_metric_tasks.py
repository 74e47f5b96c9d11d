"""Each task has its series before it first runs, so that its first failure is seen."""

from __future__ import annotations

import re
from pathlib import Path

from tests.shell.test_metrics import Http, http
from wgsyncd.daemon import metrics

__all__ = ["http"]  # the fixture


def test_each_task_that_the_daemon_runs_is_there_from_the_start(http: Http) -> None:
    source = "".join(file.read_text() for file in Path(metrics.__file__).parent.glob("*.py"))
    run = set(re.findall(r'\.run(?:_preemptible)?\("(\w+)"', source))
    assert len(run) > 5
    for family in ("wgsyncd_task_runs", "wgsyncd_task_failures", "wgsyncd_task_last_success_timestamp_seconds"):
        assert {sample.labels["task"] for sample in http.families()[family].samples} == run
