"""Imports keep to the project's rules: core is pure, and each library has few importers."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.sources import FILES, nodes
from wgsyncd.stores import CONTROL_PLANES

CORE = [name for name in FILES if name.startswith("core/")]

VALUES = {"__future__", "base64", "binascii", "collections", "contextlib", "dataclasses", "datetime", "difflib", "enum",
          "functools", "hashlib", "ipaddress", "itertools", "math", "operator", "re", "string", "typing", "zoneinfo"}  # fmt: skip
IMPORTERS = {
    "pyroute2": {"dataplane/wireguard/interfaces.py"},
    "pymysql": {"stores/mikyun/connection.py", "stores/mikyun/login.py"},
    "psycopg": {"stores/nexavpn/connection.py", "stores/nexavpn/login.py"},
    "apscheduler": {"daemon/scheduler.py"},
    "structlog": {"log.py"},
    "prometheus_client": {"daemon/metrics.py"},
    "sdnotify": {"daemon/systemd.py"},
    "pygal": {"cli/chart.py"},
    "cryptography": {"stores/nexavpn/psk.py"},
    "rich": {"cli/output.py", "cli/table.py"} | {name for name in FILES if name.startswith("demo/")},
    # Each of these modules decodes or encodes at an edge: configuration, spool, requests, nft or documents of --json.
    "msgspec": {
        "dataplane/nftables/listing.py",
        "config/load.py", "config/values.py", "config/schema.py", "stores/mikyun/settings.py", "stores/nexavpn/settings.py", "stores/spool.py",
        "daemon/admin.py", "daemon/device_list.py",
        "daemon/admin_report.py", "demo/environment.py", "demo/nexavpn.py",
        "demo/observation.py", *(name for name in FILES if name.startswith(("cli/", "engine/reports/"))),
    },
}  # fmt: skip


@cache
def imports(path: Path) -> frozenset[str]:
    """Returns the dotted names of all modules that a file imports. Imports inside functions count too."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names if module.startswith("wgsyncd"))


def code(path: Path) -> Iterator[ast.AST]:
    """Yields every node of a file except docstrings."""
    docs = {id(node.value) for node in nodes(path) if isinstance(node, ast.Expr)}
    yield from (node for node in nodes(path) if id(node) not in docs)


@pytest.mark.parametrize("name", CORE)
def test_core_imports_values_and_itself(name: str) -> None:
    for module in imports(FILES[name]):
        top = module.partition(".")[0]
        assert top in VALUES or module.startswith("wgsyncd.core"), module


CLOCKS = {"now", "today", "utcnow", "time", "time_ns", "monotonic", "perf_counter"}


@pytest.mark.parametrize("name", CORE)
def test_core_asks_for_no_time_and_does_no_io(name: str) -> None:
    for node in nodes(FILES[name]):
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
    if library != "msgspec":
        assert len([name for name in found if not name.startswith("demo/")]) <= 2


# The import table says what each room may import of wgsyncd. A file belongs to the room with the longest prefix that
# matches its path.
_CORE = ("core", "core.peers", "core.usage", "core.inspect", "core.shaping", "core.policies")
ROOMS: dict[str, tuple[str, ...]] = {
    "errors.py": (),
    "redact.py": (),
    "log.py": ("redact", "errors"),
    "core/peers/": ("core",),
    "core/usage/": ("core",),
    "core/inspect/": ("core", "core.peers", "core.usage"),
    "core/shaping/": ("core", "core.peers"),
    "core/policies/": ("core", "core.peers"),
    "core/": ("core",),
    "config/": ("config", "core", "core.policies", "core.shaping", "errors", "log", "stores"),  # the table of control planes, and no store itself
    "ports.py": (*_CORE, "errors"),
    "stores/": ("stores", *_CORE, "ports", "config", "errors", "log", "redact"),
    "dataplane/": ("dataplane", *_CORE, "ports", "config", "errors", "log", "redact"),
    "engine/": ("engine", *_CORE, "ports", "config", "errors", "log", "redact"),
    "daemon/": ("daemon", "engine", *_CORE, "ports", "config", "errors", "log", "redact"),
    "demo/": ("demo", "config", "errors"),
    "cli/": ("",),
    "__init__.py": ("_version",),
    "_version.py": (),  # The build writes this file.
    "__main__.py": ("cli",),
}  # fmt: skip
SUBROOMS = (
    "core.peers", "core.usage", "core.inspect", "core.shaping", "core.policies",
    "stores.mikyun", "stores.nexavpn", "dataplane.wireguard", "dataplane.tc", "dataplane.nftables",
)  # fmt: skip


def room(name: str) -> str:
    """Returns the room of a file. `name` is the file's path below wgsyncd/."""
    return max((prefix for prefix in ROOMS if name.startswith(prefix)), key=len)


def room_of_module(module: str) -> str:
    """Returns the room of a module as the table names it, for example ``core.peers`` for ``wgsyncd.core.peers.plan``."""
    path = module.removeprefix("wgsyncd").lstrip(".")
    return next((sub for sub in SUBROOMS if f"{path}.".startswith(f"{sub}.")), path.partition(".")[0])


def may_import(name: str, module: str) -> bool:
    """Returns whether the table lets the file `name` import this module of wgsyncd."""
    allowed = ROOMS[room(name)]
    target = room_of_module(module)
    own = room_of_module("wgsyncd." + name.removesuffix(".py").replace("/", "."))
    # A plain `from wgsyncd import log` also names the package itself. The package holds the version and `without`.
    return target in ("", own) or "" in allowed or target in allowed


def breaches() -> Iterator[str]:
    """Yields every import that the table forbids, as ``file -> module``."""
    modules = {"wgsyncd." + n.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for n in FILES}
    for name, path in FILES.items():
        for module in set(imports(path)) & (modules | {"wgsyncd"}):
            if module.startswith("wgsyncd") and not may_import(name, module):
                yield f"{name} -> {module}"


def test_imports_follow_the_table() -> None:
    assert not set(breaches()), "the table of tests/core/test_architecture.py forbids these imports"


def test_a_concrete_store_is_named_in_its_folder_alone() -> None:
    named = {
        name for name in FILES if any(module.startswith("wgsyncd.stores.mikyun") for module in imports(FILES[name]))
    }
    assert {name for name in named if not name.startswith("stores/mikyun/")} == set(), "the table in stores/ names it"


def test_nothing_outside_the_stores_asks_which_control_plane_it_is() -> None:
    """A store says what it has, and what it calls things."""
    asking = {
        f"{name}:{node.lineno}"
        for name, path in FILES.items()
        if not name.startswith("stores/")
        for node in nodes(path)
        if isinstance(node, ast.Compare)
        and any(isinstance(one, ast.Constant) and one.value in CONTROL_PLANES for one in (node.left, *node.comparators))
    }
    assert not asking


def test_every_file_has_a_room() -> None:
    for name in FILES:
        assert any(name.startswith(prefix) for prefix in ROOMS), name


def test_only_the_demo_command_imports_the_demo() -> None:
    outside = {name for name in FILES if not name.startswith("demo/")} - {"cli/commands/demo.py"}
    assert not {name for name in outside if any(m.startswith("wgsyncd.demo") for m in imports(FILES[name]))}


def test_only_the_wiring_names_a_concrete_store_or_data_plane() -> None:
    concrete = ("wgsyncd.stores", "wgsyncd.dataplane")
    named = {
        name
        for name in FILES
        if name.startswith(("cli/", "daemon/", "engine/")) and any(m.startswith(concrete) for m in imports(FILES[name]))
    }
    assert named == {"cli/wiring.py"}


COLUMNS = [
    "contract_number", "vpn_subnet", "next_child_ip", "customer_name", "customer_email", "customer_phone",
    "plan_name", "storage_quota_gb", "max_files", "bandwidth_profile", "contract_status", "identity_passphrase",
    "nc_password", "nc_quota_gb", "opt_video_call", "customer_devices", "device_id", "wg_iface", "wg_ip",
    "device_role", "is_parent", "device_name", "app_version", "qr_expires_at", "first_handshake_at",
    "last_handshake_at", "activated_at", "parent_changed_at", "paused_at", "rx_bytes_total", "tx_bytes_total",
    "rx_bytes_24h", "tx_bytes_24h", "rx_bytes_month", "tx_bytes_month", "nc_user", "nc_enabled", "deleted_at",
    "admin_logs", "action_type", "v_parent_conflicts",
]  # fmt: skip


def test_nothing_outside_the_store_names_a_column() -> None:
    """Names in code and all texts count, messages too. Only docstrings may name a column, to say where to look."""
    column = re.compile(rf"\b({'|'.join(sorted(COLUMNS))})\b")
    for name, path in FILES.items():
        if name.startswith(("stores/", "demo/")):
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
                said = node.value
            assert not said or not column.search(said), f"{name}: {said}"


def test_sql_stands_in_the_store_only() -> None:
    sql = re.compile(r"\b(SELECT .+ FROM|UPDATE .+ SET|INSERT INTO|DELETE FROM)\b", re.DOTALL)
    for name, path in FILES.items():
        if name.startswith(("stores/", "demo/")):
            continue
        for node in code(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not sql.search(node.value), f"{name}:{node.lineno}"


# What runs at the same time, or keeps others out, and the files that may use it. The demo is a program of its own.
PARALLEL: dict[str, set[str]] = {
    "_thread": set(),
    "asyncio": set(),
    "concurrent": set(),
    "fcntl": {
        "daemon/lock.py",  # one daemon for each directory: a lock on a file
        "daemon/machine.py",  # no lock: it asks for the flags of an interface
    },
    "multiprocessing": set(),
    "threading": {
        "daemon/http.py",
        "daemon/notify_socket.py",
        "daemon/waker.py",
        "stores/nexavpn/listening.py",
        "stores/resolving.py",
    },
}
LOCKS = {"Barrier", "BoundedSemaphore", "Condition", "Lock", "RLock", "Semaphore", "allocate_lock"}


@pytest.mark.parametrize("module", PARALLEL)
def test_nothing_runs_at_the_same_time_but_where_it_may(module: str) -> None:
    users = {name for name, path in FILES.items() if module in {dotted.partition(".")[0] for dotted in imports(path)}}
    assert {name for name in users if not name.startswith("demo/")} == PARALLEL[module]


def test_one_lock_is_enough() -> None:
    """Threads hand over values by queues and sockets. Only the notifications that wait are shared."""
    locked = set()
    for name, path in FILES.items():
        for node in nodes(path):
            names: set[str] = set()
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PARALLEL:
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in PARALLEL:
                names = {node.attr}
            if names & LOCKS and not name.startswith("demo/"):
                locked.add(name)
    assert locked == {"daemon/notify_socket.py"}


OUTSIDE = {"asyncio", "multiprocessing", "select", "selectors", "signal", "socket", "subprocess", "threading"}


def test_the_engine_uses_no_socket_thread_or_signal() -> None:
    """One cycle is plain calls. The daemon alone waits, listens and is interrupted."""
    for name, path in FILES.items():
        if name.startswith("engine/"):
            assert not OUTSIDE & {module.partition(".")[0] for module in imports(path)}, name


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for the type checker alone count, too. So each file can be read after the files that it uses."""
    modules = {"wgsyncd." + name.removesuffix(".py").replace("/", "."): name for name in FILES}
    uses = {name: {modules[one] for one in imports(path) if one in modules} for name, path in FILES.items()}
    TopologicalSorter(uses).prepare()  # CycleError names the files of a circle
