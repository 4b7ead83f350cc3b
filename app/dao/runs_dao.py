"""Runs and what was done in them: steps, letters looked for, intents. Ids, counts and times only."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

START = text("INSERT INTO retention.runs (night, started_at) VALUES (:night, :now) ON CONFLICT DO NOTHING")

SEND_TYPE = text(
    """
    INSERT INTO retention.run_types (night, notification_type, sent_at) VALUES (:night, :notification_type, :now)
    ON CONFLICT (night, notification_type) DO UPDATE SET sent_at = :now
    """
)

BEGIN_TYPE = text(
    """
    INSERT INTO retention.run_types (night, notification_type, sent_at)
    SELECT :night, notification_type, :now
    FROM unnest(CAST(:notification_types AS text[])) AS notification_type
    ON CONFLICT DO NOTHING
    """
)

FANNED_OUT = text(
    """
    UPDATE retention.run_types
    SET fanned_out_at = :now, services = :services, rows_without_service = :rows_without_service
    WHERE night = :night AND notification_type = :notification_type
    """
)

UNSENT_TYPES = text(
    """
    UPDATE retention.run_types SET sent_at = :now
    WHERE fanned_out_at IS NULL AND sent_at <= :now - make_interval(secs => :resend)
      AND night >= :earliest_night
    RETURNING night, notification_type
    """
)

# Runs that people start by hand have no types, or only those that they named.
NIGHTS = text(
    """
    SELECT (SELECT count(*) FROM retention.run_types WHERE night = :night) >= :types,
           EXISTS (SELECT FROM retention.run_types WHERE night < :night)
    """
)

RECORD_STEP = text(
    """
    INSERT INTO retention.steps
        (night, chain_id, task_id, notification_type, service_id, cutoff, stage, slice, step, started_at, seconds,
         outcome, chosen, moved, deleted, files_deleted, without_file, deferred, not_final,
         min_created_at, max_created_at, failures, services, removed_of)
    VALUES
        (:night, :chain_id, :task_id, :notification_type, :service_id, :cutoff, :stage, :slice, :step, :started_at,
         :seconds, :outcome, :chosen, :moved, :deleted, :files_deleted, :without_file, :deferred, :not_final,
         :min_created_at, :max_created_at, CAST(:failures AS jsonb), CAST(:services AS uuid[]),
         CAST(:removed_of AS integer[]))
    """
)

# A letter batch tries its record before the first file goes: what the database refuses of it costs nothing then. What
# was tried is undone, and the record is written under the same number when it is known what the step did.
BEFORE_RESERVING = text("SAVEPOINT before_reserving")
RESERVE_STEP = text(RECORD_STEP.text + " RETURNING id")
BACK_TO_BEFORE_RESERVING = text("ROLLBACK TO SAVEPOINT before_reserving")
COMPLETE_STEP = text(
    RECORD_STEP.text.replace("(night, chain_id", "(id, night, chain_id").replace(
        "VALUES\n        (:night", "OVERRIDING SYSTEM VALUE VALUES\n        (:id, :night"
    )
)

RECORD_LOOK = text(
    """
    INSERT INTO retention.letter_looks (night, bucket, looked, missing) VALUES (:night, :bucket, :looked, :missing)
    """
)
LOOKS = text(
    """
    SELECT bucket, sum(looked), sum(missing) FROM retention.letter_looks WHERE night = :night GROUP BY bucket
    """
)

ACCEPTED = text("SELECT bucket FROM retention.accepted_missing WHERE night = :night")
ACCEPT = text(
    """
    INSERT INTO retention.accepted_missing (night, bucket, accepted_at, accepted_by)
    VALUES (:night, :bucket, :now, :accepted_by)
    ON CONFLICT DO NOTHING
    """
)

WRITE_INTENT = text(
    """
    INSERT INTO retention.intents (chain_id, step, service_id, kind, looked_in, notification_ids, written_at)
    VALUES (:chain_id, :step, :service_id, :kind, :looked_in, CAST(:ids AS uuid[]), :now)
    RETURNING id
    """
)
COVERED = text(
    """
    SELECT covered.id FROM retention.intents AS i, unnest(i.notification_ids) AS covered (id)
    WHERE i.service_id = :service_id AND i.kind = :kind AND i.looked_in = :looked_in
      AND covered.id IN (SELECT unnest(CAST(:ids AS uuid[])))
    """
)
FINISH_INTENT = text("DELETE FROM retention.intents WHERE id = :id")
FINISH_CHAIN = text("DELETE FROM retention.intents WHERE chain_id = :chain_id")

NOT_ON_HOLD = "NOT EXISTS (SELECT FROM retention.holds WHERE scope = record.service_id::text)"
# In this order: a run goes after what refers to it. Chains that have not ended stay, and their run with them.
PURGE = (
    text(
        f"""
        DELETE FROM retention.steps WHERE id IN
            (SELECT id FROM retention.steps AS record
             WHERE started_at < :before AND counted AND {NOT_ON_HOLD}
               AND NOT EXISTS (SELECT FROM retention.holds WHERE scope = ANY (record.services::text[]))
             ORDER BY started_at LIMIT :limit)
        """  # noqa: S608 - constants of this module
    ),
    text(
        """
        DELETE FROM retention.letter_looks WHERE id IN
            (SELECT id FROM retention.letter_looks WHERE night < :before ORDER BY night LIMIT :limit)
        """
    ),
    text(
        f"""
        DELETE FROM retention.intents WHERE id IN
            (SELECT id FROM retention.intents AS record WHERE written_at < :before AND {NOT_ON_HOLD} LIMIT :limit)
        """  # noqa: S608 - constants of this module
    ),
    text(
        f"""
        DELETE FROM retention.ops_actions WHERE id IN
            (SELECT id FROM retention.ops_actions AS record
             WHERE acted_at < :before AND {NOT_ON_HOLD} ORDER BY acted_at LIMIT :limit)
        """  # noqa: S608 - constants of this module
    ),
    text(
        """
        DELETE FROM retention.folder_counts WHERE (night, bucket, folder) IN
            (SELECT night, bucket, folder FROM retention.folder_counts WHERE night < :before LIMIT :limit)
        """
    ),
    text(
        f"""
        DELETE FROM retention.chains WHERE id IN
            (SELECT id FROM retention.chains AS record
             WHERE night < :before AND state = 'ended' AND {NOT_ON_HOLD} ORDER BY night LIMIT :limit)
        """  # noqa: S608 - constants of this module
    ),
    text(
        """
        DELETE FROM retention.accepted_missing WHERE (night, bucket) IN
            (SELECT night, bucket FROM retention.accepted_missing WHERE night < :before ORDER BY night LIMIT :limit)
        """
    ),
    text(
        """
        DELETE FROM retention.run_types WHERE (night, notification_type) IN
            (SELECT night, notification_type FROM retention.run_types WHERE night < :before ORDER BY night LIMIT :limit)
        """
    ),
    text(
        """
        DELETE FROM retention.runs WHERE night IN
            (SELECT r.night FROM retention.runs AS r
             WHERE r.night < :before
               AND NOT EXISTS (SELECT FROM retention.chains AS c WHERE c.night = r.night)
               AND NOT EXISTS (SELECT FROM retention.run_types AS t WHERE t.night = r.night)
             ORDER BY r.night LIMIT :limit)
        """
    ),
    text(
        f"""
        DELETE FROM retention.batch_failures WHERE id IN
            (SELECT id FROM retention.batch_failures AS record
             WHERE failed_at < :before AND {NOT_ON_HOLD} ORDER BY failed_at LIMIT :limit)
        """  # noqa: S608 - constants of this module
    ),
    text(
        """
        DELETE FROM retention.audits WHERE id IN
            (SELECT id FROM retention.audits WHERE started_at < :before ORDER BY started_at LIMIT :limit)
        """
    ),
)


@dataclass(frozen=True)
class StepRecord:
    """What one step did, for the record. Times are aware; `seconds` is how long it took."""

    night: date
    chain_id: int | None
    task_id: str | None
    notification_type: str
    service_id: UUID | None
    cutoff: datetime
    stage: str
    slice: int
    step: int
    started_at: datetime
    seconds: float
    outcome: str
    chosen: int
    moved: int
    deleted: int
    files_deleted: int
    without_file: int
    deferred: int
    not_final: int | None
    min_created_at: datetime | None
    max_created_at: datetime | None
    failures: Mapping[str, int]
    """What went wrong with single letters and buckets, by code."""
    services: list[UUID] | None = None
    """Of a step over many services: those of which rows went, and in `removed_of` how many of each."""
    removed_of: list[int] | None = None


@dataclass(frozen=True)
class Look:
    """Letters looked for in a bucket, and those of them that had no file."""

    looked: int
    missing: int


def start_run(connection: Connection, night: date, now: datetime) -> None:
    """Make sure that the night has its run."""
    connection.execute(START, {"night": night, "now": now})


def mark_type_sent(connection: Connection, night: date, notification_type: str, now: datetime) -> None:
    """Note that the type's task has been sent, before it is: a lost message is sent again by the dispatcher."""
    connection.execute(SEND_TYPE, {"night": night, "notification_type": notification_type, "now": now})


def begin_types(connection: Connection, night: date, notification_types: Sequence[str], now: datetime) -> int:
    """Note as sent those of these types that the night has not begun with. Returns how many; 0: it has begun."""
    values = {"night": night, "notification_types": list(notification_types), "now": now}
    return connection.execute(BEGIN_TYPE, values).rowcount


def mark_fanned_out(
    connection: Connection,
    night: date,
    notification_type: str,
    *,
    now: datetime,
    services: int,
    rows_without_service: int,
) -> None:
    """Note that the type's services have their chains."""
    values = {
        "night": night,
        "notification_type": notification_type,
        "now": now,
        "services": services,
        "rows_without_service": rows_without_service,
    }
    connection.execute(FANNED_OUT, values)


def take_unsent_types(
    connection: Connection, *, now: datetime, resend_seconds: float, earliest_night: date
) -> list[tuple[date, str]]:
    """Nights and types whose task was sent a while ago and never did its work. Marks them as sent."""
    values = {"now": now, "resend": resend_seconds, "earliest_night": earliest_night}
    return [(row[0], row[1]) for row in connection.execute(UNSENT_TYPES, values)]


def nights_begun(connection: Connection, night: date, notification_types: Sequence[str]) -> tuple[bool, bool]:
    """Whether the night was begun for all of its types, and whether any night before it was for one."""
    begun, before = connection.execute(NIGHTS, {"night": night, "types": len(notification_types)}).one()
    return begun, before


def reserve_step(connection: Connection, record: StepRecord) -> int:
    """See that the database takes a step's record, before the step does what can't be undone. Returns the record's id,
    for `complete_step`.
    """
    connection.execute(BEFORE_RESERVING)
    step_id = int(connection.execute(RESERVE_STEP, _values(record)).scalar_one())
    connection.execute(BACK_TO_BEFORE_RESERVING)
    return step_id


def complete_step(connection: Connection, step_id: int, record: StepRecord) -> None:
    """Write down what a step did, under the number that was reserved in the same transaction."""
    connection.execute(COMPLETE_STEP, {**_values(record), "id": step_id})


def record_step(connection: Connection, record: StepRecord) -> None:
    """Write down what a step did, in its own transaction."""
    connection.execute(RECORD_STEP, _values(record))


def record_looks(connection: Connection, night: date, looks: Mapping[str, Look]) -> None:
    """Write down how many letters were looked for in each bucket, and how many had no file."""
    for bucket, look in looks.items():
        connection.execute(
            RECORD_LOOK, {"night": night, "bucket": bucket, "looked": look.looked, "missing": look.missing}
        )


def _values(record: StepRecord) -> dict[str, object]:
    return {**vars(record), "failures": json.dumps(record.failures) if record.failures else None}


def looks_of_night(connection: Connection, night: date) -> dict[str, Look]:
    """Per bucket, the letters that the night's steps so far removed."""
    return {row[0]: Look(row[1], row[2]) for row in connection.execute(LOOKS, {"night": night})}


def accepted_buckets(connection: Connection, night: date) -> set[str]:
    """Buckets in which an operator has accepted letters without a file, for this night."""
    return set(connection.execute(ACCEPTED, {"night": night}).scalars())


def accept_missing(connection: Connection, night: date, bucket: str, accepted_by: str, now: datetime) -> None:
    """Accept letters without a file in this bucket, for this night."""
    connection.execute(ACCEPT, {"night": night, "bucket": bucket, "now": now, "accepted_by": accepted_by})


def write_intent(
    connection: Connection,
    *,
    chain_id: int | None,
    step: int | None,
    service_id: UUID,
    kind: str,
    looked_in: str,
    ids: Sequence[UUID],
    now: datetime,
) -> int:
    """Write ahead that the files of exactly these letters are about to be deleted. Returns the intent's id."""
    values = {
        "chain_id": chain_id,
        "step": step,
        "service_id": service_id,
        "kind": kind,
        "looked_in": looked_in,
        "ids": list(ids),
        "now": now,
    }
    return int(connection.execute(WRITE_INTENT, values).scalar_one())


def covered_by_intents(
    connection: Connection, service_id: UUID, kind: str, looked_in: str, ids: Sequence[UUID]
) -> set[UUID]:
    """Those of these letters that an unfinished intent names whose files were found in the same places."""
    values = {"service_id": service_id, "kind": kind, "looked_in": looked_in, "ids": list(ids)}
    return set(connection.execute(COVERED, values).scalars())


def finish_intent(connection: Connection, intent_id: int) -> None:
    """Take an intent away, in the transaction that moves its letters."""
    connection.execute(FINISH_INTENT, {"id": intent_id})


def finish_intents_of_chain(connection: Connection, chain_id: int) -> None:
    """Take away what a chain's killed workers left: it has nothing left that they could cover."""
    connection.execute(FINISH_CHAIN, {"chain_id": chain_id})


def purge_records(connection: Connection, kind: int, before: datetime, limit: int) -> int:
    """Delete at most `limit` records of a kind (an index of PURGE) of before that time (aware). Returns how many."""
    return connection.execute(PURGE[kind], {"before": before, "limit": limit}).rowcount
