"""Whatever an admin of NexaVPN sees has the words of NexaVPN: user, device, gateway, policy."""

from __future__ import annotations

import re
from pathlib import Path

from tests.nexavpn_sides import named
from tests.postgres import PrivatePostgres
from tests.real.nexavpn_bench import opened
from tests.real.running import Ear, wait
from tests.real.test_outages import TROUBLE
from tests.samples import text as key_text
from wgsyncd.cli import main

OTHER_WORDS = re.compile("contract|customer|QR code|mikyun|MariaDB|admin_logs|max_devices", re.IGNORECASE)
# What the settings of both control planes share.
BANDWIDTH = """
[shaping]
mode = "enforce"
default = "standard"
[bandwidth.standard]
down = "8Mbit"
up = "4Mbit"
"""


def test_no_output_has_a_word_of_the_other_control_plane(postgres: PrivatePostgres, ear: Ear, tmp_path: Path) -> None:
    """The device has a peer, policies and a bandwidth. Later its status says blocked, and the database is away."""
    with opened(postgres, ear, tmp_path) as bench:
        daemon, tables = bench.daemon, bench.tables
        text = daemon.config.read_text(encoding="utf-8").replace("enforce = false", "enforce = true")
        text = text.replace("[schedule]", '[schedule]\nresync_interval = "5s"')
        daemon.config.write_text(text + BANDWIDTH, encoding="utf-8")
        tables.insert(5)
        tables.policy("office", "allow", "10.0.0.0/8", to=[("user", named("alice"))])
        tables.policy("odd", "maybe", "10.9.0.0/16", to=[("user", named("alice"))])
        seen: dict[str, str] = {}

        def look(when: str, *commands: str, shows: str | None = None) -> None:
            for command in commands:
                names = [one.replace("_", " ") for one in command.split()]
                done = daemon.cli(*names, code=None, shows=shows if names[0] == "explain" else None)
                seen[f"{when}: {command}"] = done.stdout + done.stderr

        daemon.start()
        device = str(tables.id(5))
        wait(lambda: device in bench.world.server.run("nft", "list", "ruleset"), "the element of the device")
        shown = key_text(5)
        look("with a peer", "explain laptop_5 --to 10.0.5.7", "explain laptop_5 --json", shows=shown)
        look("with a peer", "status", "status --json", "plan --json", "devices --all", "usage alice",
             "usage --top 3 --by-user", "adopt", "doctor", "quarantine", "check-config", f"approve {'0' * 32}", "verify")  # fmt: skip
        seen["metrics"] = daemon.get("/metrics")
        tables.update("devices", tables.id(5), status="blocked")
        wait(lambda: device not in bench.world.server.run("nft", "list", "ruleset"), "the removal")
        look("blocked", "explain laptop_5", "devices --all", "plan", shows=shown)
        postgres.stop()
        try:
            wait(lambda: daemon.lines(event=TROUBLE), "the trouble with the database")
            look("without a database", "status", "plan", "explain laptop_5", "doctor", "usage alice")
        finally:
            postgres.start()
            tables.connect()
        daemon.stop()
        seen["log"] = daemon.log.read_text(encoding="utf-8")
        seen["audit"] = str([(one["message"], one["metadata"]) for one in tables.logs()])
    for name, said in seen.items():
        assert said, name
        assert not OTHER_WORDS.findall(said), (name, OTHER_WORDS.findall(said), said)
    assert not re.findall("contract|customer|QR code", " ".join(main.COMMANDS.values()), re.IGNORECASE)
