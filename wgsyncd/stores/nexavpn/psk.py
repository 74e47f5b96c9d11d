"""Encrypted preshared keys: envelopes that the application writes and only gateways can open.

An envelope is ``v1:KEYID:BASE64``. The base64 holds a nonce (12 bytes), the encrypted preshared key (32 bytes) and the
tag of AES-256-GCM (16 bytes, NIST SP 800-38D). The id of the row is authenticated with them, so an envelope that is
copied to another row does not open.

Only a node with such keys needs the library cryptography: it takes 7 MiB.
"""

import base64
import binascii
import importlib.util
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from wgsyncd.config import secret_file
from wgsyncd.config.resources import install_command
from wgsyncd.core.model import KEY_BYTES
from wgsyncd.errors import ConfigError, ConfigIssue, UserError
from wgsyncd.stores.nexavpn.settings import KEY_ID

VERSION = "v1"
_CONTEXT = b"nexavpn.psk.v1:"
_NONCE, _TAG = 12, 16  # bytes


class PskSealed(ValueError):
    """An envelope that cannot be opened. The text says why, and holds nothing of the envelope but a valid key id."""


def seal(key: bytes, key_id: str, row: UUID, preshared_key: bytes) -> str:
    """The envelope of a preshared key (32 bytes) for the row ``row`` of wireguard_peers. ``key``: 32 bytes."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(preshared_key) != KEY_BYTES:
        raise ValueError(f"a preshared key has {KEY_BYTES} bytes")
    nonce = os.urandom(_NONCE)
    sealed = AESGCM(key).encrypt(nonce, preshared_key, _CONTEXT + row.bytes)
    return f"{VERSION}:{key_id}:{base64.b64encode(nonce + sealed).decode()}"


def key_id_of(envelope: str) -> str:
    """The id of the key that sealed an envelope. PskSealed if the text is no envelope of this version."""
    version, _, rest = envelope.partition(":")
    key_id, colon, _ = rest.partition(":")
    if version != VERSION:
        raise PskSealed(f"it is no envelope of version {VERSION}")
    if not colon or not re.fullmatch(KEY_ID, key_id):
        raise PskSealed("it names no valid key id")
    return key_id


def open_envelope(envelope: str, row: UUID, keys: Mapping[str, bytes]) -> bytes:
    """The preshared key in an envelope of the row ``row``. ``keys``: 32 bytes by key id. PskSealed if that fails."""
    key_id = key_id_of(envelope)
    if (key := keys.get(key_id)) is None:
        raise PskSealed(f"this node has no key {key_id}: see nexavpn.preshared_keys")
    try:
        raw = binascii.a2b_base64(envelope.split(":", 2)[2], strict_mode=True)
    except ValueError:
        raise PskSealed("it is not base64") from None
    if len(raw) != _NONCE + KEY_BYTES + _TAG:
        raise PskSealed(f"it has {len(raw)} bytes, not {_NONCE + KEY_BYTES + _TAG}")
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(raw[:_NONCE], raw[_NONCE:], _CONTEXT + row.bytes)
    except InvalidTag:
        raise PskSealed(f"it is of another row or of another key {key_id}, or it was changed") from None


def read_keys(files: Mapping[str, Path]) -> dict[str, bytes]:
    """The keys (32 bytes each) of files, by key id. ConfigError names every file that is no key, and never its text.

    UserError: there are keys, but no library that could use them.
    systemd's credential ``psk-KEYID`` stands for a file that this process may not read or that does not exist.
    """
    if files and importlib.util.find_spec("cryptography") is None:
        raise UserError(f"the library for preshared keys is not installed: {install_command('nexavpn')}")
    keys: dict[str, bytes] = {}
    faults: list[ConfigIssue] = []
    for key_id, path in files.items():
        try:
            keys[key_id] = _read_key(key_id, path)
        except OSError as error:
            faults.append(
                ConfigIssue(f"nexavpn.preshared_keys.{key_id}", str(path), f"cannot be read: {error.strerror}")
            )
        except ValueError as error:
            faults.append(ConfigIssue(f"nexavpn.preshared_keys.{key_id}", str(path), str(error)))
    if faults:
        raise ConfigError("configuration", faults)
    return keys


def _read_key(key_id: str, path: Path) -> bytes:
    """The key in a file. OSError or ValueError if there is none."""
    if not re.fullmatch(KEY_ID, key_id):
        raise ValueError("is no key id: it has 1 to 32 characters of a-z, 0-9 and -")
    try:
        text = secret_file.read(path)
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        if not (text := secret_file.copy_of(Path(f"psk-{key_id}"))):
            raise
        mode = 0  # systemd lets nobody else read its copy
    if mode & 0o077:
        raise ValueError(f"has mode {mode:04o}, so others may use it: chmod 0600")
    return decode_secret(text)


def decode_secret(text: bytes) -> bytes:
    """The 32 bytes that a text holds in base64. White space around it does not matter. ValueError if it is another."""
    try:
        raw = binascii.a2b_base64(text.strip(), strict_mode=True)
    except ValueError:
        raise ValueError("is not base64") from None
    if len(raw) != KEY_BYTES:
        raise ValueError(f"has {len(raw)} bytes, not {KEY_BYTES}")
    return raw
