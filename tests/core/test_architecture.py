"""The house's rules, read from the imports: what decides is pure, and each library has one importer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import wgsyncd

HOME = Path(wgsyncd.__file__).parent
FILES = {path.relative_to(HOME).as_posix(): path for path in sorted(HOME.rglob("*.py"))}
CORE = [name for name in FILES if name.startswith("core/")]

VALUES = {"__future__", "base64", "binascii", "collections", "contextlib", "dataclasses", "datetime", "difflib", "enum",
          "functools", "hashlib", "ipaddress", "itertools", "math", "re", "string", "typing", "zoneinfo"}  # fmt: skip
IMPORTERS = {
    "pyroute2": {"wireguard/kernel.py", "wireguard/links.py"},
    "pymysql": {"store/connection.py"},
    "apscheduler": {"schedule.py"},
    "structlog": {"log.py"},
    "prometheus_client": {"metrics.py"},
    "sdnotify": {"systemd.py"},
    "PIL": {"chart.py"},
    "rich": {"terminal.py"} | {name for name in FILES if name.startswith("demo/")},
    "msgspec": {"config.py", "settings.py", "spool.py"},
}


def imports(path: Path) -> Iterator[str]:
    """The dotted names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if module.startswith("wgsyncd"))


def code(path: Path) -> Iterator[ast.AST]:
    """Every node of a file except docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    yield from (node for node in ast.walk(tree) if id(node) not in docs)


@pytest.mark.parametrize("name", CORE)
def test_core_imports_values_and_itself(name: str) -> None:
    for module in imports(FILES[name]):
        top = module.partition(".")[0]
        assert top in VALUES or module.startswith("wgsyncd.core"), module


CLOCKS = {"now", "today", "utcnow", "time", "time_ns", "monotonic", "perf_counter"}


@pytest.mark.parametrize("name", CORE)
def test_core_asks_for_no_time_and_does_no_io(name: str) -> None:
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Attribute):
            assert called.attr not in CLOCKS or bool(node.args), f"{name}:{node.lineno} asks for the time"
        elif isinstance(called, ast.Name):
            assert called.id not in {"open", "print", "input", "exec", "eval", "__import__"}, f"{name}:{node.lineno}"


@pytest.mark.parametrize("library", IMPORTERS)
def test_each_library_is_imported_where_it_may_be_and_there_it_is(library: str) -> None:
    found = {name for name, path in FILES.items() if library in {m.partition(".")[0] for m in imports(path)}}
    assert found <= IMPORTERS[library]
    assert found, f"{library} is a dependency that nobody uses"
    most = 3 if library == "msgspec" else 2  # whatever is decoded from a file: the configuration, the spool
    assert len([name for name in found if not name.startswith("demo/")]) <= most


LAYERS = {
    # who may not know whom
    "store/": ("wgsyncd.agent", "wgsyncd.daemon", "wgsyncd.cli", "wgsyncd.wireguard", "wgsyncd.metrics"),
    "wireguard/": ("wgsyncd.agent", "wgsyncd.daemon", "wgsyncd.cli", "wgsyncd.store", "wgsyncd.metrics"),
    "agent.py": ("wgsyncd.daemon", "wgsyncd.cli", "wgsyncd.wireguard", "wgsyncd.store"),
    "accounting.py": (
        "wgsyncd.agent",
        "wgsyncd.daemon",
        "wgsyncd.cli",
        "wgsyncd.wireguard",
        "wgsyncd.store",
        "wgsyncd.spool",
    ),
    "spool.py": ("wgsyncd.accounting", "wgsyncd.agent", "wgsyncd.daemon", "wgsyncd.cli", "wgsyncd.store"),
    "books.py": ("wgsyncd.agent", "wgsyncd.daemon", "wgsyncd.cli", "wgsyncd.wireguard", "wgsyncd.store"),
    "daemon.py": ("wgsyncd.cli",),
    "ports.py": ("wgsyncd.agent", "wgsyncd.daemon", "wgsyncd.cli", "wgsyncd.wireguard", "wgsyncd.store"),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_dependencies_point_inwards(layer: str) -> None:
    files = [name for name in FILES if name.startswith(layer)]
    assert files
    for name in files:
        for module in imports(FILES[name]):
            assert not module.startswith(LAYERS[layer]), f"{name} imports {module}"


def test_nobody_but_the_demo_imports_the_demo() -> None:
    outside = {name for name in FILES if not name.startswith("demo/") and name != "cli.py"}
    assert not {name for name in outside if any(m.startswith("wgsyncd.demo") for m in imports(FILES[name]))}


COLUMNS = [
    "contract_number",
    "vpn_subnet",
    "next_child_ip",
    "customer_name",
    "customer_email",
    "customer_phone",
    "plan_name",
    "storage_quota_gb",
    "max_files",
    "bandwidth_profile",
    "contract_status",
    "identity_passphrase",
    "nc_password",
    "nc_quota_gb",
    "opt_video_call",
    "customer_devices",
    "device_id",
    "wg_iface",
    "wg_ip",
    "device_role",
    "is_parent",
    "device_name",
    "app_version",
    "qr_expires_at",
    "first_handshake_at",
    "last_handshake_at",
    "activated_at",
    "parent_changed_at",
    "paused_at",
    "rx_bytes_total",
    "tx_bytes_total",
    "rx_bytes_24h",
    "tx_bytes_24h",
    "rx_bytes_month",
    "tx_bytes_month",
    "nc_user",
    "nc_enabled",
    "deleted_at",
    "admin_logs",
    "action_type",
    "v_parent_conflicts",
]
# `Row.contract_status` is the store-independent word for the same thing; texts for people may name what they know.
OURS = {"contract_status"}


def test_nothing_outside_the_store_names_a_column() -> None:
    """Names in code, and texts that are SQL. Docstrings and messages to an admin may say where to look."""
    column = re.compile(rf"\b({'|'.join(sorted(set(COLUMNS) - OURS))})\b")
    sql = re.compile(r"\b(SELECT|UPDATE|INSERT|DELETE|FROM|WHERE)\b")
    for name, path in FILES.items():
        if name.startswith(("store/", "demo/")):
            continue
        for node in code(path):
            said: str | None = None
            if isinstance(node, ast.Name):
                said = node.id
            elif isinstance(node, ast.Attribute):
                said = node.attr
            elif isinstance(node, ast.arg):
                said = node.arg
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                said = text if sql.search(text) or not re.search(r"\s", text) else None
            assert not said or not column.search(said), f"{name}: {said}"


def test_sql_stands_in_the_store_only() -> None:
    sql = re.compile(r"\b(SELECT .+ FROM|UPDATE .+ SET|INSERT INTO|DELETE FROM)\b", re.DOTALL)
    for name, path in FILES.items():
        if name.startswith(("store/", "demo/")):
            continue
        for node in code(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not sql.search(node.value), f"{name}:{node.lineno}"


def test_there_is_no_lock() -> None:
    for name, path in FILES.items():
        if not name.startswith("demo/"):
            assert "threading" not in set(imports(path)) or name in THREADS, name


THREADS = {
    "endpoint.py",
    "hints.py",
    "control.py",
    "inbox.py",
    "daemon.py",
}  # the HTTP server, the sockets' clients and the scheduler have threads of their own
