"""The command line; the composition root, which alone names concrete adapters.

Imports stand in the commands, so that `run` can install its signal handlers before anything slow is loaded and
`check-config` needs no netlink.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wgsyncd import __version__
from wgsyncd.inbox import Inbox

if TYPE_CHECKING:
    from wgsyncd.agent import Agent
    from wgsyncd.ports import Reports
    from wgsyncd.settings import Settings

DEFAULT_CONFIG = Path("/etc/wgsyncd/wgsyncd.toml")
LOOK_AGAIN = 1.0  # seconds between two looks of `verify` at what the daemon may be about to book
STOP_WITHIN = 7.0  # seconds for the last account; 10 are promised
PROGRAM = "Keeps WireGuard's peers equal to a MariaDB table and books their traffic."
EXIT_CODES = "exit status: 0 done, 1 failed, 2 bad configuration or usage"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status. What an admin can cause is one clear line on standard error, never a trace."""
    args = _parser().parse_args(argv)
    if args.command == "run":
        inbox = Inbox()
        inbox.listen(stop_within=STOP_WITHIN)
        return _guarded(lambda: _run(args, inbox))
    if args.command == "demo":
        from wgsyncd.demo import run as demo

        return _guarded(lambda: demo.main(args))
    commands = {
        "plan": _plan,
        "approve": _approve,
        "status": _status,
        "sync": _sync,
        "verify": _verify,
        "quarantine": _quarantine,
        "check-config": _check_config,
        "init-db": _init_db,
        "usage": _usage,
        "explain": _explain,
    }
    # `plan` says 2 for "there are changes", as its kind of commands do.
    return _guarded(lambda: commands[args.command](args), bad_config=1 if args.command == "plan" else 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wgsyncd", description=PROGRAM, epilog=EXIT_CODES)
    parser.add_argument("--version", action="version", version=f"wgsyncd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, epilog: str = EXIT_CODES) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name, help=text, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name not in ("demo", "sync"):
            one.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
        return one

    command("run", "Run the daemon.", "exit status: 0 stopped, 1 refused to start, 2 bad configuration, 70 a bug")
    plan = command("plan", "Show what a cycle would do; do nothing.", "exit status: 0 nothing, 2 changes, 1 error")
    plan.add_argument("--json", action="store_true", help="one JSON object instead of text")
    approve = command("approve", "Let exactly the removals of a withheld plan through, once.")
    approve.add_argument("plan_id", help="the id that `wgsyncd plan` prints")
    status = command("status", "Show interfaces, peers, rejected rows and the guard.")
    status.add_argument("--json", action="store_true", help="one JSON object instead of text")
    verify = command("verify", "Hold kernel, baselines, buckets, days and figures against each other; change nothing.",
                     "exit status: 0 all adds up, 1 something does not, or an error")  # fmt: skip
    verify.add_argument("--json", action="store_true", help="one JSON object instead of text")
    quarantine = command("quarantine", "Show traffic that was held back since no link carries it; release or drop it.")
    quarantine.add_argument("action", nargs="?", choices=("list", "release", "drop"), default="list",
                            help="release: book it after all; drop: forget it; default: list")  # fmt: skip
    quarantine.add_argument("ids", nargs="*", type=int, metavar="ID", help="as the list has them")
    quarantine.add_argument("--json", action="store_true", help="one JSON object instead of text")
    sync = command("sync", "Have the running daemon compare everything, or a few devices, now; wait until it has.")
    sync.add_argument("device", nargs="*", help="device ids; default: all")
    sync.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="default: %(default)s")
    command("check-config", "Check the configuration; print every fault with its key and reason.")
    init = command("init-db", "Create wgsyncd's own tables (safe to run twice), with an admin's account.")
    init.add_argument("--user", default="root", help="the admin's account; default: %(default)s")
    init.add_argument("--socket", help="the server's unix socket; default: the configuration's host and port")
    init.add_argument("--password-file", type=Path, help="file with the admin's password; default: none is sent")
    init.add_argument("--grants", metavar="ACCOUNT", help="also grant the daemon's rights, as \"'mikyun'@'127.0.0.1'\"")
    from wgsyncd.commands import arguments

    arguments.explain(command("explain", "Tell why a device has a peer, or has none.", arguments.EXPLAIN))
    arguments.usage(command("usage", "Show booked bytes by hour, day or month.", arguments.USAGE))
    demo = command("demo", "Show wgsyncd at work on a database, interfaces and customers of its own.")
    from wgsyncd.demo.run import add_arguments

    add_arguments(demo)
    return parser


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
            print(f"  {log.one_line(log.redact(str(fault)))}", file=sys.stderr)
        return bad_config
    except WgsyncdError as error:
        print(f"wgsyncd: {log.one_line(log.redact(str(error)))}", file=sys.stderr)
        return 1
    except OSError as error:  # of standard output: a closed pipe, a full disk
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - or the interpreter tries again as it ends
        print(f"wgsyncd: {error.strerror}", file=sys.stderr)
        return 1


def _agent(settings: Settings) -> Agent:
    from wgsyncd import log, spool
    from wgsyncd.agent import Agent
    from wgsyncd.health import Health
    from wgsyncd.ports import Clock
    from wgsyncd.store.mariadb import MariaDBStore
    from wgsyncd.wireguard.local import LocalWireGuard

    log.configure("warning")  # to standard error: standard output is the command's answer
    clock = Clock(time.time, time.monotonic)
    samples = spool.FileSpool(spool.directory(), settings.node.name)
    return Agent(settings, LocalWireGuard(), MariaDBStore(settings), samples, Health(), clock)


def _reports(settings: Settings) -> Reports:
    from wgsyncd.store.reports import MariaDBReports

    return MariaDBReports(settings)


def _run(args: argparse.Namespace, inbox: Inbox) -> int:
    from wgsyncd import config, lock, log
    from wgsyncd.errors import ConfigError, Refused

    log.configure()
    try:
        settings = config.load(args.config)
        log.configure(settings.log.level, settings.log.format)
        lock.acquire(lock.path())
        claimed = lock.claim(settings.node.name)
    except ConfigError as error:
        for fault in error.faults:
            log.get("cli").error("bad configuration", file=error.path, key=fault.key, why=str(fault))
        return 2
    except Refused as error:
        log.get("cli").error("wgsyncd does not start", why=str(error))
        return 1
    from wgsyncd import spool
    from wgsyncd.agent import Agent
    from wgsyncd.daemon import Daemon
    from wgsyncd.health import Health
    from wgsyncd.ports import Clock
    from wgsyncd.store.mariadb import MariaDBStore
    from wgsyncd.systemd import Notifier
    from wgsyncd.wireguard.local import LocalWireGuard

    health, wireguard = Health(), LocalWireGuard()
    clock = Clock(time.time, time.monotonic)

    def build(settings: Settings) -> Agent:
        samples = spool.FileSpool(spool.directory(), settings.node.name)
        return Agent(settings, wireguard, MariaDBStore(settings), samples, health, clock)

    try:
        with claimed:
            return Daemon(args.config, settings, build, inbox, health, Notifier()).run()
    except Refused as error:
        log.get("cli").error("wgsyncd does not start", why=str(error))
        return 1
    except Exception:  # a bug: die loudly (but without a key: the log redacts), and be restarted
        log.get("daemon").critical("bug: wgsyncd dies and wants to be restarted", exc_info=True)
        return 70  # EX_SOFTWARE, sysexits.h


def _plan(args: argparse.Namespace) -> int:
    from wgsyncd import config

    agent = _agent(config.load(args.config))
    outlook = agent.preview()
    plan = outlook.plan
    if args.json:
        from wgsyncd.report import plan_as_data

        print(json.dumps(plan_as_data(outlook), ensure_ascii=False))
    else:
        from wgsyncd.report import plan_as_text

        print(plan_as_text(outlook))
    if outlook.troubles:
        return 1  # what could not be compared may need anything
    return 2 if plan.changes or plan.withheld or plan.unclear or outlook.steps else 0


def _approve(args: argparse.Namespace) -> int:
    from wgsyncd import config
    from wgsyncd.errors import Refused

    agent = _agent(config.load(args.config))
    outlook = agent.preview()
    if not outlook.tripped:
        raise Refused("nothing is withheld: there is nothing to approve")
    if outlook.plan_id != args.plan_id:
        raise Refused(
            f"{args.plan_id} is not the plan of now, which is {outlook.plan_id}: look at `wgsyncd plan` again"
        )
    agent.store.approve(args.plan_id)
    print(f"plan {args.plan_id} approved; the daemon carries it out with its next cycle")
    return 0


def _status(args: argparse.Namespace) -> int:
    from wgsyncd import config, lock
    from wgsyncd.errors import Refused
    from wgsyncd.report import status_as_data, status_as_text

    settings = config.load(args.config)
    agent = _agent(settings)
    try:
        pid = lock.holder(lock.path())
        daemon = f"runs (pid {pid})" if pid else "does not run"
    except Refused as error:
        daemon = str(error)
    data = status_as_data(settings, agent.preview(), daemon, time.time())
    print(json.dumps(data, ensure_ascii=False) if args.json else status_as_text(data))
    return 0


def _sync(args: argparse.Namespace) -> int:
    from wgsyncd import hints, lock
    from wgsyncd.errors import Refused

    if lock.holder(lock.path()) is None:
        raise Refused(f"no wgsyncd runs here (nobody holds {lock.path()})")
    answer = hints.send(lock.path().with_name("notify.sock"), tuple(args.device), args.timeout)
    if answer != "ok":
        raise Refused(answer)
    print("compared everything" if not args.device else f"compared {', '.join(args.device)}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from wgsyncd import config
    from wgsyncd.core.verify import faults
    from wgsyncd.report import findings_as_data, findings_as_text

    settings = config.load(args.config)
    findings = _agent(settings).verify(_rounds(settings))
    print(json.dumps(findings_as_data(findings), ensure_ascii=False) if args.json else findings_as_text(findings))
    return 1 if faults(findings) else 0


def _rounds(settings: Settings) -> Iterator[None]:
    """Until the daemon has surely been at everything; none where nobody is at work."""
    from wgsyncd import lock
    from wgsyncd.errors import Refused

    with contextlib.suppress(Refused):  # who may not know whether one runs waits for it
        if lock.holder(lock.path()) is None:
            return
    plan = settings.schedule
    patience = int(max(3 * plan.account, plan.reconcile + plan.account)) + 10
    for _ in range(patience):
        time.sleep(LOOK_AGAIN)
        yield


def _quarantine(args: argparse.Namespace) -> int:
    from wgsyncd import config, quarantine
    from wgsyncd.core.audit import Scribe
    from wgsyncd.core.usage import Windows
    from wgsyncd.errors import Refused
    from wgsyncd.report import held_as_data, held_as_text

    if (args.action == "list") == bool(args.ids):
        raise Refused("wgsyncd quarantine [list], or wgsyncd quarantine release|drop ID …")
    settings = config.load(args.config)
    agent = _agent(settings)

    def windows() -> Windows:
        return Windows(agent.clock.now(), int(settings.usage.bucket), settings.node.zone)

    if args.action == "list":
        held = agent.store.quarantine()
    else:
        work = {"release": quarantine.release, "drop": quarantine.drop}[args.action]
        held = work(agent.store, frozenset(args.ids), Scribe(settings.audit.language), windows)
    print(json.dumps(held_as_data(held)) if args.json else held_as_text(held, windows(), args.action))
    return 0


def _check_config(args: argparse.Namespace) -> int:
    from wgsyncd import config

    settings = config.load(args.config)
    config.check_files(settings, str(args.config))
    print(f"{args.config}: good; node {settings.node.name}, interfaces {', '.join(settings.interfaces)}")
    return 0


def _init_db(args: argparse.Namespace) -> int:
    from wgsyncd import config
    from wgsyncd.store import schema

    settings = config.load(args.config)
    database = settings.database.for_admin(args.user, args.socket, args.password_file)
    for line in schema.init(database, settings.node.zone, args.grants):
        print(line)
    return 0


def _usage(args: argparse.Namespace) -> int:
    from wgsyncd import config
    from wgsyncd.commands import usage

    settings = config.load(args.config)
    return usage.run(args, settings, _reports(settings), time.time())


def _explain(args: argparse.Namespace) -> int:
    from wgsyncd import config
    from wgsyncd.commands import explain

    settings = config.load(args.config)
    return explain.run(args, settings, _agent(settings), _reports(settings))
