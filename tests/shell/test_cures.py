"""Each command that a message, a finding or a page proposes is one that a shell and the program understand.

`tests/real/test_installed_cures.py` runs those that mend something.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pages
from tests.pages import DOC, README
from wgsyncd.cli import main
from wgsyncd.errors import StoreError
from wgsyncd.stores.mikyun.settings import Database
from wgsyncd.stores.mikyun.trouble import translate

PROGRAM = Path(main.__file__).parents[1]
PLAN = "90f0bf914384d5a1c07e62fb8d3390ac"
ACCOUNT = "\"'wgsyncd'@'localhost'\""
SAMPLES = {
    "one.change.approval": PLAN, "module": "", "logs": "journalctl -u wgsyncd", "name": "wg0", "group": "root",
    "mode": "600", "guard.plan": PLAN, "policies.plan": PLAN, "plan.plan_id": PLAN, "report.plan": PLAN, "one.reason": PLAN, "plan": PLAN, "account": ACCOUNT,
    "bits": "o", "pid": "7", "address": "10.0.0.1/24",
    "wording.RESTORE": "A mistake?", "mistake": "A mistake?", "wording.if_a_mistake(gone)": "A mistake?",
    "address[1]": "9586", "one.listen_port": "51820", "_WITHOUT_PEERS": "!peer",
    "interface": "wg0", "port": "51820",
}  # fmt: skip
"""What a braced expression of a proposed command may stand for. All others stand for a file."""
TOOLS = frozenset((
    "apt-get", "awk", "chmod", "chown", "cp", "df", "dmesg", "du", "echo", "editor", "findmnt", "id", "install", "ip",
    "journalctl", "ls", "man", "mariadb", "mkdir", "modprobe", "nft", "openssl", "printf", "ps", "psql", "rm",
    "sed", "sort", "ss", "systemctl", "sysctl", "systemd-sysusers", "tail", "tc", "test", "timedatectl", "timeout", "wg", "wgsyncd",
))  # fmt: skip
"""The programs that a finding may propose. A Debian server with MariaDB and WireGuard has all of them."""
IN_TEXT = re.compile(
    r"`(?:sudo )?wgsyncd ([a-z][^`]*)`"  # marked as a command
    r"|\((?:sudo )?wgsyncd ([a-z][a-z-]*)\)"
    rf"|[:?.] wgsyncd ((?:{'|'.join(main.COMMANDS)})\b(?: [^\s)]+)*)\)?$"  # the end of a sentence, to be copied
)


def sample(node: ast.AST) -> str:
    """A text of the program, with an example for each braced expression. "" if the node is no text."""
    if isinstance(node, ast.Constant):
        return re.sub(r"\{(\w+)\}", lambda one: SAMPLES.get(one[1], "/tmp/x"), str(node.value))
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(
        SAMPLES.get(ast.unparse(one.value), "/tmp/x") if isinstance(one, ast.FormattedValue) else sample(one)
        for one in parts
    )


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts below a node. The parts of an f-string are one text."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            yield sample(node)
        else:
            yield from texts(node)


def trees() -> Iterator[tuple[Path, ast.Module]]:
    stores = (PROGRAM / "stores" / "__init__.py").read_text(encoding="utf-8")
    for file in sorted(PROGRAM.rglob("*.py")):
        if file.parents[1].name == "stores" and f'"{file.parent.name}"' not in stores:
            continue  # no configuration can name this store yet
        yield file, ast.parse(file.read_text(encoding="utf-8"))


def proposed() -> dict[str, str]:
    """Returns the command lines of wgsyncd in messages and pages, each with the file that proposes it."""
    found: dict[str, str] = {}
    for file, tree in trees():
        for text in texts(tree):
            for command in IN_TEXT.findall(text):
                found.setdefault("".join(command).strip(), file.name)
            if re.fullmatch(r"sudo wgsyncd [a-z-]+", text):
                found.setdefault(text.partition("wgsyncd ")[2], file.name)
    # These name a document or a command, and propose no run.
    found = {one: file for one, file in found.items() if not one.endswith("--json") and one != "explain"}
    playbook = (DOC.parent / "examples" / "ansible.yml").read_text(encoding="utf-8")
    for command in re.findall(r"(?:command|validate): wgsyncd (.*)", playbook):
        found.setdefault(command.replace("%s", "/tmp/x").partition(" #")[0], "ansible.yml")
    for page in [README, *sorted(DOC.glob("*.md"))]:
        for block in pages.blocks(page).values():
            for line in block.splitlines():
                if command := re.match(r"(?:sudo )?wgsyncd ([a-z].*)", line):
                    found.setdefault(command[1], page.name)
    return found


WORDED = ("bring_up", "set_port")  # the functions of wording.py that return a fix


def fixes() -> dict[str, str]:
    """Returns the shell lines that findings have as their fix, each with the file that has it.

    A fix is the third value of `fault` and `warning`. It may be a name, or what a function of the same file or of wording.py returns.
    """
    found: dict[str, str] = {}
    for file, tree in trees():
        calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)]
        values = [one.args[2] for one in calls if one.func.id in ("fault", "warning") and len(one.args) > 2]  # type: ignore[attr-defined]
        names = {one.id for value in values for one in ast.walk(value) if isinstance(one, ast.Name)}
        for one in ast.walk(tree):
            if isinstance(one, ast.Assign | ast.AugAssign):
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                if names & {target.id for target in targets if isinstance(target, ast.Name)}:
                    values.append(one.value)
            elif isinstance(one, ast.FunctionDef) and one.name in (WORDED if file.name == "wording.py" else names):
                values += [some.value for some in ast.walk(one) if isinstance(some, ast.Return) and some.value]
        for value in values:
            for text in texts(ast.Expr(value)):
                if re.match(r"(?:sudo )?[a-z][a-z-]* ", text.lstrip("& ")):
                    found.setdefault(text.lstrip("& "), file.name)
    return found


COMMANDS, FIXES = proposed(), fixes()


def test_there_are_such_commands() -> None:
    assert {"plan", "adopt", "check-config", "reload", f"approve {PLAN}", "adopt --undo"} <= COMMANDS.keys()
    assert "check-config --config /tmp/x" in COMMANDS, "Ansible's example"
    assert {"wgsyncd plan", "ip link set wg0 up || ss -lunp", "systemctl restart wg-quick@wg0"} <= FIXES.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_parser_understands_it(command: str) -> None:
    words = shlex.split(re.split(r"\s(?:&&|\||>|;|#)\s?", command)[0], comments=True)
    assert main.parser().parse_args(words).command == words[0], COMMANDS[command]


@pytest.mark.parametrize("fix", FIXES)
def test_a_shell_understands_what_a_finding_proposes(fix: str) -> None:
    assert subprocess.run(["bash", "-n", "-c", fix], check=False).returncode == 0
    for one in re.split(r"&&|\|\||\|", fix):
        words = shlex.split(one, comments=True)
        words = words[1:] if words[0] == "sudo" else words
        assert words[0] in TOOLS, (fix, FIXES[fix])
        if words[0] == "wgsyncd":
            assert main.parser().parse_args(words[1:]).command == words[1]


def test_what_proposes_to_approve_says_first_how_to_undo_a_mistake() -> None:
    rules = (DOC.parent / "prometheus" / "wgsyncd.rules.yml").read_text(encoding="utf-8")
    said = {text for _, tree in trees() for text in texts(tree)} | set(re.findall("description: (.*)", rules))
    found = [one for one in said if re.search("wgsyncd approve(?! --json)", one)]
    assert len(found) >= 8
    for one in found:
        assert re.search(r"mistake.*(Meant\?|意図した).{0,9}wgsyncd approve[^?]*$", one), one
        assert one.startswith("A mistake") or re.search("nothing was|何も削除していません", one, re.IGNORECASE), one


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1044, "Access denied for user 'wgsyncd'@'localhost' to database 'mikyun_cloud'"),
        (1142, "DELETE command denied to user 'wgsyncd'@'127.0.0.1' for table `mikyun_cloud`.`wgsyncd_peers`"),
        (1143, "SELECT command denied to user ''@'%' for column 'a b' in table 't'"),
    ],
)
def test_the_cure_of_a_missing_right_names_the_account(number: int, text: str) -> None:
    error = translate(Exception(number, text), Database(), known=True)
    assert isinstance(error, StoreError)
    assert str(error) == f"{error.text}. As root: {error.todo}"
    args = main.parser().parse_args(shlex.split(error.todo)[1:])
    assert args.grants in text


def test_no_circle() -> None:
    """A database that does not exist is made by its application: `init-db` would meet the same error."""
    error = translate(Exception(1049, "Unknown database 'mikyun_cloud'"), Database(), known=True, at_login=True)
    assert isinstance(error, StoreError)
    assert "init-db" not in str(error)
    assert error.todo.startswith("mariadb -e 'CREATE DATABASE `mikyun_cloud` ")
