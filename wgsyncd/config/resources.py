"""Finds the files that come with wgsyncd, and names the command that installs missing libraries."""

import sys
from pathlib import Path

PACKAGED = Path("/usr/lib/wgsyncd")  # where the Debian package has its modules, see etc/debian/install
# By extra of pyproject.toml: what pip installs, and what apt-get installs beside the Debian package.
_LIBRARIES = {"nexavpn": ("'psycopg[binary]>=3.3,<4' 'cryptography>=38'", "libpq5 python3-cryptography")}


def path(name: str) -> Path:
    """Where ``etc/NAME`` is, such as ``sql/mikyun/wgsyncd.sql``.

    An installed wgsyncd has these files in ``wgsyncd/etc/``. A source checkout has them in its top-level ``etc/``.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "etc" / name
    return installed if installed.is_file() else package.parent / "etc" / name


def text(name: str) -> str:
    """The text of ``etc/NAME``. FileNotFoundError if no such file is shipped."""
    return path(name).read_text(encoding="utf-8")


def install_command(extra: str) -> str:
    """The shell command that installs the libraries of an extra, in the way in which this wgsyncd was installed."""
    of_pip, of_debian = _LIBRARIES[extra]
    if Path(__file__).is_relative_to(PACKAGED):
        return f"apt-get install -y --no-install-recommends {of_debian}"
    return f"{sys.executable} -m pip install {of_pip}"
