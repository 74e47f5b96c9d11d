"""Runs wgsyncd as `python -m wgsyncd`."""

import sys

from wgsyncd.cli.main import main

sys.exit(main())
