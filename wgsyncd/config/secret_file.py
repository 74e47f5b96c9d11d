"""Reads files with secrets that only root may read: systemd gives the service a copy.

``LoadCredential=`` of systemd.exec(5) copies a file of root's when the service starts. The copy has the file's name.
"""

import os
from pathlib import Path


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


def copy_of(path: Path) -> bytes:
    """The content of systemd's copy. b"" if there is none, or if there was no file when the service started."""
    try:
        copy = (Path(os.environ["CREDENTIALS_DIRECTORY"]) / path.name).read_bytes()
    except (KeyError, OSError):
        return b""
    return copy if copy.strip() else b""
