"""Reads files with secrets that only root may read: systemd gives the service a copy.

``LoadCredential=`` of systemd.exec(5) copies a file of root's when the service starts. The copy has the file's name.
"""

import os
from pathlib import Path

from wgsyncd.errors import ConfigError, ConfigIssue

CREDENTIAL = Path("db-password")


def read(path: Path) -> bytes:
    """The content of the file ``path``, or of systemd's copy if this process may not read the file.

    OSError of the file itself if there is no copy. A copy is as old as the service: a new secret needs a restart.
    """
    try:
        return path.read_bytes()
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
        copy = (Path(os.environ["CREDENTIALS_DIRECTORY"]) / path.name).read_bytes()
    except (KeyError, OSError):
        return b""
    return copy if copy.strip() else b""
