"""Create wgsyncd's own tables with an admin's account. A second run does no harm.

exit status: 0 done, 1 failed, 2 bad configuration or usage
"""

import argparse

from wgsyncd.cli import options, output, wiring
from wgsyncd.config import load


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)
    wiring.register_init(parser)


def run(args: argparse.Namespace) -> int:
    for line in wiring.init_store(load.load(args.config), args):
        print(output.sanitize(line))
    return 0
