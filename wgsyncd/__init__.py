"""wgsyncd: the peers of a WireGuard server made equal to a database table, and their traffic booked to the byte."""

try:
    from wgsyncd._version import __version__
except ImportError:  # a checkout that was neither built nor installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
