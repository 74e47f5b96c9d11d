"""Settings and fixtures for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from wgsyncd.core.usage import posting
from wgsyncd.engine import state_cache

# Speed is for benchmarks. Each run looks at other examples, so few examples a run find the same in the end.
settings.register_profile("wgsyncd", deadline=None, max_examples=50)
settings.load_profile("wgsyncd")

# A shell makes background commands ignore SIGINT, and child processes of the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def plain_log() -> Iterator[None]:
    """Forget after each test how a command has configured the log, so that no test depends on the one before."""
    yield
    structlog.reset_defaults()


@pytest.fixture(params=[(state_cache, "BATCH"), (posting, "CHUNK")], ids=["batches", "portions"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each transaction of an accounting post one device only, by the size of a batch or of a chunk."""
    where, name = request.param
    monkeypatch.setattr(where, name, 1)
