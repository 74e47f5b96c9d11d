"""wgsyncd keeps WireGuard peers equal to a database table and accounts their traffic to the byte."""

try:
    from wgsyncd._version import __version__
except ImportError:  # a checkout that was neither built nor installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
