"""The configuration reads each value in its units and form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.configuring import LEAST, faults
from tests.samples import key, text
from wgsyncd.config.load import parse
from wgsyncd.config.schema import Interface, Settings
from wgsyncd.config.values import convert
from wgsyncd.errors import ConfigError
from wgsyncd.stores.mikyun.settings import mikyun

DURATIONS = {"15s": 15, "500ms": 0.5, "5min": 300, "24h": 86400, "1.5h": 5400, "1 s": 1}


@pytest.mark.parametrize(("written_", "seconds"), DURATIONS.items())
def test_durations(written_: str, seconds: float) -> None:
    assert (
        mikyun(parse(LEAST + f'[mikyun.database]\ntimeout = "4s"\n[mikyun.qr]\nlifetime = "{written_}"')).qr.lifetime
        == seconds
    )


@pytest.mark.parametrize("bad", ['""', '"s"', '"-5s"', '"5 m"', '"5S"', '"1e3s"', "5", '"5s\\u0000"', "true"])
def test_what_is_no_duration(bad: str) -> None:
    fault = faults(LEAST + f"[mikyun.qr]\nlifetime = {bad}")["mikyun.qr.lifetime"]
    assert "number with a unit" in fault.why


@pytest.mark.parametrize("bad", [5, "/k", {"fra1": 5}, {"fra1": "k"}])
def test_what_is_no_table_of_files(bad: object) -> None:
    with pytest.raises(ValueError, match="^is not a table of absolute paths, such as "):
        convert(bad, dict[str, Path])


def test_create_with_all_it_needs() -> None:
    extra = 'create = true\nprivate_key_file = "/k"\nlisten_port = 51820\naddresses = ["10.200.0.1/24"]\n'
    assert parse(LEAST + extra).interfaces["wg0"].create
    assert set(faults(LEAST + "create = true")) == {
        f"interfaces.wg0.{name}" for name in ("private_key_file", "listen_port", "addresses")
    }


def test_keys_that_are_always_kept() -> None:
    assert parse(LEAST + f'[peers]\nalways_keep = ["{text(1)}"]').peers.always_keep == (key(1),)


@pytest.mark.parametrize(
    ("listen", "address"),
    [("127.0.0.1:9586", ("127.0.0.1", 9586)), ("[::1]:9586", ("::1", 9586)), ("", None)],
)
def test_where_metrics_listen(listen: str, address: tuple[str, int] | None) -> None:
    assert parse(LEAST + f'[metrics]\nlisten = "{listen}"').metrics.address == address


ODD = ["5", "-1", "1e400", "nan", "9223372036854775807", "true", '""', '"\\u0000"', '"x"', '"📱"', '"a:²"', '"²s"', "[]", "[5]",
       '[""]', '["x/²"]', "[[]]", "{}", "{ a = 1 }", "2026-01-01", "12:00:00", "2026-01-01T00:00:00Z", '"/"', '"1e9d"',
       '"10.200.0.5/32"', '["10.200.0.5/33"]', '["::/129"]', '["fe80::1%a/64"]', f'"{"9" * 400}s"']  # fmt: skip


def tables(kind: type[msgspec.Struct], path: str) -> Iterator[tuple[str, str]]:
    """Yields every key below a table: the header of its table and the name of the key."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from tables(field.type, f"{path}.{field.name}".lstrip("."))
        elif path:
            yield f"[{path}]", field.name


KEYS = [*tables(Settings, ""), *(("", name) for name in Interface.__struct_fields__ if name != "networks")]


@pytest.mark.parametrize(("section", "name"), KEYS)
def test_any_value_is_taken_or_is_a_fault(section: str, name: str) -> None:
    for value in ODD:
        try:
            parse(f"{LEAST}{section}\n{name} = {value}\n")
        except ConfigError as error:
            assert name in str(error)
            assert "Expected" not in str(error), "a fault speaks of TOML, not of Python"


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_error(anything: str) -> None:
    with pytest.raises(ConfigError):
        parse(anything)
