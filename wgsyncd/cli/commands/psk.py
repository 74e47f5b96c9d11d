"""Seal a preshared key for a row of NexaVPN, or check that this node can open an envelope.

Standard input has the preshared key in base64 (seal), or the envelope (check). No option ever has a secret, and check
does not print the preshared key. A key file has 32 bytes in base64, and mode 0600.

exit status: 0 done, 1 the envelope does not open, 2 bad usage or a bad key file
"""

import argparse
import sys
from pathlib import Path
from uuid import UUID

from msgspec import Struct

from wgsyncd.cli import options, output, wiring

_MOST = 4096  # characters that are read from standard input


class PskReport(Struct, frozen=True, kw_only=True):
    """The document of `wgsyncd psk --json`. ``envelope`` is null after `check`."""

    row: str
    key_id: str
    envelope: str | None


def register(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(fail=parser.error)
    parser.add_argument("action", choices=("seal", "check"), help="seal prints an envelope, check opens one")
    parser.add_argument("--row", type=_row, required=True, metavar="UUID", help="the id of the row in wireguard_peers")
    parser.add_argument(
        "--key",
        type=_key,
        action="append",
        required=True,
        metavar="KEYID=FILE",
        help="the id of a key and its file. seal takes one, check any number",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    files = dict(args.key)
    if len(files) < len(args.key):
        args.fail("--key: two files have the same id")
    if args.action == "seal" and len(args.key) > 1:
        args.fail("seal takes one --key")
    text = sys.stdin.read(_MOST).strip()
    if args.action == "seal":
        (key_id,) = files
        envelope = wiring.seal_psk(files, key_id, args.row, text)
        output.print_report(
            PskReport(row=str(args.row), key_id=key_id, envelope=envelope), [(envelope, "")], json=args.json
        )
        return 0
    key_id = wiring.check_psk(files, args.row, text)
    report = PskReport(row=str(args.row), key_id=key_id, envelope=None)
    output.print_report(report, [(f"the envelope opens with key {key_id}", "")], json=args.json)
    return 0


def _row(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no UUID") from None


def _key(text: str) -> tuple[str, Path]:
    key_id, sign, file = text.partition("=")
    if not sign or not file:
        raise argparse.ArgumentTypeError("is not written as KEYID=FILE")
    return key_id, Path(file)
