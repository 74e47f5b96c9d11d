"""The commands that ask the running daemon: `plan`, `approve`, `status`, `sync`, `reload`. Where none runs, or it has
another configuration than the one that is asked about, the first three look for themselves, and say so."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from wgsyncd.cli import output
from wgsyncd.cli.arguments import DEFAULT_CONFIG
from wgsyncd.config.schema import Settings
from wgsyncd.daemon import control, lock
from wgsyncd.daemon.control import NobodyListensError, OtherConfigurationError
from wgsyncd.engine import plan_report, status_report
from wgsyncd.engine.agent import Agent
from wgsyncd.errors import ConfigIssue, UserError, WgsyncdError

Load = Callable[[], tuple[Settings, Agent]]
"""Makes what a command needs to look for itself. ConfigError where it cannot."""

Looked = tuple[dict[str, Any] | None, str]
"""What the daemon answered, or None and why it was not asked."""


def _ask(args: argparse.Namespace, command: str, **facts: str) -> Looked:
    if getattr(args, "no_daemon", False):
        return None, "the daemon was not asked"
    if args.config != DEFAULT_CONFIG:
        facts["config"] = str(args.config.resolve())
    try:
        return control.ask(control.path(), command, facts), ""
    except NobodyListensError:
        return None, _who_runs()
    except OtherConfigurationError as error:
        return None, str(error)


def _who_runs() -> str:
    """Whether there is a daemon, where it does not answer."""
    try:
        pid = lock.holder(lock.path())
    except UserError as error:
        return str(error)
    return f"runs (pid {pid}), but has no control socket" if pid else "does not run"


def _note(why: str) -> None:
    """That a command looked for itself."""
    said = f"wgsyncd {why}" if why.startswith(("does not", "runs")) else why
    print(output.sanitize(f"wgsyncd: {said}: this is what the command sees by itself"), file=sys.stderr)


# -- plan, approve


def plan(args: argparse.Namespace, load: Load) -> int:
    """What a cycle would do: 0 nothing, 2 something, 1 where that cannot be told of every interface."""
    data, why = _ask(args, "plan")
    if data is None:
        settings, agent = load()
        data = plan_report.plan_as_data(agent.inspector.preview(), settings.node.zone, time.time())
        _note(why)
    if args.json:
        print(json.dumps({"source": "command" if why else "daemon", **data}, ensure_ascii=False))
    else:
        output.print_lines(plan_report.plan_as_lines(data))
    if data["not_compared"]:
        return 1  # what could not be compared may need anything
    return 2 if plan_report.wants_anything(data) else 0


def approve(args: argparse.Namespace, load: Load) -> int:
    """Let a plan's removals through."""
    data, why = _ask(args, "approve", plan=args.plan_id)
    if data is None:
        load()[1].approve(args.plan_id)
        _note(why)
        text = f"plan {args.plan_id} approved; the daemon carries it out with its next cycle"
        answer = {"plan": args.plan_id, "approved": True, "carried_out": False, "removed": None}
    else:
        removed = sum(1 for one in data["changes"] if one["action"] == "remove")
        text = f"plan {args.plan_id} approved and carried out: {removed} removed"
        answer = {"plan": args.plan_id, "approved": True, "carried_out": True, "removed": removed}
    print(json.dumps(answer) if args.json else text)
    return 0


# -- status


def show_status(args: argparse.Namespace, load: Load) -> int:
    """One screen, once or (--watch) again and again until ^C."""
    if args.watch is None:
        data = _look(args, load)
        if args.json:
            print(json.dumps(data, ensure_ascii=False))
        else:
            output.print_lines(status_report.as_lines(data, output.width()))
        return 0
    try:
        if args.json:
            while True:
                print(json.dumps(_look(args, load), ensure_ascii=False), flush=True)
                time.sleep(args.watch)
        if not output.is_terminal():
            raise UserError("--watch draws on a terminal; for a program there is --watch --json, an object per line")
        _look(args, load)  # who may not see it is told so, at once; what comes later is shown on the screen
        output.live(lambda: _screen(args, load), args.watch)
    except KeyboardInterrupt:
        pass  # that is how it ends
    return 0


def _look(args: argparse.Namespace, load: Load) -> dict[str, Any]:
    data, why = _ask(args, "status")
    if data is None:
        settings, agent = load()
        data = status_report.of_outlook(settings, agent.inspector.preview(), why, time.time())
    return data


def _screen(args: argparse.Namespace, load: Load) -> list[plan_report.Line]:
    try:
        lines = status_report.as_lines(_look(args, load), output.width())
    except WgsyncdError as error:
        lines = [(output.sanitize(str(error)), "fault")]
    return [*lines, ("", ""), (f"{time.strftime('%H:%M:%S')}, every {args.watch:g} s; ^C ends", "")]


# -- sync, reload


def sync(args: argparse.Namespace) -> int:
    """Have everything compared, or these devices, and wait until it is done."""
    answer = control.ask(control.path(), "sync", {"devices": args.device}, args.timeout)
    what = ", ".join(args.device) or "everything"
    print(json.dumps(answer) if args.json else output.sanitize(f"compared {what}"))
    return 0


def reload(args: argparse.Namespace) -> int:
    """Have the configuration read again: 0 taken, 2 refused, the old one going on."""
    answer: Mapping[str, Any] = control.ask(control.path(), "reload", {}, args.timeout)
    if args.json:
        print(json.dumps(answer, ensure_ascii=False))
    elif answer["taken"]:
        print(output.sanitize(f"{answer['config']}: taken"))
    else:
        faults = [ConfigIssue(**one) for one in answer["faults"]]
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        print(output.sanitize(f"wgsyncd: {answer['config']}: {count}; the old configuration goes on"), file=sys.stderr)
        for fault in faults:
            print(output.sanitize(f"  {fault}"), file=sys.stderr)
    return 0 if answer["taken"] else 2
