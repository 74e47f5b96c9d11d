"""The wiring: the one module that names the concrete store, data plane and spool."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from wgsyncd import stores
from wgsyncd.core.audit import AuditAction
from wgsyncd.errors import ConfigError, ConfigIssue, FilterError, UserError
from wgsyncd.stores import spool

if TYPE_CHECKING:
    from wgsyncd.config.schema import Settings
    from wgsyncd.core.inspect.answers import Link
    from wgsyncd.core.inspect.finding import Finding
    from wgsyncd.core.policies.model import Ruleset
    from wgsyncd.dataplane.nftables.filter import PacketFilter
    from wgsyncd.dataplane.nftables.nft import Nft
    from wgsyncd.dataplane.nftables.view import FilterSettings, FilterView
    from wgsyncd.dataplane.tc.kernel import KernelTc
    from wgsyncd.dataplane.tc.traffic import TrafficReader
    from wgsyncd.dataplane.wireguard.removed_peers import RemovedPeers
    from wgsyncd.engine.agent import Agent
    from wgsyncd.engine.agent_state import AgentState
    from wgsyncd.engine.shaping import Shaping
    from wgsyncd.engine.status import DaemonStatus, LinkState
    from wgsyncd.ports import Machine, Plane, ReportSource, WireGuard


def _agent(
    settings: Settings, wireguard: WireGuard, status: DaemonStatus, state: AgentState, machine: Machine | None = None,
    packet_filter: PacketFilter | FilterView | None = None, tc: KernelTc | None = None,
) -> Agent:  # fmt: skip
    """An agent on the real parts. A further plane of the data plane is one more entry of ``planes``."""
    from wgsyncd.engine.agent import Agent
    from wgsyncd.ports import Clock

    clock = Clock(time.time, time.monotonic)
    samples = spool.FileSpool(spool.directory(), settings.node.name)
    store = stores.open_store(settings).store(state.on_answer)
    planes: list[Plane] = [packet_filter] if packet_filter is not None else []
    if settings.shaping_policy.enforce:
        planes.append(_shaping(settings, status, state, tc))
    return Agent(settings, wireguard, store, samples, status, clock, state, planes=planes, machine=machine)


def _shaping(settings: Settings, status: DaemonStatus, state: AgentState, tc: KernelTc | None) -> Shaping:
    from wgsyncd.dataplane.tc.kernel import KernelTc
    from wgsyncd.engine.shaping import Shaping

    return Shaping(settings, tc or KernelTc(), status, state)


def open_agent(settings: Settings, *, claims: bool = False) -> Agent:
    """The agent of a command, which reads and writes by itself. ``claims``: it may take the node over from another."""
    from wgsyncd.engine.agent_state import AgentState
    from wgsyncd.engine.status import DaemonStatus

    if claims:
        from wgsyncd.daemon.machine import LocalMachine

        return _agent(settings, open_wireguard(), DaemonStatus(), AgentState(), LocalMachine())
    return _agent(settings, open_wireguard(), DaemonStatus(), AgentState(), packet_filter=_filter_view(settings))


def daemon_agents(status: DaemonStatus) -> Callable[[Settings, AgentState], Agent]:
    """What makes the daemon's agent, again after every reload. UserError: another wgsyncd has the state directory."""
    from wgsyncd.daemon import lock
    from wgsyncd.daemon.machine import LocalMachine
    from wgsyncd.dataplane.addresses import has_address
    from wgsyncd.dataplane.tc.kernel import KernelTc
    from wgsyncd.dataplane.wireguard.removed_peers import KeepingWireGuard

    folder = spool.directory()
    # Only a peer's removal needs endpoints.
    wireguard = KeepingWireGuard(open_wireguard(endpoints=False), open_wireguard, folder, time.time)
    machine = LocalMachine(folder, lock.lock_folder(folder), has_address)
    filters, tc = _Filters(), KernelTc()  # They live over reloads.

    def agent(settings: Settings, state: AgentState) -> Agent:
        packet_filter = filters.of(settings)
        made = _agent(settings, wireguard, status, state, machine, packet_filter, tc)
        if filters.begin(settings, packet_filter):
            made.queue_audit(AuditAction.POLICIES_OFF)
        status.policies = packet_filter.status if packet_filter is not None else None
        if not settings.shaping_policy.enforce:  # Last: a configuration that is refused changes nothing.
            status.shaping = None
            if _shaping(settings, status, state, tc).remove():  # what an earlier configuration has made
                made.queue_audit(AuditAction.SHAPING_STOPPED)
            state.bandwidths = None
        return made

    return agent


class _Filters:
    """The daemon's packet filter. It lives over reloads, because it knows what was last wanted."""

    def __init__(self) -> None:
        self._kept: PacketFilter | None = None

    def of(self, settings: Settings) -> PacketFilter | None:
        """The packet filter that a configuration needs, not started yet. ConfigError if it cannot be had."""
        wanted = _filter_settings(settings)
        if wanted is None or self._kept is not None:
            return self._kept if wanted is not None else None
        with _as_fault(settings):
            return _packet_filter(wanted)

    def begin(self, settings: Settings, packet_filter: PacketFilter | None) -> bool:
        """Begin with a configuration. Returns whether a table was removed, because policies are not enforced any more.

        ConfigError if the packet filter cannot be changed: then the old configuration goes on.
        """
        wanted = _filter_settings(settings)
        if packet_filter is None or wanted is None:
            return settings.store.policy_settings() is not None and self._remove(settings)
        with _as_fault(settings):
            if packet_filter is self._kept:
                packet_filter.configure(wanted)
            else:
                try:
                    packet_filter.start()
                except FilterError:
                    packet_filter.close()
                    raise
        self._kept = packet_filter
        return False

    def _remove(self, settings: Settings) -> bool:
        """Remove the table that an earlier configuration has made."""
        from wgsyncd.dataplane.nftables.filter import remove_table
        from wgsyncd.dataplane.nftables.nft import Nft

        with _as_fault(settings):
            is_removed = remove_table(Nft())
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        return is_removed


@contextmanager
def _as_fault(settings: Settings) -> Iterator[None]:
    """Make an error of the packet filter a fault of the configuration."""
    try:
        yield
    except (FilterError, UserError) as error:
        policies = settings.store.policy_settings()
        key = f"{settings.control_plane}.policies.enforce"
        told = "true" if policies is not None and policies.enforce else "false"
        raise ConfigError("configuration", [ConfigIssue(key, told, f"cannot be done: {error}")]) from error


def _filter_settings(settings: Settings) -> FilterSettings | None:
    """What the packet filter has to know. None: the control plane has no policies, or nobody enforces them."""
    from wgsyncd.core.peers.guard import RemovalLimits
    from wgsyncd.dataplane.nftables.view import FilterSettings

    policies, guard = settings.store.policy_settings(), settings.guard
    if policies is None or not policies.enforce:
        return None
    limits = RemovalLimits(guard.always_allowed, guard.max_share, guard.small_node)
    return FilterSettings(frozenset(settings.interfaces), policies, limits, frozenset(settings.peers.always_keep))


def _packet_filter(settings: FilterSettings) -> PacketFilter:
    from wgsyncd.dataplane.nftables.filter import PacketFilter
    from wgsyncd.dataplane.nftables.netfilter import Netfilter
    from wgsyncd.dataplane.nftables.nft import Nft

    return PacketFilter(settings, Nft(), Netfilter())


def _filter_view(settings: Settings) -> FilterView | None:
    """The packet filter, to look at. None: the control plane has no policies, or nobody enforces them."""
    from wgsyncd.dataplane.nftables.nft import Nft
    from wgsyncd.dataplane.nftables.view import FilterView

    wanted = _filter_settings(settings)
    return FilterView(wanted, Nft()) if wanted is not None else None


def read_ruleset(settings: Settings) -> Ruleset | None:
    """The packet filter's table as the kernel has it. None: there is none. FilterError if it cannot be read."""
    view = _filter_view(settings)
    return view.read() if view is not None else None


def open_reports(settings: Settings) -> ReportSource:
    """The store's reports, which only commands ask for."""
    return stores.open_store(settings).reports()


def open_wireguard(*, endpoints: bool = True) -> WireGuard:
    """The data plane by itself."""
    from wgsyncd.dataplane.wireguard.local import LocalWireGuard

    return LocalWireGuard(endpoints=endpoints)


def open_nft() -> Nft:
    """The packet filter's program."""
    from wgsyncd.dataplane.nftables.nft import Nft

    return Nft()


def removed_peers(interface: str) -> RemovedPeers:
    """The foreign peers of an interface that wgsyncd removed."""
    from wgsyncd.dataplane.wireguard.removed_peers import RemovedPeers

    return RemovedPeers(spool.directory(), interface)


def interface_of(address: str) -> str | None:
    """The interface that has an address of this machine. OSError: the kernel does not say."""
    from wgsyncd.dataplane.addresses import interface_of

    return interface_of(address)


def read_link(interface: str) -> Link | None:
    """The interface's link. None if it does not exist."""
    from wgsyncd.dataplane.wireguard.interfaces import link

    return link(interface)


def is_down(interface: str) -> bool:
    """Whether the interface exists and is down."""
    from wgsyncd.daemon.machine import link
    from wgsyncd.engine.status import LinkState

    return link(interface) is LinkState.DOWN


def link_states(settings: Settings) -> dict[str, LinkState]:
    """The links of the interfaces that exist now, by name."""
    from wgsyncd.daemon.machine import links
    from wgsyncd.engine.status import LinkState

    return {name: one for name, one in links(settings.interfaces).items() if one is not LinkState.MISSING}


def open_tc() -> TrafficReader:
    """The kernel's tc, for one thread, which closes it."""
    from wgsyncd.dataplane.tc.traffic import TrafficReader

    return TrafficReader()


def check_store(settings: Settings) -> Iterator[Finding]:
    """What `wgsyncd doctor` says about the store."""
    return stores.open_store(settings).check()


def register_init(parser: argparse.ArgumentParser) -> None:
    """Add the options that the control planes have for `wgsyncd init-db`."""
    stores.register_init(parser)


def init_store(settings: Settings, options: argparse.Namespace) -> Iterator[str]:
    """Create wgsyncd's own tables, and say what was done."""
    stores.refuse_init(settings.control_plane, options)
    return stores.open_store(settings).install(options)


def seal_psk(files: Mapping[str, Path], key_id: str, row: UUID, text: str) -> str:
    """The envelope of a preshared key in base64, for a row of NexaVPN. UserError if the text is no such key."""
    from wgsyncd.stores.nexavpn import psk

    try:
        return psk.seal(psk.read_keys(files)[key_id], key_id, row, psk.decode_secret(text.encode()))
    except ValueError as error:
        raise UserError(f"the preshared key on standard input {error}") from None


def check_psk(files: Mapping[str, Path], row: UUID, envelope: str) -> str:
    """The id of the key that opens the envelope of a row of NexaVPN. UserError if none does."""
    from wgsyncd.stores.nexavpn import psk

    try:
        psk.open_envelope(envelope, row, psk.read_keys(files))
        return psk.key_id_of(envelope)
    except psk.PskSealed as error:
        raise UserError(f"the envelope on standard input does not open: {error}") from None


def spool_directory() -> Path:
    """Where the spool is."""
    return spool.directory()
