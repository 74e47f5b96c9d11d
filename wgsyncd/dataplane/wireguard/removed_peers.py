"""Foreign peers are written to a file before wgsyncd removes them, so that an admin can put them back.

Nobody but the kernel may know such a peer. The file removed-INTERFACE.conf in the state directory has what `wg addconf`
needs: sections in the form of wg-quick(8), with preshared keys. Only its owner and root can read the file.
"""

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from wgsyncd.core.model import NO_PRESHARED_KEY, Change, InterfaceState, PeerConfig, PublicKey, decode_key, encode_key
from wgsyncd.core.peers.plan import FailedChange
from wgsyncd.dataplane.wireguard.refusals import errno_name
from wgsyncd.errors import UserError
from wgsyncd.ports import NewInterface, WireGuard

MOST = 1000  # peers of one interface: the file stays small even if a program adds new peers without end


class RemovedPeers:
    """The file of one interface. OSError or ValueError if it cannot be read or written."""

    def __init__(self, folder: Path, interface: str) -> None:
        self.file = folder / f"removed-{interface}.conf"

    def load(self) -> dict[PublicKey, str]:
        """The section of each peer, by key, in the order of their removals. Without a file there is none."""
        try:
            descriptor = os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return {}
        with open(descriptor, encoding="ascii") as file:
            sections = (one.strip() for one in file.read().split("\n\n"))
            return {_key(one): one for one in sections if one}

    def add(self, added: Mapping[PublicKey, str]) -> None:
        """Add sections. A section with the key of an older one replaces it. Too many push out the oldest ones.

        A damaged file gets another name, and a new one begins.
        """
        try:
            sections = self.load()
        except ValueError:
            os.replace(self.file, self.file.with_suffix(".bad"))
            sections = {}
        sections = {key: one for key, one in sections.items() if key not in added} | dict(added)
        self.save(dict(list(sections.items())[-MOST:]))

    def save(self, sections: Mapping[PublicKey, str]) -> None:
        """Replace the file as a whole, or not at all. Without sections the file goes."""
        if not sections:
            self.file.unlink(missing_ok=True)
            return
        self.file.parent.mkdir(mode=0o700, exist_ok=True)
        beside = self.file.with_suffix(".new")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            if os.geteuid() == 0:  # A command of root leaves a file that the daemon can read and replace.
                owner = self.file.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write("\n\n".join(sections.values()) + "\n")
            file.flush()
            os.fsync(descriptor)
        os.rename(beside, self.file)

    def put_back(self, live: InterfaceState) -> tuple[int, dict[str, str]]:
        """Add the peers to their interface again, as it is now, and take them out of the file.

        Returns how many were added, and why the others stay in the file, by their addresses. wg(8) adds them, because
        it knows endpoints. OSError or ValueError if the file cannot be read, UserError if wg(8) refuses.
        """
        sections, taken, waiting = self.load(), _networks(live), dict[str, str]()
        adding = {key: one for key, one in sections.items() if key not in live.peers}
        for key, one in list(adding.items()):
            networks = set(filter(None, value(one, "AllowedIPs").split(", ")))
            if held := networks & taken:
                waiting[", ".join(sorted(networks))] = f"another peer has {', '.join(sorted(held))} now"
                del adding[key]
        if adding:
            done = subprocess.run(
                ["wg", "addconf", live.name, "/dev/stdin"], input="\n\n".join(adding.values()) + "\n",
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            if done.returncode:
                raise UserError(f"wg addconf {live.name}: {done.stderr.strip()}")
        self.save({key: one for key, one in sections.items() if key not in adding and key not in live.peers})
        return len(adding), waiting


def section(config: PeerConfig, endpoint: str | None, now: float) -> str:
    """The peer as a section of wg-quick(8). ``now``: UNIX seconds."""
    lines = [f"# removed at {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC", "[Peer]"]
    lines.append(f"PublicKey = {encode_key(config.public_key)}")
    if config.preshared_key != NO_PRESHARED_KEY:
        lines.append(f"PresharedKey = {encode_key(config.preshared_key)}")
    if config.allowed_ips:
        lines.append(f"AllowedIPs = {', '.join(sorted(map(str, config.allowed_ips)))}")
    if endpoint:
        lines.append(f"Endpoint = {endpoint}")
    if config.persistent_keepalive:
        lines.append(f"PersistentKeepalive = {config.persistent_keepalive}")
    return "\n".join(lines)


def value(text: str, name: str) -> str:
    """The value of ``name`` in a section. "" if the section has none."""
    found = (line.partition("=") for line in text.splitlines())
    return next((value.strip() for key, _, value in found if key.strip() == name), "")


def _key(text: str) -> PublicKey:
    return PublicKey(decode_key(value(text, "PublicKey")))


def _networks(state: InterfaceState) -> set[str]:
    return {str(network) for peer in state.peers.values() for network in peer.config.allowed_ips}


class KeepingWireGuard:
    """A data plane that writes each foreign peer to its file before it takes the peer's addresses or the peer.

    A peer that cannot be written stays, because nobody could put it back. ``wireguard`` makes the changes. ``reader``
    opens what reads the endpoints. It remembers each peer that it reads, so it is closed again.
    """

    def __init__(
        self, wireguard: WireGuard, reader: Callable[[], WireGuard], folder: Path, now: Callable[[], float]
    ) -> None:
        self._wireguard, self._reader, self._folder, self._now = wireguard, reader, folder, now

    @property
    def retries(self) -> int:
        return self._wireguard.retries

    def read(self, interface: str) -> InterfaceState:
        return self._wireguard.read(interface)

    def apply(self, interface: str, changes: Sequence[Change]) -> list[FailedChange]:
        foreign = {one.public_key: one.current for one in changes if one.current and _ends_foreign_peer(one)}
        failure = self._keep(interface, foreign) if foreign else None
        if failure is None:
            return self._wireguard.apply(interface, changes)
        stay = [one for one in changes if one.public_key in foreign]
        name, text = errno_name(failure.errno or 0), f"it cannot be written to the state directory: {failure.strerror}"
        rest = [one for one in changes if one.public_key not in foreign]
        return [FailedChange(one, name, text) for one in stay] + self._wireguard.apply(interface, rest)

    def _keep(self, interface: str, foreign: Mapping[PublicKey, PeerConfig]) -> OSError | None:
        """Write the peers to the file of their interface. Returns what prevented that."""
        try:
            with closing(self._reader()) as reader:
                live, now = reader.read(interface).peers, self._now()
            endpoints = {key: live[key].endpoint for key in foreign if key in live}
            RemovedPeers(self._folder, interface).add(
                {key: section(config, endpoints.get(key), now) for key, config in foreign.items()}
            )
        except OSError as error:
            return error
        return None

    def create(self, creation: NewInterface) -> None:
        self._wireguard.create(creation)

    def close(self) -> None:
        self._wireguard.close()


def _ends_foreign_peer(change: Change) -> bool:
    """Whether a change removes a foreign peer, or takes its addresses before that."""
    return change.row_id is None and not change.device and (change.desired is None or not change.desired.allowed_ips)
