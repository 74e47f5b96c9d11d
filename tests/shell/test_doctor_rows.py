"""`wgsyncd doctor` names devices with bytes that wait for their row."""

from __future__ import annotations

from tests.shell.test_doctor_checks import told
from wgsyncd.core.inspect.finding import Severity
from wgsyncd.core.usage.aside import Obstacle, SetAside


def test_a_row_that_cannot_be_changed_is_a_fault() -> None:
    locked = SetAside("d", Obstacle.LOCKED, "", 1.0)
    refused = SetAside("0001-DEV-006", Obstacle.REFUSED, "4025: CONSTRAINT", 1.0)
    for waiting, level in ((locked,), Severity.FAULT), ((locked, refused), Severity.FAULT), ((), Severity.OK):
        (found,) = (one for one in told(set_aside=waiting) if one.check == "rows")
        assert found.severity is level
        if refused in waiting:
            assert "0001-DEV-006: 4025: CONSTRAINT" in found.message
