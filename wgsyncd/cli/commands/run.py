"""Run the daemon in the foreground.

systemd starts it so: `systemctl start wgsyncd`. In a terminal, Ctrl-C ends it after a last accounting. SIGHUP reloads
the configuration. Only one daemon can run for a node. It needs CAP_NET_ADMIN, and its log goes to stderr.

exit status: 0 stopped, 1 refused to start, 2 bad configuration, 3 another machine runs the node now, 70 a bug
"""

import argparse

from wgsyncd.cli import options
from wgsyncd.daemon.events import EventQueue

LOST = 3  # The unit does not restart the daemon after this status.
STOP_WITHIN = 7.0  # seconds for the last accounting: 10 are promised, and the unit allows 15


def register(parser: argparse.ArgumentParser) -> None:
    options.add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Run until a signal ends it. The signal handlers stand before anything slow is imported."""
    events = EventQueue()
    events.install_signal_handlers(stop_within=STOP_WITHIN)
    try:
        return _run(args, events)
    except BaseException:
        if not events.has_timed_out:
            raise
        from wgsyncd import log

        log.get("daemon").error("stopped without a last account: the database did not answer in time")
        return 0


def _run(args: argparse.Namespace, events: EventQueue) -> int:
    from wgsyncd import log
    from wgsyncd.config import load
    from wgsyncd.daemon import lock, memory
    from wgsyncd.errors import ConfigError, NotHolder, UserError

    memory.hide()
    log.configure()
    try:
        settings = load.load(args.config)
        log.configure(settings.log.level, settings.log.format)
        lock.acquire(lock.path())
        claims = lock.Claims(settings.node.name, settings.interfaces)
    except ConfigError as error:
        for fault in error.faults:
            log.get("cli").error("bad configuration", file=error.path, key=fault.key, why=str(fault))
        return 2
    except UserError as error:
        log.get("cli").error("wgsyncd does not start", why=str(error))
        return 1
    from wgsyncd.cli import wiring
    from wgsyncd.daemon.daemon import Daemon
    from wgsyncd.daemon.systemd import Notifier
    from wgsyncd.engine.status import DaemonStatus

    memory.reduce_gc()
    status = DaemonStatus()
    try:
        build = wiring.daemon_agents(status)
        return Daemon(args.config, settings, build, events, status, Notifier(), claims).run()
    except (UserError, ConfigError) as error:
        log.get("cli").error("wgsyncd does not start", why=str(error))
        return 1
    except NotHolder as error:
        log.get("cli").error("wgsyncd ends" if error.lost else "wgsyncd does not start", why=str(error))
        return LOST if error.lost else 1
    except Exception:
        if events.has_timed_out:
            raise
        # a bug: say so in the log, which redacts keys, and let systemd restart the daemon
        log.get("daemon").critical("bug: wgsyncd dies and wants to be restarted", exc_info=True)
        return 70  # EX_SOFTWARE, sysexits.h
