"""The command line; the composition root, which alone names concrete adapters.

Imports stand in the commands, so that `run` can install its signal handlers before anything slow is loaded and
`check-config` needs no netlink.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wgsyncd.cli import arguments
from wgsyncd.daemon.events import EventQueue
from wgsyncd.demo import run as demo

if TYPE_CHECKING:
    from wgsyncd.config.schema import Settings
    from wgsyncd.engine.agent import Agent
    from wgsyncd.engine.agent_state import AgentState
    from wgsyncd.ports import Reports

STOP_WITHIN = 7.0  # seconds for the last account; 10 are promised


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. What an admin can cause is one clear line on standard error, never a trace."""
    args = arguments.parser(demo.add_arguments).parse_args(argv)
    if args.command == "run":
        inbox = EventQueue()
        inbox.install_signal_handlers(stop_within=STOP_WITHIN)
        return _guarded(lambda: _run(args, inbox))
    if args.command == "demo":
        return _guarded(lambda: demo.main(args))
    commands = {
        "plan": _plan,
        "adopt": _adopt,
        "approve": _approve,
        "status": _status,
        "sync": _sync,
        "reload": _reload,
        "verify": _verify,
        "quarantine": _quarantine,
        "check-config": _check_config,
        "init-db": _init_db,
        "usage": _usage,
        "explain": _explain,
        "doctor": _doctor,
    }
    # `plan` and `adopt` say 2 for "there are changes", as their kind of commands do.
    return _guarded(lambda: commands[args.command](args), bad_config=1 if args.command in ("plan", "adopt") else 2)


def _guarded(command: Callable[[], int], bad_config: int = 2) -> int:
    from wgsyncd import log
    from wgsyncd.errors import ConfigError, WgsyncdError

    try:
        status = command()
        print(end="", flush=True)  # here, where its failure is told
        return status
    except ConfigError as error:
        count = len(error.faults)
        print(f"wgsyncd: {error.path}: {count} fault{'s' if count > 1 else ''}", file=sys.stderr)
        for fault in error.faults:
            print(f"  {log.escape_control(log.redact(str(fault)))}", file=sys.stderr)
        return bad_config
    except WgsyncdError as error:
        print(f"wgsyncd: {log.escape_control(log.redact(str(error)))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell has it: 128 and the signal
    except OSError as error:  # of standard output: a closed pipe, a full disk
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or the interpreter tries again as it ends
        print(f"wgsyncd: {error.strerror}", file=sys.stderr)
        return 1


def _agent(settings: Settings) -> Agent:
    from wgsyncd import log
    from wgsyncd.dataplane.wireguard.local import LocalWireGuard
    from wgsyncd.engine.agent import Agent
    from wgsyncd.engine.agent_state import AgentState
    from wgsyncd.engine.status import DaemonStatus
    from wgsyncd.ports import Clock
    from wgsyncd.stores import spool
    from wgsyncd.stores.mikyun.store import MariaDBStore

    log.configure("warning")  # to standard error: standard output is the command's answer
    clock = Clock(time.time, time.monotonic)
    samples = spool.FileSpool(spool.directory(), settings.node.name)
    return Agent(settings, LocalWireGuard(), MariaDBStore(settings), samples, DaemonStatus(), clock, AgentState())


def _reports(settings: Settings) -> Reports:
    from wgsyncd.stores.mikyun.reports import MariaDBReports

    return MariaDBReports(settings)


def _run(args: argparse.Namespace, inbox: EventQueue) -> int:
    from wgsyncd import log
    from wgsyncd.config import load
    from wgsyncd.daemon import lock
    from wgsyncd.errors import ConfigError, UserError

    log.configure()
    try:
        settings = load.load(args.config)
        log.configure(settings.log.level, settings.log.format)
        lock.acquire(lock.path())
        claimed = lock.claim(settings.node.name)
    except ConfigError as error:
        for fault in error.faults:
            log.get("cli").error("bad configuration", file=error.path, key=fault.key, why=str(fault))
        return 2
    except UserError as error:
        log.get("cli").error("wgsyncd does not start", why=str(error))
        return 1
    from wgsyncd.daemon import memory
    from wgsyncd.daemon.daemon import Daemon
    from wgsyncd.daemon.systemd import Notifier
    from wgsyncd.dataplane.wireguard.local import LocalWireGuard
    from wgsyncd.engine.agent import Agent
    from wgsyncd.engine.status import DaemonStatus
    from wgsyncd.ports import Clock
    from wgsyncd.stores import spool
    from wgsyncd.stores.mikyun.store import MariaDBStore

    memory.reduce_gc()
    memory.trim_heap()
    status, wireguard = DaemonStatus(), LocalWireGuard(endpoints=False)  # a daemon has no use for them
    clock = Clock(time.time, time.monotonic)

    def build(settings: Settings, state: AgentState) -> Agent:
        samples = spool.FileSpool(spool.directory(), settings.node.name)
        return Agent(settings, wireguard, MariaDBStore(settings), samples, status, clock, state)

    try:
        with claimed:
            return Daemon(args.config, settings, build, inbox, status, Notifier()).run()
    except UserError as error:
        log.get("cli").error("wgsyncd does not start", why=str(error))
        return 1
    except Exception:  # a bug: die loudly (but without a key: the log redacts), and be restarted
        log.get("daemon").critical("bug: wgsyncd dies and wants to be restarted", exc_info=True)
        return 70  # EX_SOFTWARE, sysexits.h


def _load(args: argparse.Namespace) -> tuple[Settings, Agent]:
    from wgsyncd.config import load

    settings = load.load(args.config)
    return settings, _agent(settings)


def _plan(args: argparse.Namespace) -> int:
    from wgsyncd.cli import client

    return client.plan(args, lambda: _load(args))


def _adopt(args: argparse.Namespace) -> int:
    from wgsyncd.cli import adopt
    from wgsyncd.config import load

    settings = load.load(args.config)
    return adopt.run(args, settings, _agent(settings))


def _approve(args: argparse.Namespace) -> int:
    from wgsyncd.cli import client

    return client.approve(args, lambda: _load(args))


def _status(args: argparse.Namespace) -> int:
    from wgsyncd.cli import client

    return client.show_status(args, lambda: _load(args))


def _sync(args: argparse.Namespace) -> int:
    from wgsyncd.cli import client

    return client.sync(args)


def _reload(args: argparse.Namespace) -> int:
    from wgsyncd.cli import client

    return client.reload(args)


def _verify(args: argparse.Namespace) -> int:
    from wgsyncd.cli import verify

    return verify.verify(args, *_load(args))


def _quarantine(args: argparse.Namespace) -> int:
    from wgsyncd.cli import verify

    verify.check(args)
    return verify.quarantine(args, *_load(args))


def _check_config(args: argparse.Namespace) -> int:
    import json

    from wgsyncd.config import load
    from wgsyncd.errors import ConfigError

    try:
        settings = load.load(args.config)
        load.check_files(settings, str(args.config))
    except ConfigError as error:
        if args.json:
            print(json.dumps({"config": error.path, "faults": [fault.as_data() for fault in error.faults]}))
            return 2
        raise
    if args.json:
        print(json.dumps({"config": str(args.config), "faults": []}))
        return 0
    print(f"{args.config}: good; node {settings.node.name}, interfaces {', '.join(settings.interfaces)}")
    return 0


def _init_db(args: argparse.Namespace) -> int:
    from wgsyncd.config import load
    from wgsyncd.stores.mikyun import schema

    settings = load.load(args.config)
    database = settings.database.for_admin(args.user, args.socket and str(args.socket), args.password_file)
    for line in schema.init(database, settings.node.zone, args.grants):
        print(line)
    return 0


def _usage(args: argparse.Namespace) -> int:
    from wgsyncd.cli import usage
    from wgsyncd.config import load

    settings = load.load(args.config)
    return usage.run(args, settings, _reports(settings), time.time())


def _explain(args: argparse.Namespace) -> int:
    from wgsyncd.cli import explain

    settings, agent = _load(args)
    return explain.run(args, settings, agent, _reports(settings))


def _doctor(args: argparse.Namespace) -> int:
    from wgsyncd import log
    from wgsyncd.cli.doctor import command as command_module
    from wgsyncd.dataplane.wireguard.links import link
    from wgsyncd.dataplane.wireguard.local import LocalWireGuard
    from wgsyncd.stores.mikyun.facts import examine

    log.configure("warning")
    return command_module.run(args, examine, LocalWireGuard, link)
