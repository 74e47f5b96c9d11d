"""The dialect of MariaDB: names of wgsyncd's own tables and columns, and the server's clock."""

from wgsyncd.stores.holding import Dialect

# The time of now by the server's clock. The session's time zone is an offset, so the conversion is exact.
_NOW = "UNIX_TIMESTAMP(NOW(6))"
MARIADB = Dialect(
    prefix="wgsyncd_",
    nodes="wgsyncd_nodes",
    now=_NOW,
    machine="SUBSTRING_INDEX(n.machine, '/', 1)",
    beat=f"""
UPDATE wgsyncd_nodes n JOIN wgsyncd_boots b ON b.node = n.node AND b.boot = n.boot
SET n.heartbeat = {_NOW}, n.interfaces = %s, b.last_seen = {_NOW}, b.uptime = {{uptime}}, n.uptime = {{uptime}}
WHERE n.node = %s AND n.machine = %s AND n.boot = %s AND GREATEST(b.uptime, n.uptime) <= {{uptime}}
""",  # noqa: S608
    of_node=("nodes", "boots", "interfaces", "peers", "conditions", "quarantine", "removals", "unwritten", "set_aside"),
    removals="uptime, removed, demanded, peers",  # without "access": this control plane has no policies
)
