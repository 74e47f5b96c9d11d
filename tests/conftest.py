"""For all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("wgsyncd", deadline=None)  # speed is for benchmarks
settings.load_profile("wgsyncd")

# A shell that starts something in the background has it ignore SIGINT, which all that it starts would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
