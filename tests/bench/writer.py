"""Plays the web application: writes random devices' names, one transaction each.

It stops when a line has come in and at least LEAST names are written. Then it prints the longest transaction in
milliseconds.

    python -m tests.bench.writer SOCKET TABLE DEVICES LEAST
"""

from __future__ import annotations

import getpass
import random
import select
import sys
import time

import pymysql

from wgsyncd.demo.mariadb import DATABASE


def main() -> None:
    """Writes until a line comes in on standard input."""
    path, table, devices, least = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    actual = pymysql.connect(unix_socket=path, user=getpass.getuser(), database=DATABASE, autocommit=True)
    longest = 0.0
    with actual.cursor() as cursor:
        for turn in range(1 << 62):
            began = time.perf_counter()
            cursor.execute(
                f"UPDATE {table} SET device_name = %s WHERE id = %s",
                (f"name {turn}", random.randint(1, devices)),
            )
            if turn > 20:  # the first turns warm up
                longest = max(longest, time.perf_counter() - began)
            elif turn == 20:
                print("ready", flush=True)
            if select.select([sys.stdin], [], [], 0.002)[0] and turn >= least:
                break
    actual.close()
    print(longest * 1000)


if __name__ == "__main__":
    main()
