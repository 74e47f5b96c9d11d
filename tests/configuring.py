"""The shortest configuration, and the faults of a configuration by key."""

from __future__ import annotations

import pytest

from wgsyncd.config.load import parse
from wgsyncd.errors import ConfigError, ConfigIssue

LEAST = '[interfaces.wg0]\nnetworks = ["10.200.0.0/24"]\n'


def faults(written: str) -> dict[str, ConfigIssue]:
    with pytest.raises(ConfigError) as caught:
        parse(written)
    return {fault.key: fault for fault in caught.value.faults}
