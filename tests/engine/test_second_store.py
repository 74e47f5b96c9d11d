"""A second control plane is one more folder and one more line."""

from __future__ import annotations

import msgspec
import pytest

from tests.node import Node
from tests.samples import key
from tests.usersstore.store import UsersStore
from tests.variants import USERS
from wgsyncd import stores


def test_a_folder_and_a_line_are_enough_for_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stores.CONTROL_PLANES, "users", "tests.usersstore")
    node = Node(variant=USERS)
    store = stores.open_store(msgspec.structs.replace(node.settings, control_plane="users")).store(lambda: None)
    assert isinstance(store, UsersStore)
    node.store, store.db = store, node.db
    node.start()
    node.device(5)
    node.cycle()
    assert set(node.kernel_of("wg0")) == {key(5)}
    node.right()
