"""`wgsyncd status` tells what it knows before the first complete cycle, and calls no cycle good that compared nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.asked_daemon import Work
from tests.node import Node
from tests.shell.conftest import Run
from tests.shell.test_troubles import cycle
from wgsyncd.cli import client
from wgsyncd.errors import UserError


def test_after_a_restart_without_a_database_status_shows_what_the_kernel_says(node: Node, work: Work, run: Run) -> None:
    node.shake(5)
    node.traffic(5, 3000, 2000)
    node.start()
    node.status.config_loaded_at = time.time()
    node.store.down = True
    cycle(node)
    one, other = json.loads(run("status", "--json")[1][0])["interfaces"]
    assert (one["desired"], one["actual"], one["online"], one["rx_bytes"], one["tx_bytes"]) == (None, 3, 1, 3000, 2000)
    assert (one["present"], other["present"], other["actual"]) == (True, True, 0)
    assert run("status")[1][3].split()[:4] == ["wg0", "?", "3", "1"]
    node.store.down = False
    cycle(node)
    assert run("status")[1][3].split()[:4] == ["wg0", "3", "3", "1"]
    assert run("status")[0] == 0


def test_a_cycle_that_compared_no_interface_is_not_good_and_not_ready(node: Node, work: Work) -> None:
    node.wg.delete("wg0")
    node.wg.delete("wg1")
    node.status.succeeded_at = {}
    cycle(node)
    assert node.status.succeeded_at == {}
    with pytest.raises(UserError):
        client.ask("/readyz")
    node.wg.add_interface("wg1")
    cycle(node)
    assert set(node.status.succeeded_at) == {"reconcile", "account"}
    assert client.ask("/readyz") == b"ok\n"


def test_a_daemon_that_has_just_started_is_not_failing(node: Node, work: Work, run: Run) -> None:
    node.start()
    node.status.started_at = node.status.config_loaded_at = time.time()
    status, lines = run("status", "--json")
    assert (status, [one["message"] for one in json.loads(lines[0])["troubles"]]) == (
        1, ["the first cycle is not complete yet"],
    )  # fmt: skip
    node.status.started_at -= 61
    assert run("status")[0] == 2


def test_a_file_is_changed_only_if_its_own_time_is_another_one(node: Node, work: Work, run: Run, config: Path) -> None:
    """At a boot with a clock of yesterday, the file is of the future. A reload would not help against that."""
    ahead = time.time() + 86400
    os.utime(config, (ahead, ahead))
    node.status.note_configuration(config)
    assert run("status")[0] == 0
    os.utime(config, (ahead - 172800, ahead - 172800))  # an older copy was put back
    assert f"configuration: {config} has changed since it was loaded" in run("status")[1]
