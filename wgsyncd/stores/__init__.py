"""The stores: one folder for each control plane, and the spool.

A store says which devices may have peers, and keeps the node state and the usage.

A new control plane is a folder beside mikyun/ and a line in :data:`CONTROL_PLANES`. Its module ``settings`` has
``SETTINGS``, a subclass of StoreSettings. Its module ``backend`` has the class ``Backend``. Its module ``init`` has the
function ``register_init``. Only that folder imports its database driver.
"""

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, cast

from wgsyncd import hollow, without
from wgsyncd.config.resources import install_command
from wgsyncd.errors import UserError

if TYPE_CHECKING:
    from wgsyncd.config.schema import Settings, StoreSettings
    from wgsyncd.ports import Backend

# by name. The first is the default
CONTROL_PLANES = {"mikyun": "wgsyncd.stores.mikyun", "nexavpn": "wgsyncd.stores.nexavpn"}


def settings_type(control_plane: str) -> "type[StoreSettings]":
    return cast("type[StoreSettings]", import_module(f"{CONTROL_PLANES[control_plane]}.settings").SETTINGS)


def open_store(settings: "Settings") -> "Backend":
    """The store of the configured control plane. It connects when it is first asked."""
    try:
        # 12 MiB. PyMySQL logs in with cryptography only where login.py refuses to, and mikyun/tls.py gives it its TLS.
        # psycopg has its own TLS: it loads ssl for an OpenSSL before 1.1, which two users had to set up.
        with without("cryptography"), hollow("ssl"):
            module = import_module(f"{CONTROL_PLANES[settings.control_plane]}.backend")
    except ImportError:  # also where psycopg is installed and PostgreSQL's own library is not
        raise UserError(
            f'control_plane = "{settings.control_plane}" needs libraries that are not installed: '
            + install_command(settings.control_plane)
        ) from None
    return cast("Backend", module.Backend(settings))


def register_init(parser: argparse.ArgumentParser) -> None:
    """Add the options that each control plane has for `wgsyncd init-db`.

    Control planes may have an option of the same name. The help then shows the option of the last one.
    """
    for name in CONTROL_PLANES:
        _add_options(name, parser)


def refuse_init(control_plane: str, options: argparse.Namespace) -> None:
    """UserError if `wgsyncd init-db` got an option that only another control plane has."""
    known = {
        name: {one.dest: one.option_strings[0] for one in _add_options(name, argparse.ArgumentParser())._group_actions}
        for name in CONTROL_PLANES
    }
    for name, foreign in known.items():
        for dest in foreign.keys() - known[control_plane].keys():
            if getattr(options, dest):
                raise UserError(f"{foreign[dest]} is an option of {name}, and control_plane is {control_plane}")


def _add_options(control_plane: str, parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group(f"options of {control_plane}", conflict_handler="resolve")
    import_module(f"{CONTROL_PLANES[control_plane]}.init").register_init(group)
    return group
