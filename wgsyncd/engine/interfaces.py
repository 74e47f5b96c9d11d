"""Reads the interfaces of this node, creates missing ones, and applies plans to them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.inspect.names import called
from wgsyncd.core.model import Change, ChangeKind, InterfaceState, fingerprint
from wgsyncd.core.peers.guard import ReadError
from wgsyncd.core.peers.plan import FailedChange, Plan
from wgsyncd.engine import wording
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import InterfaceMissing, WireGuardError
from wgsyncd.ports import NewInterface, WireGuard

Actual = Mapping[str, InterfaceState]
NAMED = 900  # devices that one entry of the log names: an entry of the journal has at most 1024 fields
NAMES = 20  # of them with the name that people use, if the store keeps one
ONE_BY_ONE = 3  # changes of one kind that the status lists one by one, not as a number


class Interfaces:
    """Reads and changes the configured interfaces.

    An interface that fails does not stop the others. The log names its error once, until the errno changes.
    """

    def __init__(self, settings: Settings, wireguard: WireGuard, status: DaemonStatus, state: AgentState) -> None:
        self._settings, self._wireguard, self._status = settings, wireguard, status
        self._changed, self._identities = state.interface_log, state.identities
        self._log = log.get("interfaces")
        self.batches_sent = 0  # batches of changes that were sent to the kernel
        self.missing: frozenset[str] = frozenset()  # interfaces that did not exist at the last read
        self.read_errors: dict[str, ReadError] = {}  # by interface: why the last read failed

    def read(self, *, create: bool = True) -> dict[str, InterfaceState]:
        """The dumps of all interfaces that can be read, by name. ``read_errors`` has the other interfaces.

        With ``create``, a missing interface is created if its configuration says so, and the log names what cannot be
        read. Without it, a report is made, which names that itself.
        """
        actual: dict[str, InterfaceState] = {}
        missing: set[str] = set()
        self.read_errors = {}
        for name in self._settings.interfaces:
            try:
                actual[name] = self._read(name, create)
            except WireGuardError as error:
                self.read_errors[name] = ReadError(error.name, str(error))
                if isinstance(error, InterfaceMissing):
                    missing.add(name)
                if create and self._changed(("interface", name), error.name):
                    self._log.error("interface cannot be read", interface=name, error=str(error))
                continue
            state = actual[name]
            if create and self._changed(("interface", name), ""):
                self._log.info("interface found", interface=name, kind=state.kind, peers=len(state.peers),
                               port=state.listen_port)  # fmt: skip
            self._look_for_another(state)
        self.missing = frozenset(missing)
        self._status.interface_errors = dict(self.read_errors)
        self._status.dump_retries = self._wireguard.retries
        return actual

    def _look_for_another(self, state: InterfaceState) -> None:
        """Tell of another port or private key than before: what clients have been given names the old ones."""
        if state.public_key is None:  # not set up yet
            return
        before, now = self._identities.get(state.name), (state.listen_port, state.public_key)
        self._identities[state.name] = now
        if before is None or before == now:
            return
        what = [f"port {now[0]}, before {before[0]}"] if now[0] != before[0] else []
        what += ["another private key"] if now[1] != before[1] else []
        text = " and ".join(what)
        self._log.warning("interface has changed: clients may not find it any more", interface=state.name, what=text)
        self._status.add_event("update", interface=state.name, text=text)

    def _read(self, name: str, create: bool) -> InterfaceState:
        one = self._settings.interfaces[name]
        try:
            return self._wireguard.read(name)
        except InterfaceMissing:
            if not create or not one.create or one.private_key_file is None:
                raise
        try:
            self._wireguard.create(NewInterface(name, one.private_key_file, one.listen_port, one.addresses, one.mtu))
        except WireGuardError as error:
            raise InterfaceMissing(name, error.name, f"is missing and cannot be made: {error.text}") from error
        self._log.warning("interface was missing and has been made", interface=name)
        return self._wireguard.read(name)

    def apply(self, plan: Plan, actual: Actual, keep: Callable[[InterfaceState], None]) -> dict[str, InterfaceState]:
        """Apply a plan: the removals of all interfaces, then all updates, then all additions.

        ``keep`` gets the last sample of the peers just before their removal. An interface that fails gets no more
        changes. Returns the peers afterwards, by interface. An interface that cannot be read back is left out.
        """
        broken: set[str] = set()
        # The removal of an old key has no row, but the addition of the new one has.
        names = {c.device: word for c in plan.changes if (word := called(c.name, c.owner))}
        for kind in ChangeKind:
            for name in actual:
                changes = [c for c in plan.of(kind) if c.interface == name]
                if not changes or name in broken:
                    continue
                self.batches_sent += 1
                try:
                    if kind is ChangeKind.REMOVE:
                        failed = self._remove(actual[name], changes, keep)
                    else:
                        failed = self._wireguard.apply(name, changes)
                except WireGuardError as error:
                    broken.add(name)
                    self._status.change_failures.add((name, error.name))
                    if self._changed(("apply", name), error.name):
                        self._log.error("changes failed", interface=name, action=kind.value, error=str(error))
                    continue
                self._changed(("apply", name), "")
                for one in failed:
                    self._status.change_failures.add((name, one.name))
                    if self._changed(("change", name, one.change.public_key), one.name):
                        device = one.change.device
                        extra = {"called": names[device]} if device in names else {}
                        self._log.error(
                            "change refused", interface=name, device=device, **extra, error=one.name, why=one.text
                        )
                done = len(changes) - len(failed)
                if done:
                    self._status.changes.add((name, kind.value), done)
                    refused = {one.change.public_key for one in failed}
                    applied = [c for c in changes if c.public_key not in refused]
                    devices = [c.device for c in applied if c.device][:NAMED]
                    foreign = [_address(c) for c in applied if not c.device][:NAMED]
                    known = [names[c.device] for c in applied if c.device in names][:NAMES]
                    more = {what: some for what, some in (("called", known), ("foreign", foreign)) if some}
                    self._log.info(
                        "peers changed", interface=name, action=kind.value, peers=done, devices=devices, **more
                    )
                    self._log_recent(name, kind, applied)
        after = dict(actual)
        for name in {c.interface for c in plan.changes}:
            try:
                after[name] = self._wireguard.read(name)
            except WireGuardError as error:
                del after[name]
                self._log.error("interface cannot be read back", interface=name, error=str(error))
        return after

    def _log_recent(self, name: str, kind: ChangeKind, done: list[Change]) -> None:
        """Add the changes to `wgsyncd status`: one by one if they are few, else as a number."""
        if len(done) > ONE_BY_ONE:
            self._status.add_event(kind.value, interface=name, text=f"{len(done)} peers")
            return
        for change in done:
            self._status.add_event(
                kind.value, interface=name, device=change.device or "(foreign)", text=wording.change(change)
            )

    def _remove(
        self, planned: InterfaceState, changes: list[Change], keep: Callable[[InterfaceState], None]
    ) -> list[FailedChange]:
        """Remove peers, but keep the bytes that they moved after the plan's dump. Returns what the kernel refused.

        Without allowed IPs, a peer passes no data. The kernel then counts only its keepalives and handshakes
        (wg_packet_consume_data_done in Linux' drivers/net/wireguard/receive.c). So the peers first lose their allowed
        IPs. Then their counters are read for the last time, and ``keep`` gets them. Then the peers are removed.
        WireGuardError (ESTALE) if the interface was re-created meanwhile.
        """
        name = planned.name
        silenced = [
            replace(c, kind=ChangeKind.UPDATE, desired=c.current._replace(allowed_ips=()))
            for c in changes
            if c.current is not None and c.current.allowed_ips
        ]
        if silenced:
            self._wireguard.apply(name, silenced)  # A peer that refuses this is read and removed like the others.
        read_at = time.monotonic()
        state = self._wireguard.read(name)
        if state.epoch != planned.epoch:
            raise WireGuardError(name, "ESTALE", "was created again while peers were about to be removed")
        going = {c.public_key: state.peers[c.public_key] for c in changes if c.public_key in state.peers}
        keep(replace(state, peers=going))
        failed = self._wireguard.apply(name, changes)
        self._status.record_removal_gap(time.monotonic() - read_at)
        return failed


def _address(change: Change) -> str:
    """What names a peer of no row: its addresses, or else the beginning of its key."""
    addresses = change.current.allowed_ips if change.current is not None else ()
    return " ".join(sorted(map(str, addresses))) or fingerprint(change.public_key)
