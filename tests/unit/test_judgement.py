"""Every bad state, judged from facts alone: the severity, what is said, the exit code, the JSON and the runbook.

Seen to fail, each by its rule taken out: all states of the table.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.dao.archive_state_dao import Manifest
from app.dao.failures_dao import Failure
from app.state.archive import Archived
from app.state.judgement import (
    ANCHORS,
    BlockedSweeps,
    Facts,
    Failing,
    HeldBack,
    Kept,
    Severity,
    judge,
)

NOW = datetime(2026, 11, 30, 7, 0, tzinfo=UTC)
AGO = NOW - timedelta(hours=3)
RUNBOOK = Path(__file__).parents[2] / "docs" / "operations.md"
WELL = {"now": NOW, "dispatch_every_seconds": 60, "workers": 2, "dispatcher_seen_at": NOW - timedelta(seconds=30)}
REFUSED = Failure("RaiseException", "P0001", "no_history", "notification_history")
ACT, ATTENTION, WORKING, HEALTHY = Severity.ACT, Severity.ATTENTION, Severity.WORKING, Severity.HEALTHY


def archived(due_since=None, **differs):
    """An archive that is well, but for what differs."""
    well = {
        "files": 3,
        "rows": 500,
        "bytes": 20_000,
        "oldest": NOW - timedelta(days=900),
        "damaged": 0,
        "first_finished_at": NOW - timedelta(days=100),
        "last_finished_at": NOW - timedelta(hours=2),
        "read_again_at": NOW - timedelta(days=15),
        "longest_unread_at": NOW - timedelta(days=60),
        "given_up": 0,
        "why_given_up": None,
        "given_up_at": None,
    }
    return Archived(Manifest(**well | differs), due_since, 0.1)


# The name, what differs from a healthy pipeline, the state, its severity, and a piece of its sentence and its advice.
BAD = [
    (
        "nothing alive",
        {"workers": 0, "dispatcher_seen_at": AGO},
        "no-worker",
        ACT,
        "No worker is alive",
        "Start workers",
    ),
    ("beat is dead", {"dispatcher_seen_at": AGO}, "dispatcher-silent", ACT, "last ran 3 hours ago", "one beat runs"),
    ("beat never ran", {"dispatcher_seen_at": None}, "dispatcher-silent", ACT, "has never run", "one beat runs"),
    (
        "paused",
        {"paused": ("a migration", "olga", AGO)},
        "paused",
        ATTENTION,
        "by olga (a migration)",
        "retention resume",
    ),
    (
        "every batch fails",
        {"failing": [Failing("email", REFUSED, 18, 6, NOW)], "run_is_going": True},
        "batches-failing",
        ACT,
        "P0001 (no_history of notification_history), 6 times in a row, in 18 sweeps",
        "See why no_history of table notification_history refuses",
    ),
    (
        "a batch failed once",
        {"failing": [Failing("test-sms", Failure("QueryCanceled", "57014"), 1, 1, NOW)], "run_is_going": True},
        "batches-failing",
        ATTENTION,
        "Batches of test-sms fail: QueryCanceled 57014, 1 time",
        "A statement took too long",
    ),
    (
        "S3 is away",
        {"failing": [Failing("letter", Failure("Stopped", s3_code="Unreachable"), 2, 4, NOW)]},
        "batches-failing",
        ACT,
        "Batches of letter fail: S3 answers Unreachable, 4 times",
        "the workers reach S3",
    ),
    (
        "a batch kills its worker",
        {"failing": [Failing("email", Failure("WorkerLost"), 1, 3, NOW)]},
        "batches-failing",
        ACT,
        "Batches of email fail: WorkerLost, 3 times",
        "killed each time",
    ),
    (
        "an error that nobody foresaw",
        {"failing": [Failing("email", Failure("KeyError"), 1, 3, NOW)]},
        "batches-failing",
        ACT,
        "Batches of email fail: KeyError, 3 times",
        "step-failed",
    ),
    (
        "blocked for missing files",
        {"blocked_sweeps": [BlockedSweeps("letter", "missing-files", 2, AGO)]},
        "sweep-blocked",
        ACT,
        "2 sweeps of letter wait for a person: too many letters have no file",
        "accept-missing",
    ),
    (
        "the database refuses every row",
        {"blocked_sweeps": [BlockedSweeps("sms", "database-refuses", 1, AGO, REFUSED)]},
        "sweep-blocked",
        ACT,
        "for a person: the database refuses every row, RaiseException P0001 (no_history of notification_history)",
        "retention retry",
    ),
    (
        "a precondition fails",
        {"blocked_policies": [("letter", "the database takes no changes", "name the primary", AGO)]},
        "policy-blocked",
        ACT,
        "Nothing of letter is done: the database takes no changes",
        "name the primary",
    ),
    (
        "overdue past its limit",
        {"kept": [Kept("overdue", "email", 60, True, True, timedelta(days=4), ("AccessDenied (60)",))]},
        "overdue",
        ACT,
        "60 rows of email should be gone, the oldest 4 days past its retention: AccessDenied (60)",
        "Fix the bucket or its permissions",
    ),
    (
        "overdue, and the database refuses",
        {"kept": [Kept("overdue", "sms", 2, True, True, timedelta(days=4), ("refused by the database: x (2)",))]},
        "overdue",
        ACT,
        "2 rows of sms should be gone",
        "Remove the constraint or trigger",
    ),
    (
        "overdue for references that reach others' files",
        {"kept": [Kept("overdue", "letter", 2, True, True, timedelta(days=4), ("AmbiguousReference (2)",))]},
        "overdue",
        ACT,
        "2 rows of letter should be gone",
        "Delete its own file by hand",
    ),
    (
        "overdue, and nothing takes it",
        {"kept": [Kept("overdue", "sms", 2, True, True, timedelta(days=4))]},
        "overdue",
        ACT,
        "2 rows of sms should be gone",
        "No run is taking it. See that workers are alive, then: flask retention run",
    ),
    (
        "a retention is refused",
        {"kept": [Kept("retention refused", "email", 0, True, False)]},
        "kept-too-long",
        ACT,
        "email: retention refused.",
        "Set it to 1 day or more",
    ),
    (
        "held for very long",
        {"kept": [Kept("on hold", "email", 9, True, False, timedelta(days=400))]},
        "kept-too-long",
        ACT,
        "9 rows of email stay, on hold",
        "retention lift",
    ),
    (
        "the relay of accounts is dead",
        {"has_accounts": True, "accounts_relay_seen_at": AGO},
        "dispatcher-silent",
        ACT,
        "The relay of accounts last ran 3 hours ago",
        "accounts' queue",
    ),
    (
        "an unknown status",
        {"kept": [Kept("in no known status", "letter", 1, True, False, timedelta(days=60))]},
        "kept-too-long",
        ACT,
        "1 row of letter stays, in no known status",
        "LETTER_STATUSES_FINAL",
    ),
    (
        "rows without a service",
        {"kept": [Kept("no service", "sms", 500, False, False)]},
        "no-service",
        ATTENTION,
        "500 rows of sms past every retention have no service",
        "Give them a service",
    ),
    (
        "a row is deferred",
        {"held_back": [HeldBack("AccessDenied", 1, 0, AGO)]},
        "held-back",
        ATTENTION,
        "1 row is held back: AccessDenied",
        "retention retry",
    ),
    (
        "rows need a person",
        {"held_back": [HeldBack("refused 23503 fk_of_bills", 40, 40, AGO)]},
        "held-back",
        ACT,
        "40 rows are held back: refused 23503 fk_of_bills",
        "retention retry",
    ),
    (
        "a deletion is blocked",
        {"deletions_blocked": 1},
        "deletion-blocked",
        ACT,
        "1 account deletion is",
        "accounts status",
    ),
    (
        "a deletion is old",
        {"deletion_asked_for_at": NOW - timedelta(days=3)},
        "deletion-blocked",
        ACT,
        "asked for 3 days ago",
        "accounts status",
    ),
    (
        "too large a share of people",
        {"user_sweeps": [("warn", "warnings are blocked", "accept it")]},
        "user-sweep-stopped",
        ACT,
        "Warnings are blocked.",
        "accept it",
    ),
    ("the audit found orphans", {"audit": (3, 0, 0)}, "audit-orphans", ATTENTION, "3 files that no", "retention audit"),
    ("the audit found losses", {"audit": (0, 2, 0)}, "audit-missing", ATTENTION, "2 letters whose", "retention audit"),
    ("the audit found others", {"audit": (0, 0, 99)}, "audit-unrecognised", ATTENTION, "99 files", "retention audit"),
    ("dead sessions pile up", {"dead_sessions": 50_001}, "dead-sessions", ATTENTION, "50,000 dead", "sessions purge"),
    (
        "an archived file is damaged",
        {"archive": archived(damaged=2)},
        "archive-damaged",
        ACT,
        "2 archived files are not as written",
        "archive verify",
    ),
    (
        "no archived file was read again",
        {"archive": archived(read_again_at=NOW - timedelta(days=15, seconds=1))},
        "archive-unverified",
        ATTENTION,
        "No archived file was read again for 15 days",
        "verify-archives",
    ),
    (
        "no archived file was ever read again",
        {"archive": archived(read_again_at=None, first_finished_at=NOW - timedelta(days=16))},
        "archive-unverified",
        ATTENTION,
        "for 16 days",
        "archive verify",
    ),
    (
        "history is due, and no file is finished any more",
        {"archive": archived(due_since=NOW - timedelta(days=3), last_finished_at=NOW - timedelta(hours=27))},
        "archive-stopped",
        ACT,
        "should have been archived 3 days ago",
        "archive-storage-failed",
    ),
    (
        "history is due, and no file was ever finished",
        {"archive": archived(due_since=NOW - timedelta(days=3), last_finished_at=None)},
        "archive-stopped",
        ATTENTION,
        "no file was ever finished",
        "archive list",
    ),
    (
        "a window was given up",
        {"archive": archived(given_up=1, why_given_up="It has no form.", given_up_at=AGO)},
        "archive-given-up",
        ATTENTION,
        "1 window of history can't be archived for now: It has no form.",
        "archive list",
    ),
    (
        "a part can't be had",
        {"unknown": {"sweeps": "QueryCanceled"}},
        "unknown",
        ACT,
        "how sweeps is: Query",
        "Fix what",
    ),
]


@pytest.mark.parametrize(
    ("differs", "state", "severity", "says", "do"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_a_bad_state_is_judged_and_told_alike_everywhere(differs, state, severity, says, do):
    found = judge(Facts(**WELL | differs))
    first = found.verdicts[0]
    assert (first.state, first.severity) == (state, severity)
    assert says in first.sentence
    assert do in first.do
    assert found.headline.startswith(first.sentence)
    assert found.severity == severity
    assert found.exit_code == {ACT: 1, ATTENTION: 3}[severity]
    told = json.loads(json.dumps(found.as_json()))
    assert (told["severity"], told["verdicts"][0]["state"]) == (severity.word, state)
    assert told["verdicts"][0]["runbook"] == f"docs/operations.md#{ANCHORS[state]}"


def test_the_table_has_every_state():
    assert {row[2] for row in BAD} == set(ANCHORS)


@pytest.mark.parametrize(
    ("differs", "severity"),
    [
        ({}, HEALTHY),
        ({"run_is_going": True}, WORKING),
        ({"kept": [Kept("overdue", "email", 60, False, True, timedelta(hours=2))]}, HEALTHY),
        ({"kept": [Kept("on hold", "email", 60, False, False, timedelta(days=2))]}, HEALTHY),
        ({"blocked_sweeps": [BlockedSweeps("email", "on-hold", 1, AGO)]}, HEALTHY),
        ({"dispatcher_seen_at": NOW - timedelta(minutes=4)}, HEALTHY),
        ({"dead_sessions": 50_000}, HEALTHY),
        ({"deletion_asked_for_at": NOW - timedelta(hours=48)}, HEALTHY),
        ({"audit": (0, 0, 0)}, HEALTHY),
        ({"archive": archived()}, HEALTHY),
        ({"archive": archived(due_since=NOW - timedelta(hours=26), last_finished_at=AGO - timedelta(days=9))}, HEALTHY),
        ({"archive": archived(due_since=NOW - timedelta(days=9), last_finished_at=NOW - timedelta(hours=26))}, HEALTHY),
        ({"archive": archived(files=0, first_finished_at=None, read_again_at=None, last_finished_at=None)}, HEALTHY),
    ],
    ids=str,
)
def test_only_what_is_well_is_green(differs, severity):
    found = judge(Facts(**WELL | differs))
    assert (found.severity, found.exit_code, found.verdicts, found.next_action) == (severity, 0, (), None)


def test_a_dispatcher_is_silent_a_moment_after_three_intervals_and_a_minute():
    found = judge(Facts(**WELL | {"dispatcher_seen_at": NOW - timedelta(minutes=4, seconds=1)}))
    assert [one.state for one in found.verdicts] == ["dispatcher-silent"]


def test_the_third_failure_in_a_row_is_one_to_act_on():
    by_attempts = [
        judge(Facts(**WELL | {"failing": [Failing("sms", Failure("E"), 1, n, NOW)]})).severity for n in (2, 3)
    ]
    assert by_attempts == [ATTENTION, ACT]


def test_rows_that_are_overdue_while_it_is_paused_wait_for_the_pause_to_end():
    kept = [Kept("overdue", "sms", 2, True, True, timedelta(days=4))]
    found = judge(Facts(**WELL | {"paused": ("first night", "olga", AGO), "kept": kept}))
    assert {one.state: one.severity for one in found.verdicts} == {"paused": ATTENTION, "overdue": ATTENTION}
    assert all("retention resume" in one.do for one in found.verdicts)
    assert judge(Facts(**WELL | {"kept": kept})).severity is ACT


def test_the_worst_comes_first_and_the_others_are_counted():
    found = judge(Facts(**WELL | {"paused": ("x", "olga", AGO), "audit": (1, 0, 0), "deletions_blocked": 2}))
    assert [one.state for one in found.verdicts] == ["deletion-blocked", "paused", "audit-orphans"]
    assert found.headline == "2 account deletions are blocked. And 2 more things to look at."
    assert (found.of("accounts"), found.of("letter"), found.of("email")) == (ACT, ATTENTION, HEALTHY)


def test_every_state_leads_to_a_heading_of_the_runbook_and_is_in_its_table():
    text = RUNBOOK.read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert set(ANCHORS.values()) <= headings
    assert all(f"`{state}`" in text for state in ANCHORS)
