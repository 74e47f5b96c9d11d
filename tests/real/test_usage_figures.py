"""`wgsyncd usage` shows exactly the sums of the tables in a real database."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from tests.real.bench import Bench, real_device, wait

TOKYO = ZoneInfo("Asia/Tokyo")


def usage(bench: Bench, *args: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(bench.daemon.cli("usage", *args, "--json").stdout)
    return data


def sums(bench: Bench, where: str, table: str = "wgsyncd_days") -> tuple[int, int]:
    """Returns the sums that SQL computes."""
    (row,) = bench.sql(f"SELECT COALESCE(SUM(rx), 0) rx, COALESCE(SUM(tx), 0) tx FROM {table} t"
                       f" LEFT JOIN customer_devices d ON d.device_id = t.device WHERE {where}")  # fmt: skip
    return int(row["rx"] or 0), int(row["tx"] or 0)


def whole(data: dict[str, Any]) -> tuple[int, int]:
    total, periods = data["total"], data.get("periods", [])
    found = (int(total["rx_bytes"]), int(total["tx_bytes"]))
    if periods:
        assert found == (sum(one["rx_bytes"] for one in periods), sum(one["tx_bytes"] for one in periods))
    assert total["total_bytes"] == sum(found)
    return found


def fill(bench: Bench) -> str:
    """Inserts a year of days for 30 devices of three owners, and for one deleted device. Returns today's date."""
    bench.make(30)
    bench.sql("UPDATE customer_devices SET contract_id = ELT(1 + id % 3, '0001', '0002', '0003')")
    today = datetime.now(TOKYO).date()
    names = {str(row["id"]): row["device_id"] for row in bench.sql("SELECT id, device_id FROM customer_devices")}
    rows = [f"('{names.get(str(row), 'a device that is gone')}', '{today - timedelta(days=back)}', {row * back * 7919 + 2**50}, {row * 3 + back})"
            for row in [*range(1, 31), 999] for back in range(1, 400, 3)]  # fmt: skip
    bench.sql("DELETE FROM wgsyncd_days; INSERT INTO wgsyncd_days (device, day, rx, tx) VALUES " + ", ".join(rows))
    return str(today)


def test_what_a_customer_moved(bench: Bench) -> None:
    """The daemon posts a customer's bytes. Columns, hour, day and month then show the same sums."""
    held = real_device("0001-held", "10.200.0.11")
    bench.insert(held)
    others = bench.make(2, first=20)
    bench.daemon.start()
    bench.await_peers(held, *others)
    assert bench.customer(held).transfer(up=200_000, down=400_000).wait() == 0
    figures = "SELECT rx_bytes_total rx, tx_bytes_total tx FROM customer_devices WHERE device_id = '0001-held'"
    wait(lambda: int(bench.sql(figures)[0]["tx"] or 0) > 400_000, "posted")
    bench.daemon.stop()
    want = tuple(int(value or 0) for value in bench.sql(figures)[0].values())
    for by in ("hour", "day", "month"):
        assert whole(usage(bench, "0001-held", "--by", by)) == want
        assert whole(usage(bench, "0001", "--by", by)) == want
    assert usage(bench, "--top", "5")["ranking"] == [
        {
            "device": "0001-held",
            "name": "",
            "owner": "0001",
            "rx_bytes": want[0],
            "tx_bytes": want[1],
            "total_bytes": sum(want),
        }
    ]
    bench.configure({"mikyun.perspective": "device"})
    assert whole(usage(bench, "0001-held")) == want[::-1]


def test_sums_are_those_of_the_tables(bench: Bench) -> None:
    today = fill(bench)
    since = str(datetime.fromisoformat(today).date() - timedelta(days=200))
    within = f"day BETWEEN '{since}' AND '{today}'"
    assert whole(usage(bench, "--since", since)) == sums(bench, within)
    assert whole(usage(bench, "--by", "month", "--since", since)) == sums(bench, within)
    assert whole(usage(bench, "0002", "--since", since)) == sums(bench, f"{within} AND contract_id = '0002'")
    assert whole(usage(bench, "0001-wg0-015", "--since", since)) == sums(bench, f"{within} AND device_id LIKE '%-015'")
    ranked = usage(bench, "--top", "1000", "--since", since)
    assert whole(ranked) == sums(bench, within)
    assert sum(one["rx_bytes"] for one in ranked["ranking"]) == sums(bench, within)[0]
    assert [one["device"] for one in ranked["ranking"] if one["owner"] == "(gone)"] == ["a device that is gone"]
    best = bench.sql(f"SELECT device_id, SUM(rx) rx FROM wgsyncd_days t JOIN customer_devices d ON d.device_id = t.device"
                     f" WHERE {within} GROUP BY d.id ORDER BY SUM(rx + tx) DESC LIMIT 1")[0]  # fmt: skip
    known = [one for one in ranked["ranking"] if one["owner"] != "(gone)"]
    assert (known[0]["device"], str(known[0]["rx_bytes"])) == (best["device_id"], best["rx"])
    table = csv.DictReader(io.StringIO(bench.daemon.cli("usage", "--csv", "--since", since).stdout))
    assert sum(int(row["tx_bytes"]) for row in table) == sums(bench, within)[1]
    picture = bench.directory / "usage.svg"
    bench.daemon.cli("usage", "--svg", str(picture))
    assert ElementTree.fromstring(picture.read_text()).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314


def test_nobody_of_that_name_and_no_database(bench: Bench) -> None:
    bench.make(1)
    done = bench.daemon.cli("usage", "0001-wg0-01O", code=1)
    assert done.stderr == "wgsyncd: no device or owner is called '0001-wg0-01O'; alike: 0001-wg0-010\n"
    bench.configure({"mikyun.database.socket": str(bench.directory / "none.sock")})
    done = bench.daemon.cli("usage", code=1)
    error, cure = done.stderr.splitlines()
    assert "Can't connect" in error
    assert "wgsyncd doctor" in cure
    assert bench.daemon.cli("usage", "--by", "week", code=2).stdout == ""
