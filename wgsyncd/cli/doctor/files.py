"""Checks of files: secrets, the spool's directory, the disk, and wg-quick's files."""

import grp
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.finding import ADMIN_PASSWORD, Finding, fault, ok, warning
from wgsyncd.core.model import PublicKey, encode_key
from wgsyncd.core.words import counted

WG_QUICK = Path("/etc/wireguard")
_WITHOUT_PEERS = "/^[ \\t]*\\[/ { peer = tolower($0) ~ /^[ \\t]*\\[peer\\]/ } !peer"  # [Interface] may stand last
# As root: systemd gives the service a copy of a file.
_COPY = (
    "mkdir -p /etc/systemd/system/wgsyncd.service.d && printf '[Service]\\nLoadCredential={name}:{file}\\n' "
    ">> /etc/systemd/system/wgsyncd.service.d/secrets.conf && systemctl daemon-reload && systemctl restart wgsyncd"
)
_FULL, _SCARCE = 64 << 20, 1 << 30  # bytes: a full spool has about 60 MB


@dataclass(frozen=True, slots=True)
class Who:
    """The user that the daemon runs as, or would run as."""

    name: str
    uid: int
    gids: frozenset[int]

    @property
    def group(self) -> str:
        """The name of its first group, for chgrp."""
        try:
            return grp.getgrgid(min(self.gids)).gr_name if self.gids else self.name
        except KeyError:
            return self.name

    def may(self, path: Path, right: int) -> bool:
        """Whether mode and owner of an existing file allow a right: 4 read, 2 write, 1 search."""
        bits = path.stat().st_mode >> 3 * "ogu".index(self.whose_bits(path))
        return self.uid == 0 or bool(bits & right)

    def whose_bits(self, path: Path) -> str:
        """Which part of the mode holds for this user, as chmod calls it: u, g or o. No other part is looked at."""
        found = path.stat()
        return "u" if found.st_uid == self.uid else "g" if found.st_gid in self.gids else "o"


def check(
    settings: Settings,
    who: Who | None,
    state: Path,
    copied: frozenset[str] | None = None,
    wg_quick: Path = WG_QUICK,
    left_over: Path = Path(ADMIN_PASSWORD),
) -> Iterator[Finding]:
    """Every check of files.

    ``who`` is None if there is no such user. ``copied``: the values of the unit's LoadCredential=, or None without a
    unit.
    """
    for key, file in settings.store.secret_files().items():
        if file is not None:
            yield _secret(key.rpartition(".")[2].removesuffix("_file"), file, who, copied)
    for name, one in settings.interfaces.items():
        if one.private_key_file is not None:
            yield _secret(f"{name} private key", one.private_key_file, who, copied)
    yield _state(state, who, has_unit=copied is not None)
    yield _disk(state)
    yield from _left_over(left_over)
    yield from wg_quick_files(list(settings.interfaces), wg_quick, kept=settings.peers.always_keep)


def configuration(file: Path, says: str, who: Who | None) -> Finding:
    """A user who can write the configuration decides who becomes a peer. The daemon's user has to read it."""
    mode = file.stat().st_mode
    if mode & 0o022:
        return fault("configuration", f"{file} can be written by others ({stat.filemode(mode)})", f"chmod go-w {file}")
    closed = [] if who is None else [(one, "x") for one in file.parents if not who.may(one, 1)]
    if who is not None and (closed or not who.may(file, 4)):
        closed += [] if who.may(file, 4) else [(file, "r")]
        opens = (f"chmod {who.whose_bits(one)}+{right} {one}" for one, right in closed)
        why = f"the user {who.name} cannot read {file} ({stat.filemode(mode)}), so wgsyncd does not start"
        return fault("configuration", why, " && ".join((*opens, "systemctl restart wgsyncd")))
    return ok("configuration", f"{file}: {says}")


def _secret(check: str, file: Path, who: Who | None, copied: frozenset[str] | None = None) -> Finding:
    """Only root may read the file if the unit gives a copy to the service. Without a unit, the daemon's group may."""
    group = who.group if who is not None and who.uid and copied is None else "root"
    mode = "640" if copied is None else "600"
    mend = f"chown root:{group} {file} && chmod {mode} {file}"
    is_copied = copied is not None and f"{file.name}:{file}" in copied
    if copied is not None and not is_copied:
        mend += f" && {_COPY.format(name=file.name, file=file)}"
    try:
        found = file.stat()
        closed = next((one for one in reversed(file.parents) if who is not None and not who.may(one, 1)), None)
    except FileNotFoundError:
        why = f"{file} does not exist. Restore what was in it: a new secret would open nothing"
        return fault(check, why, f"install -m {mode} -g {group} /dev/null {file} && editor {file}")
    except OSError as error:
        return warning(check, f"{file} cannot be seen: {error.strerror}", "sudo wgsyncd doctor")
    if found.st_mode & 0o007:
        return fault(check, f"{file} is open to everybody ({stat.filemode(found.st_mode)})", mend)
    if not found.st_size:
        return fault(check, f"{file} is empty", f"editor {file}")
    if is_copied:
        if found.st_mode & 0o070 and found.st_gid:
            return warning(check, f"{file} can be read by its group ({stat.filemode(found.st_mode)})", mend)
        return ok(check, f"{file}, {stat.filemode(found.st_mode)}, and systemd gives the service a copy at its start")
    if who is not None and closed is not None:
        bits = who.whose_bits(closed)
        opens = f"chmod {bits}+x {closed}" if copied is None else mend  # a copy needs no open directory
        return fault(check, f"{file}: the user {who.name} may not enter {closed}", opens)
    if who is not None and not who.may(file, 4):
        return fault(check, f"{file} cannot be read by the user {who.name}", mend)
    if found.st_mode & 0o020:
        return warning(check, f"{file} can be written by its group", f"chmod g-w {file}")
    return ok(check, f"{file}, {stat.filemode(found.st_mode)}")


def _state(state: Path, who: Who | None, *, has_unit: bool) -> Finding:
    if who is None and has_unit:
        told = "the user of the service does not exist, so it cannot start (217/USER)"
        return fault("state", told, "systemd-sysusers && systemctl restart wgsyncd")
    if who is None:
        return warning("state", f"{state}: nobody runs wgsyncd here, so nobody has to write it", "systemd-sysusers")
    own = f"chown -R {who.name}:{who.group} {state}"
    mend = f"install -d -m 700 -o {who.name} -g {who.group} {state}"
    try:
        if not state.is_dir():
            return warning("state", f"{state} does not exist. systemd makes it when the unit starts", mend)
        if os.statvfs(state).f_flag & os.ST_RDONLY:
            told = f"{state} is on a file system that is read-only: nothing can be spooled"
            return fault("state", told, f"findmnt --target {state} && dmesg --level=err,warn | tail -n 20")
        if not who.may(state, 3):
            return fault(
                "state", f"{state} cannot be written by the user {who.name}: nothing can be spooled", f"{mend} && {own}"
            )
        bad = sorted(one.name for one in state.glob("*.bad*"))
        strange = sorted(one.name for one in state.iterdir() if not who.may(one, 2))
    except OSError as error:
        return warning("state", f"{state} cannot be seen: {error.strerror}", "sudo wgsyncd doctor")
    if strange:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        text = f"{state}: the user {who.name} cannot write {', '.join(strange[:3])}{more}"
        return fault("state", text, own)
    if bad:
        return warning("state", f"{state} holds samples that could not be read: {', '.join(bad)}", f"ls -l {state}")
    return ok("state", f"{state} can be written by the user {who.name}")


def _left_over(file: Path) -> Iterator[Finding]:
    """The file that `init-db` was given, if nobody has removed it after use."""
    if file.exists():
        told = f"{file} still has the password of the database's administrator: remove it after `wgsyncd init-db`"
        yield warning("admin's password", told, f"rm {file}")


def _disk(state: Path) -> Finding:
    there = next(one for one in (state, *state.parents) if one.exists())
    free = shutil.disk_usage(there).free
    inodes = os.statvfs(there)
    top = next(one for one in (there, *there.parents) if one.is_mount())  # du -x stays on its file system
    mend = f"df -h {there} && du -xh --max-depth=2 {top} | sort -h | tail"
    if free < _FULL or (inodes.f_files and not inodes.f_favail):
        left = f"{free >> 20} MiB are" if free < _FULL else "no inode is"
        return fault("disk", f"the disk is full: {left} free under {there}", mend)
    if free < _SCARCE:
        return warning("disk", f"{there}: only {free >> 20} MiB are free", mend)
    return ok("disk", f"{there}: {free >> 30} GiB are free")


def wg_quick_files(
    interfaces: Sequence[str], directory: Path = WG_QUICK, *,
    kept: Collection[PublicKey] = (), rows: Collection[str] | None = None,
) -> Iterator[Finding]:  # fmt: skip
    """A peer in wg-quick's files can connect from the boot until wgsyncd's first cycle.

    A peer of no row would be lost at the next boot. So a command that removes all sections is proposed only if each
    is of a row. ``rows``: their keys as text, None if unknown. ``kept``: keys of `peers.always_keep`, which stay.
    """
    good = True
    for name in interfaces:
        file = directory / f"{name}.conf"
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            good = False
            yield warning("wg-quick", f"{file} cannot be read: {error.strerror}", "sudo wgsyncd doctor")
            continue
        if re.search(r"^\s*SaveConfig\s*=\s*true", text, re.MULTILINE | re.IGNORECASE):
            good = False
            yield warning(
                "wg-quick", f"{file} has SaveConfig = true: wg-quick writes wgsyncd's peers into it",
                f"sed -i '/^\\s*SaveConfig\\s*=/Id' {file}",
            )  # fmt: skip
        keys = re.findall(r"^\s*PublicKey\s*=\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
        stay = len(set(keys) & set(map(encode_key, kept)))
        if count := len(re.findall(r"^\s*\[Peer\]", text, re.MULTILINE | re.IGNORECASE)) - stay:
            good = False
            sections = counted(count, "[Peer] section")
            why = f"{file} has {sections}: such a peer can connect from the boot until the first cycle"
            if rows is None:
                yield warning("wg-quick", why, "wgsyncd adopt")
                continue
            if others := len(set(keys) - set(rows)):
                why += f". Remove them, but keep the {others} of peers in no row: a boot would lose these"
                yield warning("wg-quick", why, f"editor {file}")
                continue
            yield warning(
                "wg-quick", why, f"cp -p {file} {file}.old && awk '{_WITHOUT_PEERS}' {file}.old > {file}",
            )  # fmt: skip
    if good:
        yield ok("wg-quick", f"no peers in the files of {directory}")
