"""Runs nft(8): one child process for each transaction and for each listing.

Commands go to its standard input, so no other process of the machine sees them. An nft that fails changes nothing,
because the kernel takes all commands of a text or none.
"""

import errno
import json
import subprocess

from wgsyncd.dataplane.nftables.rules import FAMILY, NAME
from wgsyncd.errors import FilterError

_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"}
_NO_TABLE = "No such file or directory"  # strerror(ENOENT), which nft adds to its message


class Nft:
    """The command nft. ``timeout``: seconds that one run may take."""

    def __init__(self, program: str = "nft", timeout: float = 30.0) -> None:
        self._program, self._timeout = program, timeout

    def run(self, commands: str) -> int:
        """Make the changes, all or none. Returns the id of the process. FilterError if nft refuses them."""
        pid, status, _, said = self._call(("-f", "-"), commands)
        if status:
            raise FilterError("nft", f"nft refuses the changes, and none is made: {said}")
        return pid

    def show(self) -> str | None:
        """The table as JSON. None if there is no such table."""
        _, status, shown, said = self._call(("-j", "list", "table", FAMILY, NAME), "")
        if status and _NO_TABLE in said:
            return None
        if status:
            raise FilterError("nft", f"nft cannot show the table {FAMILY} {NAME}: {said}")
        return shown

    def version(self) -> str:
        """What nft says about its version. FilterError if it does not run."""
        _, status, shown, said = self._call(("--version",), "")
        if status:
            raise FilterError("nft", f"nft does not tell its version: {said}")
        return shown.strip()

    def flowtables(self) -> dict[str, list[str]]:
        """The interfaces of each flowtable, by "FAMILY TABLE NAME". FilterError if nft does not show them."""
        _, status, shown, said = self._call(("-j", "list", "flowtables"), "")
        if status:
            raise FilterError("nft", f"nft cannot show flowtables: {said}")
        found: dict[str, list[str]] = {}
        for one in json.loads(shown)["nftables"]:
            if about := one.get("flowtable"):
                devices = about.get("dev", [])
                name = f"{about['family']} {about['table']} {about['name']}"
                found[name] = [devices] if isinstance(devices, str) else devices
        return found

    def _call(self, arguments: tuple[str, ...], commands: str) -> tuple[int, int, str, str]:
        try:
            with subprocess.Popen(
                (self._program, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, env=_ENVIRONMENT,
            ) as child:  # fmt: skip
                try:
                    shown, said = child.communicate(commands, timeout=self._timeout)
                except BaseException:
                    child.kill()
                    raise
        except subprocess.TimeoutExpired:
            raise FilterError("ETIMEDOUT", f"nft gave no answer within {self._timeout:g} s, and was ended") from None
        except OSError as error:
            text = f"cannot run {self._program}: {error.strerror}. Install Debian's package nftables"
            raise FilterError(errno.errorcode.get(error.errno or 0, "EIO"), text) from error
        return child.pid, child.returncode, shown, " ".join(said.split())[:500]
