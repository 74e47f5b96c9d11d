"""For all tests."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

from wgsyncd.core.usage import posting
from wgsyncd.engine import state_cache

settings.register_profile("wgsyncd", deadline=None)  # speed is for benchmarks
settings.load_profile("wgsyncd")

# A shell that starts something in the background has it ignore SIGINT, which all that it starts would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=[(state_cache, "BATCH"), (posting, "CHUNK")], ids=["batches", "portions"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A booking in transactions of one device: because no more are written at a time, or no more are summed up."""
    where, name = request.param
    monkeypatch.setattr(where, name, 1)
