"""People read the names of devices where the store's ids are UUIDs."""

from uuid import UUID

from wgsyncd.core.inspect.names import DeviceName, Labels

ONE, OTHER, GONE = (str(UUID(int=number)) for number in (5, 6, 7))
LABELS = Labels([DeviceName(5, ONE, "alice", "laptop"), DeviceName(6, OTHER, "", "router"), DeviceName(7, GONE, "bob")])


def test_a_device_is_called_by_its_name_and_its_owner() -> None:
    assert [LABELS.of(one) for one in (ONE, OTHER, GONE, "")] == ["laptop of alice", "router", "", ""]
    assert [LABELS.name(one) for one in (ONE, GONE)] == ["laptop", ""]


def test_ids_in_a_sentence_become_names() -> None:
    told = LABELS.put_into(f"address moved from {OTHER}, {ONE} and {GONE}")
    assert told == f"address moved from router, laptop of alice and {GONE}"
    assert Labels([]).put_into(f"the public key is {ONE}'s") == f"the public key is {ONE}'s"
