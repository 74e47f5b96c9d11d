"""Reads plain files. Of those with secrets that only root may read, systemd gives the service a copy.

``LoadCredential=`` of systemd.exec(5) copies a file of root's when the service starts. The copy has the file's name.
"""

import errno
import os
import stat
from pathlib import Path

from wgsyncd.errors import ConfigError, ConfigIssue

CREDENTIAL = Path("db-password")
_MOST = 16 << 20  # bytes of a file
_KINDS = {stat.S_IFDIR: errno.EISDIR, stat.S_IFREG: errno.EFBIG}


def read_plain(path: Path) -> bytes:
    """The content of a plain file. OSError for anything else: a pipe would hold the reader, and a device has no end."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if stat.S_ISREG(found.st_mode) and found.st_size <= _MOST:
            return file.read(_MOST)
    number = _KINDS.get(stat.S_IFMT(found.st_mode))
    raise OSError(number or errno.EINVAL, os.strerror(number) if number else "is not a plain file", str(path))


def read(path: Path) -> bytes:
    """The content of the file ``path``, or of systemd's copy if this process may not read the file.

    OSError of the file itself if there is no copy. A copy is as old as the service: a new secret needs a restart.
    """
    try:
        return read_plain(path)
    except PermissionError:
        if copy := copy_of(path):
            return copy
        raise


def password(key: str, path: Path | None) -> str:
    """The database's password from the file ``path``, else from systemd's credential "db-password", else "".

    ConfigError, with the file's ``key`` in the configuration, if the file cannot be read.
    """
    try:
        return (copy_of(CREDENTIAL) if path is None else read(path)).decode("utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError("configuration", [ConfigIssue(key, str(path), f"cannot be read: {why}")]) from None


def copy_of(path: Path) -> bytes:
    """The content of systemd's copy. b"" if there is none, or if there was no file when the service started."""
    try:
        copy = read_plain(Path(os.environ["CREDENTIALS_DIRECTORY"]) / path.name)
    except (KeyError, OSError):
        return b""
    return copy if copy.strip() else b""
