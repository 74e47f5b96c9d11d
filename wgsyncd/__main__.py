"""Runs wgsyncd, also as `python -m wgsyncd`."""

import signal
import sys


def main() -> int:
    """Run the command line. A ^C while it is still imported ends the process at once, without a trace."""
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    if handler is signal.SIG_IGN:  # as for a command in the background of a shell
        signal.signal(signal.SIGINT, handler)
    from wgsyncd.cli.main import main as run

    signal.signal(signal.SIGINT, handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
