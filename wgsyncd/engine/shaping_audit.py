"""Writes the audit rows about shaping: what holds for a contract now, and whether the node shapes."""

from collections.abc import Mapping

from wgsyncd.core.audit import NO_FACTS, AuditAction, AuditEvent, AuditFacts
from wgsyncd.core.shaping.changes import bandwidth_changes
from wgsyncd.core.shaping.preview import preview, previous_choice
from wgsyncd.core.shaping.profiles import Choice, ShapingPolicy
from wgsyncd.core.shaping.tree import KernelState
from wgsyncd.core.shaping.wanted import Wanted
from wgsyncd.engine.agent_state import AgentState


class ShapingAudit:
    """Compares each cycle with the last one. Its memory is in ``state``, so it outlives a reload.

    After a restart, the kernel's rates tell what held before. It has none of contracts that were not limited.
    """

    def __init__(self, node: str, state: AgentState) -> None:
        self._node, self._state = node, state

    def look_back(self, wanted: Wanted, found: KernelState, policy: ShapingPolicy) -> None:
        """Take what the kernel has for what held in the last cycle, if this process has seen none."""
        if self._state.bandwidths is None:
            before = {one.owner: previous_choice(one, policy) for one in preview(wanted, found).changed}
            self._state.bandwidths = {**wanted.choices, **before}

    def note(self, choices: Mapping[str, Choice], fault: str, *, starts: bool) -> None:
        """Queue the audit rows of a cycle.

        ``choices``: by contract. ``fault``: the code of what is wrong, or "". ``starts``: nothing was shaped before.
        """
        if starts and not fault:
            self._add(AuditAction.SHAPING_STARTED)
        self._state.queued_audit += bandwidth_changes(self._state.bandwidths or {}, choices, self._node)
        self._state.bandwidths = dict(choices)
        if bool(fault) != bool(self._state.shaping_fault):
            action = AuditAction.SHAPING_FAILED if fault else AuditAction.SHAPING_RESTORED
            self._add(action, AuditFacts(detail=fault or self._state.shaping_fault))
        self._state.shaping_fault = fault

    def _add(self, action: AuditAction, facts: AuditFacts = NO_FACTS) -> None:
        self._state.queued_audit.append(AuditEvent(action, self._node, facts))
