"""`python -m wgsyncd`."""

import sys

from wgsyncd.cli import main

sys.exit(main())
