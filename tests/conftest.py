"""For all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("wgsyncd", deadline=None)  # speed is for benchmarks
settings.load_profile("wgsyncd")
