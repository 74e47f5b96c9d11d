"""Text as it may be shown: without keys or control characters, with commands that work as printed."""

import binascii
import contextlib
import json
import re
import shlex
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import cast

DEFAULT_CONFIG = Path("/etc/wgsyncd/wgsyncd.toml")
WITH_CONFIG = (
    "adopt", "approve", "check-config", "devices", "doctor", "explain", "init-db", "plan", "quarantine", "status",
    "takeover", "usage", "verify",
)  # fmt: skip
"""The commands that messages propose and that have --config."""

_KEY_BYTES = 32  # WG_KEY_LEN, uapi/linux/wireguard.h

# A key as wg(8) writes it (base64, also in the URL-safe alphabet), as UAPI writes it (hex), and bytes as repr() does.
# The pattern asks for no boundary on the left: to hide too much is better than to show a key behind a letter.
_KEY = re.compile(r"([A-Za-z0-9+/_-]{8})[A-Za-z0-9+/_-]{35}(?:=|%3[Dd])|([0-9A-Fa-f]{8})[0-9A-Fa-f]{56,}")
_BYTES = re.compile(r"""(?<![A-Za-z0-9_])b(['"])(?:\\.|(?!\1)[^\\])*\1""")
# C0, DEL, C1, line and paragraph separator, marks that turn the reading direction, and lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


# A command of ours without --config, and the file where an editor opens it.
_PROPOSED = re.compile(
    rf"\bwgsyncd (?:{'|'.join(WITH_CONFIG)})\b(?! --config)|(?<=\beditor ){re.escape(str(DEFAULT_CONFIG))}"
)
_file = ""  # the configuration file in use, as a word of the shell. "": the default one


@contextlib.contextmanager
def using(config: Path | None) -> Iterator[None]:
    """Until the end, this process uses another configuration file, and so do all commands that it proposes."""
    global _file  # noqa: PLW0603 - one process has one configuration file
    before = _file
    is_default = config is None or config.resolve() == DEFAULT_CONFIG.resolve()
    _file = "" if is_default else shlex.quote(str(cast("Path", config).absolute()))
    try:
        yield
    finally:
        _file = before


def with_config(text: str, *, is_json: bool = False) -> str:
    """``text`` with the configuration file in use in each command of ours. ``is_json``: it is a JSON document."""
    if not _file:
        return text
    file = json.dumps(_file, ensure_ascii=False)[1:-1] if is_json else _file
    return _PROPOSED.sub(lambda it: file if it[0].startswith("/") else f"{it[0]} --config {file}", text)


def redact(text: str, public: Container[str] = ()) -> str:
    """``text`` with everything that looks like a WireGuard key cut to its first eight characters and an ellipsis.

    The keys in ``public`` stay. Commands of ours get the configuration file in use.
    """
    hidden = _KEY.sub(
        lambda match: match[0] if match[0] in public else f"{match[1] or match[2]}…", _BYTES.sub("b'…'", text)
    )
    return with_config(hidden)


def escape_control(text: str) -> str:
    """``text`` with what would break or disguise a line written as an escape."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def clean(value: object, *, escape: bool) -> object:
    """A value for a log line, with all keys cut short. With ``escape``, control characters are escaped, too."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, (bytes, bytearray)):
        if len(value) != _KEY_BYTES:
            return f"({len(value)} bytes)"
        return binascii.b2a_base64(value[:6], newline=False).decode() + "…"  # as wgsyncd.core.model.fingerprint
    if type(value) in (list, tuple, set, frozenset):
        return [clean(one, escape=escape) for one in cast("list[object]", value)]
    if isinstance(value, Mapping):
        return {str(clean(key, escape=escape)): clean(one, escape=escape) for key, one in value.items()}
    text = redact(str(value))
    return escape_control(text) if escape else text
