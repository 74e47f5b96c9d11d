"""The stores: one folder for each control plane, and the spool.

A store says which devices may have peers, and keeps the node state and the usage.

A new control plane is a folder beside mikyun/ and a line in :data:`CONTROL_PLANES`. Its module ``backend`` has the
class ``Backend``. Its module ``init`` has the functions ``register_init`` and ``init``. Only that folder imports its
database driver.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from wgsyncd.config.schema import Settings
    from wgsyncd.ports import Backend

CONTROL_PLANES = {"mikyun": "wgsyncd.stores.mikyun"}


def open_store(settings: Settings) -> Backend:
    """The store of the configured control plane. It connects when it is first asked."""
    module = import_module(f"{CONTROL_PLANES[settings.control_plane]}.backend")
    return cast("Backend", module.Backend(settings))


def register_init(parser: argparse.ArgumentParser) -> None:
    """Add the options that each control plane has for `wgsyncd init-db`."""
    for folder in CONTROL_PLANES.values():
        import_module(f"{folder}.init").register_init(parser)


def init(settings: Settings, args: argparse.Namespace) -> Iterator[str]:
    """Create the tables in the configured control plane's database, and say what was done, line by line."""
    yield from import_module(f"{CONTROL_PLANES[settings.control_plane]}.init").init(settings, args)
