"""The dialect of PostgreSQL: names of wgsyncd's own tables and columns, and the server's clock."""

from wgsyncd.stores.holding import Dialect

_NOW = "extract(epoch FROM clock_timestamp())::double precision"
POSTGRES = Dialect(
    prefix="wgsyncd.",
    nodes="wgsyncd.node_states",
    now=_NOW,
    machine="split_part(n.machine, '/', 1)",
    beat=f"""
WITH beaten AS (
    UPDATE wgsyncd.node_states n SET heartbeat = {_NOW}, interfaces = %s, uptime = {{uptime}} FROM wgsyncd.boots b
    WHERE n.node = %s AND n.machine = %s AND n.boot = %s AND b.node = n.node AND b.boot = n.boot
      AND greatest(b.uptime, n.uptime) <= {{uptime}}
    RETURNING n.node, n.boot)
UPDATE wgsyncd.boots b SET last_seen = {_NOW}, uptime = {{uptime}} FROM beaten
WHERE b.node = beaten.node AND b.boot = beaten.boot
""",  # noqa: S608
    of_node=(
        "node_states", "boots", "interfaces", "peers", "conditions", "quarantine", "removals", "unwritten", "buckets",
        "days", "totals",
    ),
    removals="uptime, removed, demanded, peers, access",
)  # fmt: skip
