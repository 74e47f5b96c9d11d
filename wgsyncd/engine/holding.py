"""Keeps this machine the holder of its node, or says that another machine is.

An interface has one node at a time, too. A daemon of another node in the same boot and network namespace keeps this one
out while its heartbeat is fresh. If it is gone, its node state goes on under this name if this node is new. Otherwise
its records of the interface become doubted, so the same bytes are never posted by both.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

from wgsyncd import log
from wgsyncd.config.schema import Settings
from wgsyncd.core.audit import AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.identity import PUT_BACK, TWIN_WITHIN, Heartbeat, Holder, Identity, Verdict, judge
from wgsyncd.core.reasons import TakeoverCause
from wgsyncd.core.usage.calendar import UsageCalendar
from wgsyncd.engine import wording
from wgsyncd.engine.agent_state import AgentState
from wgsyncd.engine.status import DaemonStatus
from wgsyncd.errors import NotHolder, UserError
from wgsyncd.ports import Machine, Store

UNFINISHED = 1 << 30  # added to the noted revision until all is done that follows from an older node state

_log = log.get("node")
_TAKEOVERS = {Verdict.STOPPED: TakeoverCause.STOPPED, Verdict.SILENT: TakeoverCause.SILENT}


class Holding:
    """Claims the node when the store first answers, writes the heartbeats, and gives the node back.

    Without a ``machine`` (commands have none), it does nothing. ``before_rename`` is called with the former name of a
    renamed node, before the store renames the node state. A claim and a takeover raise the revision. So a daemon
    that lost its node fails at its next commit, loads the state again, and finds here that it is not the holder.
    """

    def __init__(
        self, settings: Settings, store: Store, machine: Machine | None, status: DaemonStatus, state: AgentState,
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        self.node, self._interfaces = settings.node.name, settings.interfaces.keys()
        self._store, self._machine, self._now = store, machine, now
        self._status, self._state = status, state
        self._address = settings.node.active_address
        self.before_rename: Callable[[str], object] = lambda _: None
        self.look_at_role()

    def look_at_role(self) -> None:
        """Find out whether this node is active. Each piece of work begins with this.

        A node without ``node.active_address`` is active. Of a pair, the node that has this address is active, and the
        other one is standby: it keeps peers ready and posts its own bytes, and leaves the application's columns alone.
        A command is never active, because the daemon writes these columns.
        """
        before, active = self._state.is_active, not self._address
        if self._address and self._machine is not None:
            try:
                active = self._machine.has_address(self._address)
            except OSError as error:
                active = bool(before)
                _log.warning("addresses cannot be read: the role stays", active=active, why=error.strerror)
        self._state.is_active = self._store.is_active = active
        self._status.is_active = active if self._address and self._machine is not None else None
        if not self._address or self._machine is None or active == before:
            return
        _log.info("this node is active" if active else "this node is standby", address=self._address)
        if before is not None:
            action = AuditAction.NODE_ACTIVE if active else AuditAction.NODE_STANDBY
            self._state.queued_audit.append(AuditEvent(action, self.node, AuditFacts(address=self._address)))

    def ensure(self, calendar: UsageCalendar) -> bool:
        """Claim the node, if this process has not done so. True if it did. NotHolder if another machine holds it."""
        if self._machine is None or self._state.holds_node:
            return False
        self._claim(self._machine, calendar)
        return True

    def beat(self, calendar: UsageCalendar) -> bool:
        """Write a heartbeat. False: the node was claimed again, so load its state again. NotHolder if it is lost."""
        if self._machine is None:
            return True
        self.look_at_role()
        self.ensure(calendar)
        try:
            self.refuse_rivals(self._interfaces)
        except NotHolder:
            self.release()
            raise
        result = self._store.beat(self._machine.identity(), self._machine.uptime(), reconciled=self._state.reconciled)
        if result is Heartbeat.LOST:
            holder, verdict = self.look()
            if verdict not in (Verdict.OWN, Verdict.SILENT):
                raise NotHolder(wording.node_lost(self.node, holder), lost=True)
            self._refuse_former_name(self._machine.identity())
            # A database that was put back may name an earlier holder, which does not live any more.
            _log.warning("the node's state is new or was put back: the node is claimed again")
        if result is Heartbeat.CLONED:
            self._take_back(self._machine, calendar)
            self.ensure(calendar)
            return False
        if result is not Heartbeat.WRITTEN:
            self._claim(self._machine, calendar)
            return False
        self._status.heartbeat_at, self._state.reconciled = self._now(), False
        return True

    def refuse_rivals(self, interfaces: Collection[str]) -> None:
        """NotHolder if the daemon of another node serves one of these interfaces in this network namespace."""
        if self._machine is None:
            return
        me, uptime = self._machine.identity(), self._machine.uptime()
        for other in self._store.other_nodes():
            shared = other.interfaces & set(interfaces) if other.holder.identity.is_beside(me) else ()
            if shared and judge(other.holder, me, uptime) is Verdict.TAKEN:
                raise NotHolder(wording.interfaces_taken(shared, other), lost=self._state.last_known is not None)

    def _refuse_former_name(self, me: Identity) -> None:
        """NotHolder if another machine took the node over from this daemon, and gave it another name since."""
        for other in self._store.other_nodes():
            if me.boot in other.boots and other.holder.identity.boot != me.boot:
                raise NotHolder(wording.node_lost(f"{self.node} as {other.node}", other.holder), lost=True)

    def uptime(self) -> float | None:
        """Seconds since this machine booted. Each commit stores it, so that a machine that was put back is noticed."""
        return None if self._machine is None else self._machine.uptime()

    @property
    def revision(self) -> int:
        """The revision of the node state that this machine noted last. 0: nothing is known."""
        return 0 if self._machine is None else self._machine.revision

    @revision.setter
    def revision(self, revision: int) -> None:
        if self._machine is not None:
            self._machine.revision = revision

    def meet_strange_revision(self, calendar: UsageCalendar) -> bool:
        """Somebody wrote the node state with this machine's identity. False without a machine.

        The first time, this machine itself was put back to an earlier moment of its boot. So its counters are doubted,
        and its work goes on. NotHolder if that happens again soon, because then a copy of the machine runs.
        """
        if self._machine is None:
            return False
        before, self._state.put_back_at = self._state.put_back_at, calendar.now
        if before is not None and calendar.now - before < TWIN_WITHIN:
            raise NotHolder(wording.node_twin(self.node), lost=True)
        self._claim(self._machine, calendar, PUT_BACK)
        return True

    def look(self) -> tuple[Holder | None, Verdict]:
        """The holder, and what a daemon that starts here may do."""
        assert self._machine is not None
        holder = self._store.holder()
        return holder, judge(holder, self._machine.identity(), self._machine.uptime())

    def take_over(self, seen: Holder, who: str, calendar: UsageCalendar) -> None:
        """Make this machine the holder in place of ``seen``, for an admin. UserError if the holder is another one."""
        assert self._machine is not None
        me = replace(self._machine.identity(), namespace="")  # The daemon may run in another network namespace.
        event = takeover(self.node, seen, me, TakeoverCause.ORDERED, who)
        if not self._store.claim(me, None, seen, [event], calendar).done:
            raise UserError("the holder wrote a heartbeat or was replaced in this moment: run the command again")

    def release(self) -> None:
        """Say in the store that this daemon has stopped, so that another machine may start at once."""
        if self._machine is not None and self._state.holds_node:
            self._store.release(self._machine.identity())

    def _take_back(self, machine: Machine, calendar: UsageCalendar) -> None:
        """Take the node back from a clone: at its start, nothing told it that this machine lives.

        The usual claim follows. It doubts the epochs, because the clone has written its own.
        """
        me, seen = machine.identity(), self._store.holder()
        if seen is not None:
            self._state.holds_node = False
            event = takeover(self.node, seen, me, TakeoverCause.CLONE)
            self._store.claim(me, None, seen, [event], calendar)
            self._status.taken_over_at, known = self._now(), seen.identity
            _log.error("a clone of this server had taken the node over", host=known.host, boot=known.boot)

    def _claim(self, machine: Machine, calendar: UsageCalendar, uptime: float | None = None) -> None:
        me, uptime = machine.identity(), machine.uptime() if uptime is None else uptime
        self.refuse_rivals(self._interfaces)
        displaced = self._follow_rename(me, machine.uptime(), calendar)
        while True:
            seen = self._store.holder()
            verdict = judge(seen, me, uptime)
            if verdict is Verdict.TAKEN and seen is not None:
                raise NotHolder(wording.node_taken(self.node, seen), lost=self._state.holds_node)
            if seen is not None and seen.revision < self.revision < UNFINISHED:
                # The claim raises the stored one, and this process may die before it loads.
                self.revision += UNFINISHED
            audit = [takeover(self.node, seen, me, cause)] if seen and (cause := _TAKEOVERS.get(verdict)) else []
            result = self._store.claim(me, uptime, seen, audit, calendar, displaced)
            if result.done:
                break
        self._state.holds_node = True
        self._status.heartbeat_at = self._now()
        if audit:
            self._status.taken_over_at = self._now()
            _log.warning("node taken over from another machine", host=seen.identity.host if seen else "")
        if result.came_back:
            _log.warning("this boot ran the node before: counters that may be posted already become baselines")

    def _follow_rename(self, me: Identity, uptime: float, calendar: UsageCalendar) -> list[str]:
        """Go on with the state of a node of this machine that had these interfaces and another name.

        No daemon of that node is alive here. Returns the other nodes whose records of these interfaces are not right
        any more.

        The spool's file gets the new name before the node state. If the process dies in between, the next one finds
        the file of its own name, and renames the node state again.
        """
        is_new, displaced = self._store.holder() is None, []
        for other in self._store.other_nodes():
            known = other.holder.identity
            if (known.machine != me.machine and not known.is_beside(me)) or not other.interfaces & self._interfaces:
                continue
            here = known.namespace == me.namespace and judge(other.holder, me, uptime) is Verdict.OWN
            if is_new and (here or known.is_beside(me)):
                event = AuditEvent(AuditAction.NODE_RENAMED, self.node, AuditFacts(previous_node=other.node))
                self.before_rename(other.node)
                self._store.take_name_from(other.node, [event], calendar)
                is_new = False
                _log.warning("node was renamed: its records go on", node=self.node, previous=other.node)
            else:
                displaced += [other.node] if known.is_beside(me) else []
                why = "records, marks of interfaces, spool and quarantine of this node are not taken over"
                _log.warning("another node of this machine served these interfaces", node=other.node, why=why)
        return displaced


def takeover(node: str, seen: Holder, me: Identity, cause: TakeoverCause, who: str | None = None) -> AuditEvent:
    """The audit event of a takeover of ``node``. ``who``: the admin who ordered it."""
    age = None if seen.age is None else round(seen.age)
    facts = AuditFacts(host=me.host, previous_host=seen.identity.host, takeover=cause, count=age, by=who)
    return AuditEvent(AuditAction.NODE_TAKEN_OVER, node, facts)
