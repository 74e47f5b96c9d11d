"""Names that were replaced do not come back: no file of wgsyncd/ defines one of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import FILES, nodes

# Each of these names had a meaning of its own in this project. etc/doc/glossary.md has the terms that replaced them.
_WORDS = """
    AWAY Advance Between Booked Booking Books Budget CannotBeFollowed Chronicle Committed Creation Decider Due DueStep
    DumpTorn EDGE Edge Entry Failed Fate Fault Figures HINT Health Held Hints Inbox InterfaceHealth KEPT Kind LONGEST
    Ledger LeftOff Level Limits Live Looks Mark Named Noted ONE_CONTRACT ORDER Orders OutOfTime Outlook PORTION
    Particulars Peer PeerHealth Piece PlannedStep Policy QR_ENDED Quarantined RARELY RateSample Reach Record Records
    Refused RejectionReport RowReader SAVED Sampled Scope Scribe Seen Share Site Slot Span SpoolDamaged Stage
    StaleLedger Standee Standing State TIMES TOGETHER Taken Told View WallClock Want Watch Web Windows Work World Writer
    Writes _Account _Court _Diary _Seen _arm _await _booked _budget _by_pages _do_without_store _edges _follow_hints
    _hear _hinted _hints _hints_are_urgent _is_told _keep_last _keep_own _keep_pieces _let_go _look_round _looked
    _mind_the_clock _move _named _needs _prove _remember _saved _saved_up _tail _take _tell_moves _uncounted _until_sure
    _untouched _web _whose _worked _write_down advance after_apply after_some allocate_shares assume awaits bare batches
    become before_apply began_anew between book booked booked_rx booked_tx came carry_out compare counters_booked court
    diary discharge elsewhere everybody fate fates floor found_new give_back go_round health held_as_lines hints
    hints_ignored in_one_line in_units inbox inherit is_expired is_of_same keep_clear_of ledger load_ledger load_some
    look_ahead looks make_span max_rate may_leave_off min_removals names_nobody narrow never_counted next_steps obey
    observe odd of_figures of_kernel one_line outlook particulars peers_without_series portions print_story prove
    qr_end_text rarely read_row reconcile_hinted reconcile_some recount remember removal_window_longest
    removal_window_sum removal_windows revoke scribe settle share_keys shut_out slot slots spool_ok spooled
    spools_set_aside stage stands_alone story strangers unbooked unclear windows withholds world
"""
RETIRED = set(_WORDS.split())

# These words have no other meaning in this project, so no part of a longer name has one either: snake_case or CamelCase.
_PARTS = """
    book booked booking books chronicle court decider diary hinted hints inherit ledger looked looks obey outlook portion
    portions prove scribe standee strangers unclear withholds
"""
PARTS = set(_PARTS.split())


def defined(path: Path) -> Iterator[tuple[str, int]]:
    """Yields the names that a file defines, each with its line."""
    for node in nodes(path):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def parts(name: str) -> set[str]:
    """The words of a name in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)}


@pytest.mark.parametrize("name", FILES)
def test_nothing_has_a_retired_name(name: str) -> None:
    back = [f"line {line}: {word}" for word, line in defined(FILES[name]) if word in RETIRED or parts(word) & PARTS]
    assert not back, name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("books", {"books"}),
        ("_hints_are_urgent", {"hints", "are", "urgent"}),
        ("NodeLedger", {"node", "ledger"}),
        ("HTTPBooks2", {"http", "books", "2"}),
        ("bookshelf", {"bookshelf"}),
        ("ALL_BOOKED", {"all", "booked"}),
    ],
)
def test_the_parts_of_a_name(name: str, words: set[str]) -> None:
    assert parts(name) == words
