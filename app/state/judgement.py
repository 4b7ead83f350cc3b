"""The one judgement: from facts to verdicts. Pure; nothing here asks anybody anything.

The ops page's headline, `flask retention overdue`, its exit code and JSON, and the metric `retention_verdicts`, from
which alerts fire, are all told from this. So they can't disagree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from app.dao.failures_dao import Failure
from app.dao.state_dao import HeldBack
from app.state import advice
from app.state.archive import Archived
from app.state.findings import span

RUNBOOK = "docs/operations.md"
LATE_BY = timedelta(minutes=1)
INTERVALS_MISSED = 3
ATTEMPTS_BEFORE_ACT = 3
"""A batch that has failed so often in a row does not get through by itself."""


class Severity(IntEnum):
    """How bad it is. `ATTENTION`: somebody should look today. `ACT`: a person must do something now."""

    HEALTHY = 0
    WORKING = 1
    ATTENTION = 2
    ACT = 3

    @property
    def word(self) -> str:
        return self.name.lower()


EXIT_CODES = {Severity.HEALTHY: 0, Severity.WORKING: 0, Severity.ACT: 1, Severity.ATTENTION: 3}
"""Of the commands that tell it. 2 says that it could not be asked."""

ANCHORS = {
    "unknown": "retentionscrapeincomplete",
    "no-worker": "retentionnoworkers",
    "dispatcher-silent": "retentionrelaydead",
    "paused": "retentionpaused",
    "batches-failing": "when-batches-fail",
    "sweep-blocked": "when-a-sweep-is-blocked",
    "policy-blocked": "retentionpolicyblocked",
    "overdue": "retentionoverdue",
    "kept-too-long": "retentionoverdue",
    "no-service": "retentionoverdue",
    "held-back": "retentionheldbackrows",
    "deletion-blocked": "retentionaccountdeletionstuck",
    "user-sweep-stopped": "retentionusersweepstopped",
    "audit-orphans": "retentionauditfoundorphans",
    "audit-missing": "retentionauditmissingfiles",
    "audit-unrecognised": "retentionauditfoundorphans",
    "dead-sessions": "sessions",
    "archive-damaged": "retentionarchivedamaged",
    "archive-unverified": "retentionarchiveunverified",
    "archive-stopped": "when-history-is-not-archived",
    "archive-given-up": "when-history-is-not-archived",
}
"""Every state that is no good news, and the heading of the runbook that says what to do."""


@dataclass(frozen=True)
class Failing:
    """Sweeps of a policy whose last attempt failed: of what, how often in a row at most, and when the next attempt is
    due (aware).
    """

    policy: str
    failure: Failure
    sweeps: int
    attempts: int
    next_attempt: datetime


@dataclass(frozen=True)
class BlockedSweeps:
    """Sweeps of a policy that wait for a person or a precondition, for one reason, since when (aware), and what refused
    their last batch.
    """

    policy: str
    reason: str
    sweeps: int
    since: datetime
    failure: Failure | None = None


@dataclass(frozen=True)
class Kept:
    """Rows past their retention: what keeps them, and whether for longer than that may."""

    kind: str
    policy: str
    rows: int
    is_alarm: bool
    is_overdue: bool
    past: timedelta | None = None
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is known of everything at one moment (aware). A part that could not be asked is in `unknown`, with why."""

    now: datetime
    dispatch_every_seconds: float
    workers: int = 0
    dispatcher_seen_at: datetime | None = None
    has_accounts: bool = False
    accounts_relay_seen_at: datetime | None = None
    run_is_going: bool = False
    paused: tuple[str, str, datetime] | None = None
    """Why, by whom, since when."""
    failing: Sequence[Failing] = ()
    blocked_sweeps: Sequence[BlockedSweeps] = ()
    blocked_policies: Sequence[tuple[str, str, str, datetime]] = ()
    """Policy, what is wrong, what to do, since when."""
    kept: Sequence[Kept] = ()
    held_back: Sequence[HeldBack] = ()
    deletions_blocked: int = 0
    deletion_asked_for_at: datetime | None = None
    """Of the oldest that is under way."""
    user_sweeps: Sequence[tuple[str, str, str]] = ()
    """The sweep, what stops it, what to do."""
    audit: tuple[int, int, int] | None = None
    """Files without a row, rows without a file, and unrecognised files, at the last audit."""
    dead_sessions: int = 0
    archive: Archived | None = None
    """None: history is not archived."""
    unknown: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """One thing that is so: how bad, what, why, since when, how much, and what to do. `action` is the ops page's."""

    state: str
    severity: Severity
    sentence: str
    do: str
    policy: str | None = None
    cause: str | None = None
    since: datetime | None = None
    amount: int | None = None
    action: str | None = None
    failure: Failure | None = None

    @property
    def runbook(self) -> str:
        return f"{RUNBOOK}#{ANCHORS[self.state]}"

    def as_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "severity": self.severity.word,
            "policy": self.policy,
            "sentence": self.sentence,
            "cause": self.cause,
            "failure": self.failure and self.failure.columns(),
            "since": self.since and self.since.isoformat(),
            "amount": self.amount,
            "do": self.do,
            "runbook": self.runbook,
        }


@dataclass(frozen=True)
class Judgement:
    """All verdicts, the worst first, at one moment (aware)."""

    at: datetime
    run_is_going: bool
    verdicts: tuple[Verdict, ...]

    @property
    def severity(self) -> Severity:
        worst = max((one.severity for one in self.verdicts), default=Severity.HEALTHY)
        return max(worst, Severity.WORKING) if self.run_is_going else worst

    @property
    def headline(self) -> str:
        """All of it in one sentence."""
        bad = [one for one in self.verdicts if one.severity >= Severity.ATTENTION]
        if bad:
            more = len(bad) - 1
            others = f" And {more} more {'thing' if more == 1 else 'things'} to look at." if more else ""
            return f"{bad[0].sentence}{others}"
        return "A run is under way, and nothing is wrong." if self.run_is_going else "Nothing is overdue."

    @property
    def next_action(self) -> Verdict | None:
        """What to do first."""
        return self.verdicts[0] if self.severity >= Severity.ATTENTION else None

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.severity]

    def of(self, policy: str) -> Severity:
        """The worst that is said of one policy."""
        return max((one.severity for one in self.verdicts if one.policy == policy), default=Severity.HEALTHY)

    def as_json(self) -> dict[str, Any]:
        """The schema is in docs/operations.md, "The morning check"."""
        return {
            "at": self.at.isoformat(),
            "severity": self.severity.word,
            "headline": self.headline,
            "verdicts": [one.as_json() for one in self.verdicts],
        }


def judge(facts: Facts) -> Judgement:
    """Everything that there is to say, the worst first; of equals, what stops everything before what stops a part."""
    verdicts = (one for rule in RULES for one in rule(facts))
    return Judgement(facts.now, facts.run_is_going, tuple(sorted(verdicts, key=lambda one: -one.severity)))


def _unknown(facts: Facts) -> Iterator[Verdict]:
    for part, why in sorted(facts.unknown.items()):
        yield Verdict(
            "unknown",
            Severity.ACT,
            f"It can't be told how {part} is: {why}.",
            "Fix what is named; the rest of this page is told without it.",
            cause=why,
        )


def _alive(facts: Facts) -> Iterator[Verdict]:
    if "workers" in facts.unknown:
        return
    if not facts.workers:
        yield Verdict(
            "no-worker",
            Severity.ACT,
            "No worker is alive: nothing is deleted.",
            "Start workers: celery --app app.celery worker.",
            amount=0,
        )
    patience = timedelta(seconds=INTERVALS_MISSED * facts.dispatch_every_seconds) + LATE_BY
    relays = [("The dispatcher", facts.dispatcher_seen_at, "periodic")]
    relays += [("The relay of accounts", facts.accounts_relay_seen_at, "accounts'")] if facts.has_accounts else []
    for relay, seen_at, queue in relays:
        if seen_at is None or facts.now - seen_at > patience:
            ago = "has never run" if seen_at is None else f"last ran {span((facts.now - seen_at).total_seconds())} ago"
            yield Verdict(
                "dispatcher-silent",
                Severity.ACT,
                f"{relay} {ago}: what is due is not started.",
                f"See that one beat runs, and that workers take the {queue} queue.",
                since=seen_at,
            )


def _paused(facts: Facts) -> Iterator[Verdict]:
    if facts.paused is not None:
        why, by, since = facts.paused
        yield Verdict(
            "paused",
            Severity.ATTENTION,
            f"The pipeline is paused by {by} ({why}): nothing is deleted.",
            "When the reason is gone: flask retention resume.",
            since=since,
            action="resume",
        )


def _failing(facts: Facts) -> Iterator[Verdict]:
    for one in facts.failing:
        yield Verdict(
            "batches-failing",
            Severity.ACT if one.attempts >= ATTEMPTS_BEFORE_ACT else Severity.ATTENTION,
            f"Batches of {one.policy} fail: {one.failure}, {one.attempts} "
            f"{'time' if one.attempts == 1 else 'times'} in a row, in {one.sweeps:,} "
            f"{'sweep' if one.sweeps == 1 else 'sweeps'}. Next attempt {one.next_attempt:%H:%M} UTC.",
            advice.of_failure(one.failure),
            policy=one.policy,
            cause=str(one.failure),
            amount=one.sweeps,
            failure=one.failure,
        )


def _blocked_sweeps(facts: Facts) -> Iterator[Verdict]:
    for one in facts.blocked_sweeps:
        if one.reason in advice.BY_CHOICE:
            continue
        why, do, action = advice.BLOCKED_BY.get(one.reason, (one.reason, "See: flask retention status.", None))
        yield Verdict(
            "sweep-blocked",
            Severity.ACT,
            f"{one.sweeps:,} {'sweep' if one.sweeps == 1 else 'sweeps'} of {one.policy} "
            f"{'waits' if one.sweeps == 1 else 'wait'} for a person: {why}{f', {one.failure}' if one.failure else ''}.",
            do,
            policy=one.policy,
            cause=str(one.failure or one.reason),
            failure=one.failure,
            since=one.since,
            amount=one.sweeps,
            action=action,
        )


def _blocked_policies(facts: Facts) -> Iterator[Verdict]:
    for policy, sentence, fix, since in facts.blocked_policies:
        yield Verdict(
            "policy-blocked",
            Severity.ACT,
            f"Nothing of {policy} is done: {sentence}.",
            fix,
            policy=policy,
            cause=sentence,
            since=since,
        )


def _kept(facts: Facts) -> Iterator[Verdict]:
    """One verdict for each policy and kind, so that a thousand services are one line."""
    found: dict[tuple[str, str], list[Kept]] = {}
    for one in facts.kept:
        if one.is_alarm or one.kind == "no service":
            found.setdefault((one.policy, one.kind), []).append(one)
    for (policy, kind), kept in found.items():
        rows = sum(one.rows for one in kept)
        past = max((one.past for one in kept if one.past), default=None)
        why = ", ".join(sorted({word for one in kept for word in one.why})) or None
        oldest = f", the oldest {span(past.total_seconds())} past its retention" if past else ""
        counted = f"{rows:,} {'row' if rows == 1 else 'rows'} of {policy}"
        if kind == "no service":
            yield Verdict(
                "no-service",
                Severity.ATTENTION,
                f"{counted} past every retention have no service, and stay for ever.",
                "Give them a service, or delete them by hand.",
                policy=policy,
                amount=rows,
            )
        elif kept[0].is_overdue:
            words = {word for one in kept for word in one.why} or ({"paused"} if facts.paused else set())
            do, action = advice.of_overdue(words, is_going=facts.run_is_going)
            yield Verdict(
                "overdue",
                # A pause is somebody's wish. Rows that were overdue when it was placed, as on the day of the
                # installation, say nothing else.
                Severity.ATTENTION if facts.paused else Severity.ACT,
                f"{counted} should be gone{oldest}{f': {why}' if why else ''}.",
                do,
                policy=policy,
                cause=why,
                amount=rows,
                action=action,
            )
        else:
            do, action = advice.OF_KIND.get(kind, ("See: flask retention overdue.", None))
            yield Verdict(
                "kept-too-long",
                Severity.ACT,
                f"{counted} {'stays' if rows == 1 else 'stay'}, {kind}{oldest}." if rows else f"{policy}: {kind}.",
                do,
                policy=policy,
                cause=kind,
                amount=rows,
                action=action,
            )


def _held_back(facts: Facts) -> Iterator[Verdict]:
    for one in facts.held_back:
        yield Verdict(
            "held-back",
            Severity.ACT if one.needing_person else Severity.ATTENTION,
            f"{one.rows:,} {'row is' if one.rows == 1 else 'rows are'} held back: {one.why}.",
            f"Fix what {one.why} names, then: flask retention retry.",
            cause=one.why,
            since=one.since,
            amount=one.rows,
            action="retry",
        )


DELETION_TAKES = timedelta(hours=48)


def _accounts(facts: Facts) -> Iterator[Verdict]:
    if facts.deletions_blocked:
        yield Verdict(
            "deletion-blocked",
            Severity.ACT,
            f"{facts.deletions_blocked:,} account {'deletion is' if facts.deletions_blocked == 1 else 'deletions are'} "
            "blocked.",
            "See what blocks them: flask accounts status.",
            policy="accounts",
            amount=facts.deletions_blocked,
        )
    asked = facts.deletion_asked_for_at
    if asked is not None and facts.now - asked > DELETION_TAKES:
        yield Verdict(
            "deletion-blocked",
            Severity.ACT,
            f"An account deletion was asked for {span((facts.now - asked).total_seconds())} ago and is not over.",
            "See what keeps it: flask accounts status.",
            policy="accounts",
            since=asked,
        )
    for sweep, sentence, fix in facts.user_sweeps:
        capital = f"{sentence[:1].upper()}{sentence[1:]}"
        yield Verdict("user-sweep-stopped", Severity.ACT, f"{capital}.", fix, policy=sweep, cause=sentence)


def _audit(facts: Facts) -> Iterator[Verdict]:
    if facts.audit is None:
        return
    for state, amount, what in (
        ("audit-orphans", facts.audit[0], "files that no retention will ever delete"),
        ("audit-missing", facts.audit[1], "letters whose file is missing"),
        ("audit-unrecognised", facts.audit[2], "files under names that fit no letter"),
    ):
        if amount:
            yield Verdict(
                state,
                Severity.ATTENTION,
                f"The last audit found {amount:,} {what}.",
                "See docs/operations.md, and: flask retention audit.",
                policy="letter",
                amount=amount,
            )


DEAD_SESSIONS_AT_MOST = 50_000
"""The hourly clean-up leaves none; so many mean that it does not run, or does not keep up."""


def _sessions(facts: Facts) -> Iterator[Verdict]:
    if facts.dead_sessions > DEAD_SESSIONS_AT_MOST:
        yield Verdict(
            "dead-sessions",
            Severity.ATTENTION,
            f"More than {DEAD_SESSIONS_AT_MOST:,} dead sessions are still there.",
            "See that the hourly clean-up runs; by hand: flask sessions purge.",
            policy="sessions",
            amount=facts.dead_sessions,
        )


ARCHIVE_GETS_ON = timedelta(hours=26)
"""In so long the hourly message ends a file, or at least a window, while something is due."""
ARCHIVE_IS_READ_AGAIN = timedelta(days=15)
"""The weekly sample may fail once."""


def _archive(facts: Facts) -> Iterator[Verdict]:
    if facts.archive is None:
        return
    files, due_since = facts.archive.manifest, facts.archive.due_since
    if files.damaged:
        yield Verdict(
            "archive-damaged",
            Severity.ACT,
            f"{files.damaged:,} archived {'file is' if files.damaged == 1 else 'files are'} not as written.",
            "See flask retention archive list; bring each back from a version or a replica of the bucket, then: "
            "flask retention archive verify.",
            policy="archive",
            amount=files.damaged,
        )
    read_at = files.read_again_at or files.first_finished_at
    if read_at is not None and facts.now - read_at > ARCHIVE_IS_READ_AGAIN:
        yield Verdict(
            "archive-unverified",
            Severity.ATTENTION,
            f"No archived file was read again for {span((facts.now - read_at).total_seconds())}.",
            "See that beat sends verify-archives each week; by hand: flask retention archive verify --share 0.1.",
            policy="archive",
            since=read_at,
        )
    ended = files.last_finished_at
    if due_since is not None and facts.now - max(due_since, ended or due_since) > ARCHIVE_GETS_ON:
        yield Verdict(
            "archive-stopped",
            Severity.ATTENTION if ended is None else Severity.ACT,
            f"History should have been archived {span((facts.now - due_since).total_seconds())} ago, and no file "
            f"{'was ever' if ended is None else 'is'} finished.",
            "See the workers' log for archive-storage-failed and archive-refused, and: flask retention archive list.",
            policy="archive",
            since=due_since,
        )
    if files.given_up:
        yield Verdict(
            "archive-given-up",
            Severity.ATTENTION,
            f"{files.given_up:,} {'window' if files.given_up == 1 else 'windows'} of history can't be archived for "
            f"now: {(files.why_given_up or '').rstrip('.')}.",
            "Fix what is named; the next night looks at it again. See: flask retention archive list.",
            policy="archive",
            cause=files.why_given_up,
            since=files.given_up_at,
            amount=files.given_up,
        )


RULES = (
    _unknown,
    _alive,
    _failing,
    _blocked_policies,
    _blocked_sweeps,
    _kept,
    _held_back,
    _accounts,
    _paused,
    _audit,
    _sessions,
    _archive,
)
