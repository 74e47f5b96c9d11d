"""Text without keys and without control characters, for the log, the commands and the metrics."""

import binascii
import re
from collections.abc import Container, Mapping
from typing import cast

_KEY_BYTES = 32  # WG_KEY_LEN, uapi/linux/wireguard.h

# A key as wg(8) writes it (base64, also in the URL-safe alphabet), as UAPI writes it (hex), and bytes as repr() does.
# The pattern asks for no boundary on the left: to hide too much is better than to show a key behind a letter.
_KEY = re.compile(r"([A-Za-z0-9+/_-]{8})[A-Za-z0-9+/_-]{35}(?:=|%3[Dd])|([0-9A-Fa-f]{8})[0-9A-Fa-f]{56,}")
_BYTES = re.compile(r"""(?<![A-Za-z0-9_])b(['"])(?:\\.|(?!\1)[^\\])*\1""")
# C0, DEL, C1, line and paragraph separator, marks that turn the reading direction, and lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def redact(text: str, public: Container[str] = ()) -> str:
    """``text`` with everything that looks like a WireGuard key cut to its first eight characters and an ellipsis.

    The keys in ``public`` stay.
    """
    return _KEY.sub(
        lambda match: match[0] if match[0] in public else f"{match[1] or match[2]}…", _BYTES.sub("b'…'", text)
    )


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
