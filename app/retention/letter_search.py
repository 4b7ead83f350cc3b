"""The first half of a letter batch: which letters, where their files are, and the intent to delete them.

No row is locked while S3 is asked, and no transaction is open. What is found holds for one version of each row:
`letters.remove` locks the rows afterwards and leaves those that have changed since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection

from app.dao import deferred_dao, notifications_dao, runs_dao
from app.dao.notifications_dao import Candidate, LetterRow, Scope
from app.dao.runs_dao import Look
from app.db import db
from app.observability import tracing
from app.retention import missing_files
from app.retention.alone import Alone
from app.retention.folder_index import NightsIndex
from app.retention.report import MissingFiles
from app.retention.tools import Tools
from app.storage.client import Deadline
from app.storage.lookup import Counts, Search
from app.storage.naming import Letter


@dataclass(frozen=True)
class Attempt:
    """Whose step this is: the night counts missing files, the chain and step sign the intent.

    `cutoff` is the whole service's, where a slice ends earlier: until then deferred letters are tried again. `alone` is
    what the chain remembers of its last step.
    """

    night: date
    chain_id: int | None
    step: int | None
    cutoff: datetime
    now: datetime
    alone: Alone


@dataclass(frozen=True)
class Found:
    """Letters as they were when they were chosen, oldest first, and what S3 has of them. Times are aware."""

    chose_at: datetime
    candidates: Sequence[Candidate] = ()
    attempts: Mapping[UUID, int] = field(default_factory=dict)
    """Of the letters that were held back before, how often."""
    search: Search = field(default_factory=Search)
    covered: frozenset[UUID] = frozenset()
    """Letters without a file that count as neither looked for nor missing: an unfinished intent names them, their rows
    have changed or gone meanwhile, or they were never sent and need not have one.
    """
    missing: MissingFiles | None = None
    intent: int | None = None
    """The intent that names the letters with files; None if there are none, or nothing may be deleted."""
    index: NightsIndex | None = None

    @property
    def may_go_on(self) -> bool:
        """Whether files may be deleted."""
        return self.missing is None and self.search.stopped is None


def choose(connection: Connection, tools: Tools, scope: Scope, limit: int, now: datetime) -> Found:
    """At most `limit` letters whose files can be asked for now, oldest first; nothing has been looked for yet."""
    candidates = notifications_dao.choose_letters(connection, within_reach(connection, tools, scope), limit)
    attempts = deferred_dao.attempts(connection, [one.letter.id for one in candidates])
    return Found(now, candidates, attempts)


def find(tools: Tools, scope: Scope, chosen: Found, attempt: Attempt, deadline: Deadline) -> Found:
    """Look for the files of these letters, check the share of missing ones, and write the intent ahead."""
    candidates = chosen.candidates
    if not candidates:
        return chosen
    index = _index(tools, candidates, attempt, deadline)
    with tracing.part("find files"):
        search = tools.files.find([letter_of(candidate.letter) for candidate in candidates], deadline, index)
    found = replace(chosen, search=search, index=index)
    with db.transaction() as connection:
        found = replace(found, covered=_covered(connection, tools, scope, found))
        found = replace(found, missing=_too_many_missing(connection, tools, found, attempt))
        if found.may_go_on:
            found = replace(found, intent=_write_intent(connection, tools, scope, search, attempt))
    return found


def within_reach(connection: Connection, tools: Tools, scope: Scope) -> Scope:
    """The scope without the letters of buckets that are passed over for now."""
    broken = deferred_dao.broken_buckets(connection, scope.service_id, scope.kind, scope.asked_at)
    passed_over, only = tools.statuses_to_look_at(scope.kind, broken)
    return replace(scope, statuses_passed_over=passed_over, statuses_only=only)


def letter_of(row: LetterRow) -> Letter:
    """The letter as `app.storage` wants it."""
    return Letter(
        row.id, row.reference, row.created_at, row.status, row.key_type, row.postage, row.updated_at, row.sent_at
    )


def looks(counts: Counts) -> dict[str, Look]:
    """The letters looked for, and those without a file, by bucket."""
    return {bucket: Look(looked, counts.missing.get(bucket, 0)) for bucket, looked in counts.looked.items()}


def _index(tools: Tools, candidates: Sequence[Candidate], attempt: Attempt, deadline: Deadline) -> NightsIndex | None:
    """The night's index of folders. A person's one step has no night to share it with."""
    if attempt.chain_id is None or not tools.has_folder_index:
        return None
    written_by = {candidate.letter.id: candidate.written_by for candidate in candidates}
    return NightsIndex(tools, attempt.night, written_by, deadline)


def _covered(connection: Connection, tools: Tools, scope: Scope, found: Found) -> frozenset[UUID]:
    """Letters without a file that are not missing. Intents first: whoever finishes one removes its rows with it."""
    without_file = [one for one in found.candidates if found.search.files.get(one.letter.id) == ()]
    if not without_file:
        return frozenset()
    ids = [one.letter.id for one in without_file]
    named = runs_dao.covered_by_intents(connection, scope.service_id, scope.kind, tools.looked_in, ids)
    there = notifications_dao.unchanged(connection, without_file)
    unsent = {one.letter.id for one in without_file if tools.naming.by_date_sent and one.letter.sent_at is None}
    return frozenset(id_ for id_ in ids if id_ in named or id_ in unsent or id_ not in there)


def _too_many_missing(connection: Connection, tools: Tools, found: Found, attempt: Attempt) -> MissingFiles | None:
    counts = found.search.counts(exclude=found.covered)
    if not any(counts.missing.values()):
        return None
    return missing_files.too_many(
        runs_dao.looks_of_night(connection, attempt.night),
        looks(counts),
        runs_dao.accepted_buckets(connection, attempt.night),
        tools.settings,
    )


def _write_intent(connection: Connection, tools: Tools, scope: Scope, search: Search, attempt: Attempt) -> int | None:
    """Exactly the letters with files: one that covered more would switch the guard off after a kill (ADR 0008)."""
    ids = [id_ for id_, files in search.files.items() if files]
    if not ids:
        return None
    return runs_dao.write_intent(
        connection,
        chain_id=attempt.chain_id,
        step=attempt.step,
        service_id=scope.service_id,
        kind=scope.kind,
        looked_in=tools.looked_in,
        ids=ids,
        now=attempt.now,
    )
