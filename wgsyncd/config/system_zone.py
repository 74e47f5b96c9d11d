"""The time zone of this system, which is the default of `node.zone`."""

import contextlib
from pathlib import Path
from zoneinfo import ZoneInfo

from wgsyncd.config.secret_file import read_plain


def system_zone(etc: Path = Path("/etc")) -> ZoneInfo:
    """The zone that /etc/localtime links to. Where it is a copy, Debian's /etc/timezone has the name. Else UTC."""
    names = []
    with contextlib.suppress(OSError, RuntimeError):
        names.append(str((etc / "localtime").resolve(strict=True)).partition("zoneinfo/")[2])
    with contextlib.suppress(OSError, UnicodeDecodeError):
        names.append(read_plain(etc / "timezone").decode("ascii").strip())
    for name in names:
        with contextlib.suppress(ValueError, OSError, KeyError):  # an unknown name, or one that is no file's name
            return ZoneInfo(name)
    return ZoneInfo("UTC")
