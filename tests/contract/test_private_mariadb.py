"""The private MariaDB of the demo and of the tests is there when its start returns."""

from __future__ import annotations

from wgsyncd.demo.mariadb import PrivateServer


def test_a_server_that_has_just_started_can_be_shut_down() -> None:
    """MariaDB 10.11 loses a SIGTERM that comes while it starts, and would then be killed after its patience."""
    with PrivateServer() as server:
        for times in range(1, 9):
            server.kill()
            server.start()
            server.stop()
            assert server.log.read_text(errors="replace").count("mariadbd: Shutdown complete") == times
