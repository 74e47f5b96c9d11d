"""wgsyncd: the peers of a WireGuard server made equal to a database table, and their traffic booked to the byte."""

__version__ = "0.1.0"
