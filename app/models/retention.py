"""The pipeline's own tables, in the schema `retention`. No personal data, no foreign key to
the platform's tables and none of its types: those differ between platforms.

Timestamps here are `timestamp with time zone`.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    UniqueConstraint,
    Uuid,
    false,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import RETENTION_SCHEMA, Base, Instant, Leased, one_of

STAGES = ("real", "test", "deferred")
CHAIN_STATES = ("waiting", "resting", "ended")
HEARTBEAT_KINDS = ("relay", "worker", "periodic")


class Run(Base):
    """Everything that one night starts, by hand or by beat. The night is the local date on which it starts."""

    __tablename__ = "runs"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    night: Mapped[date] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = mapped_column(Instant)


class RunType(Base):
    """A type within a run: whether its services have been given their chains."""

    __tablename__ = "run_types"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    night: Mapped[date] = mapped_column(ForeignKey(f"{RETENTION_SCHEMA}.runs.night"), primary_key=True)
    notification_type: Mapped[str] = mapped_column(primary_key=True)
    sent_at: Mapped[datetime] = mapped_column(Instant)
    fanned_out_at: Mapped[datetime | None] = mapped_column(Instant)
    services: Mapped[int | None]
    rows_without_service: Mapped[int | None]


class Chain(Leased, Base):
    """A task and its successors, for one type, stage and slice. This row is the truth; messages wake it.

    It is for one service, or, without `service_id`, for all services that keep the type for `days`: those with an id
    above `first_service` up to `last_service`, of which it has done those up to `after_service`.

    `step` counts the steps done, `setbacks` those in a row that got nowhere. `lower_bound` is the largest created_at of
    the last step: below it, index entries are dead. `missing_in` is the bucket in which too many letters have no file,
    while the chain rests for that. `alone_letter` stood alone in the last step, and S3 failed at it, `alone_failures`
    times in a row.

    `error_class`, `sqlstate`, `refused_by` (a constraint or a trigger function), `refused_table` and `s3_code` say what
    the last batch failed of; all are NULL when it did not.
    """

    __tablename__ = "chains"
    __table_args__ = (
        UniqueConstraint(
            "night", "notification_type", "service_id", "cutoff", "stage", "slice", name="chains_identity_key"
        ),
        one_of("stage", STAGES),
        one_of("state", CHAIN_STATES),
        Index("ix_chains_due_at", "due_at", postgresql_where=text("state = 'waiting'")),
        Index("ix_chains_reason", "reason", postgresql_where=text("state = 'resting'")),
        Index("ix_chains_service_id", "service_id"),
        Index(
            "ix_chains_of_many",
            *("night", "notification_type", "days", "cutoff", "stage", "slice"),
            unique=True,
            postgresql_where=text("service_id IS NULL"),
        ),
        CheckConstraint("(service_id IS NULL) = (days IS NOT NULL)", name="days"),
        {"schema": RETENTION_SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    night: Mapped[date] = mapped_column(ForeignKey(f"{RETENTION_SCHEMA}.runs.night"))
    notification_type: Mapped[str]
    service_id: Mapped[UUID | None]
    days: Mapped[int | None]
    cutoff: Mapped[datetime] = mapped_column(Instant)
    stage: Mapped[str]
    slice: Mapped[int] = mapped_column(default=0, server_default="0")
    slice_from: Mapped[datetime | None] = mapped_column(Instant)
    slice_before: Mapped[datetime | None] = mapped_column(Instant)
    first_service: Mapped[UUID | None]
    last_service: Mapped[UUID | None]
    after_service: Mapped[UUID | None]
    step: Mapped[int] = mapped_column(default=0, server_default="0")
    lower_bound: Mapped[datetime | None] = mapped_column(Instant)
    rows_per_step: Mapped[int | None]
    state: Mapped[str] = mapped_column(default="waiting", server_default="waiting")
    reason: Mapped[str | None]
    missing_in: Mapped[str | None]
    setbacks: Mapped[int] = mapped_column(default=0, server_default="0")
    alone_letter: Mapped[UUID | None]
    alone_failures: Mapped[int] = mapped_column(default=0, server_default="0")
    last_error: Mapped[str | None]
    error_class: Mapped[str | None]
    sqlstate: Mapped[str | None]
    refused_by: Mapped[str | None]
    refused_table: Mapped[str | None]
    s3_code: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)


class Step(Base):
    """What one step did. `moved` rows went to history; `deleted` test rows went for good.

    A step over many services has no `service_id`, but `services`, and beside each in `removed_of` how many of its rows
    went.

    `failures` counts by S3's code, or ours, the letters that it held back and the buckets that refused everything.
    `counted`: it is part of `retention.totals`; only then may it be purged.
    """

    __tablename__ = "steps"
    __table_args__ = (
        Index("ix_steps_night", "night", "notification_type"),
        Index("ix_steps_service_id_night", "service_id", "night"),
        Index("ix_steps_started_at", "started_at"),
        Index("ix_steps_uncounted", "id", postgresql_where=text("NOT counted")),
        Index("ix_steps_services", "services", postgresql_using="gin"),
        {"schema": RETENTION_SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    night: Mapped[date]
    chain_id: Mapped[int | None] = mapped_column(BigInteger)
    task_id: Mapped[str | None]
    notification_type: Mapped[str]
    service_id: Mapped[UUID | None]
    services: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    removed_of: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
    cutoff: Mapped[datetime] = mapped_column(Instant)
    stage: Mapped[str]
    slice: Mapped[int]
    step: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(Instant)
    seconds: Mapped[float]
    outcome: Mapped[str]
    chosen: Mapped[int]
    moved: Mapped[int]
    deleted: Mapped[int]
    files_deleted: Mapped[int]
    without_file: Mapped[int]
    deferred: Mapped[int]
    not_final: Mapped[int | None]
    min_created_at: Mapped[datetime | None] = mapped_column(Instant)
    max_created_at: Mapped[datetime | None] = mapped_column(Instant)
    failures: Mapped[Any | None] = mapped_column(JSONB)
    counted: Mapped[bool] = mapped_column(default=False, server_default=false())


class BatchFailure(Base):
    """A batch that failed, and of what: names of the schema and codes only. `attempt` counts those in a row."""

    __tablename__ = "batch_failures"
    __table_args__ = (Index("ix_batch_failures_failed_at", "failed_at"), {"schema": RETENTION_SCHEMA})

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    failed_at: Mapped[datetime] = mapped_column(Instant)
    night: Mapped[date]
    policy: Mapped[str]
    chain_id: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int]
    attempt: Mapped[int]
    service_id: Mapped[UUID | None]
    error_class: Mapped[str]
    sqlstate: Mapped[str | None]
    refused_by: Mapped[str | None]
    refused_table: Mapped[str | None]
    s3_code: Mapped[str | None]


class SessionBatch(Base):
    """Dead sessions that one step removed; the row goes when it has become part of `retention.totals`."""

    __tablename__ = "session_batches"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    removed_at: Mapped[datetime] = mapped_column(Instant)
    sessions: Mapped[int]


class Total(Base):
    """A count that only ever grows, whatever is purged: `label` is a type or a code, or empty.

    `bound` is the upper bound of a histogram's bucket, infinity for its last, zero for what is no bucket.
    """

    __tablename__ = "totals"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    counter: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    bound: Mapped[float] = mapped_column(primary_key=True)
    amount: Mapped[float]


class Heartbeat(Base):
    """When a part of the pipeline was last seen at work: a `relay`, a `worker`, or a `periodic` task."""

    __tablename__ = "heartbeats"
    __table_args__ = (one_of("kind", HEARTBEAT_KINDS), {"schema": RETENTION_SCHEMA})

    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime] = mapped_column(Instant)


class BlockedPolicy(Base):
    """A policy of which nothing is done, since something is not as it needs it: what, and what to do.

    `seen_at` is when whoever does the work last found it so.
    """

    __tablename__ = "blocked_policies"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    policy: Mapped[str] = mapped_column(primary_key=True)
    sentence: Mapped[str]
    fix: Mapped[str]
    since: Mapped[datetime] = mapped_column(Instant)
    seen_at: Mapped[datetime] = mapped_column(Instant)


class LetterLook(Base):
    """How many of the letters that a step removed were looked for in a bucket, and how many had no file."""

    __tablename__ = "letter_looks"
    __table_args__ = (Index("ix_letter_looks_night", "night", "bucket"), {"schema": RETENTION_SCHEMA})

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    night: Mapped[date]
    bucket: Mapped[str]
    looked: Mapped[int]
    missing: Mapped[int]


class IndexedFolder(Leased, Base):
    """A letters' day folder, listed whole for all services, or as far as `listed_to`. Emptied after the night.

    Unlogged, like IndexedFile: a crash empties both, so that no folder counts as indexed whose files are not there.
    `worth_pages` is the most pages that it may take, 0 where each step lists for itself. `begun_at` is when its first
    page was listed. Every transaction with a number below `begun_xmin` (64 bits) had ended by then.
    """

    __tablename__ = "indexed_folders"
    __table_args__ = (
        UniqueConstraint("store", "bucket", "folder", name="indexed_folders_identity_key"),
        {"schema": RETENTION_SCHEMA, "prefixes": ["UNLOGGED"]},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    store: Mapped[str]
    bucket: Mapped[str]
    folder: Mapped[str]
    worth_pages: Mapped[int]
    begun_at: Mapped[datetime] = mapped_column(Instant)
    begun_xmin: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    pages: Mapped[int] = mapped_column(default=0, server_default="0")
    listed_to: Mapped[str | None]
    files: Mapped[int] = mapped_column(default=0, server_default="0")
    orphans: Mapped[int] = mapped_column(default=0, server_default="0")
    complete: Mapped[bool] = mapped_column(default=False, server_default=false())


class IndexedFile(Base):
    """A file of an indexed folder: its key is folder, `NOTIFY.`, reference, a dot, and the rest."""

    __tablename__ = "indexed_files"
    __table_args__ = {"schema": RETENTION_SCHEMA, "prefixes": ["UNLOGGED"]}

    folder_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    reference: Mapped[str] = mapped_column(primary_key=True)
    rest: Mapped[str] = mapped_column(primary_key=True)


class FolderCount(Base):
    """How many letter files a day's folder had when it was indexed; `orphans` of them have no row."""

    __tablename__ = "folder_counts"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    night: Mapped[date] = mapped_column(primary_key=True)
    bucket: Mapped[str] = mapped_column(primary_key=True)
    folder: Mapped[str] = mapped_column(primary_key=True)
    listed_at: Mapped[datetime] = mapped_column(Instant)
    files: Mapped[int]
    orphans: Mapped[int]


class AcceptedMissing(Base):
    """An operator's word that, in this run and bucket, many letters without a file are right."""

    __tablename__ = "accepted_missing"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    night: Mapped[date] = mapped_column(primary_key=True)
    bucket: Mapped[str] = mapped_column(primary_key=True)
    accepted_at: Mapped[datetime] = mapped_column(Instant)
    accepted_by: Mapped[str]


class Intent(Base):
    """Written ahead, in a commit of its own: the files of exactly these letters are about to be deleted.

    `looked_in` names the buckets and the folders' time zone that they were found under: under others it says nothing.

    While it stands, a letter that it names and that has no file is one whose worker was killed, not one that was
    looked for in the wrong place. The step's own commit takes it away.
    """

    __tablename__ = "intents"
    __table_args__ = (Index("ix_intents_service_id", "service_id", "kind"), {"schema": RETENTION_SCHEMA})

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    chain_id: Mapped[int | None] = mapped_column(BigInteger)
    step: Mapped[int | None]
    service_id: Mapped[UUID]
    kind: Mapped[str]
    looked_in: Mapped[str]
    notification_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    written_at: Mapped[datetime] = mapped_column(Instant)


class DeferredRow(Base):
    """A notification held back until its next attempt: a letter whose file could not be deleted, or a row of any type
    whose removal the database refused.

    `refused_by` names the constraint, the trigger function or the table that refused, `sqlstate` how; no values.
    """

    __tablename__ = "deferred_rows"
    __table_args__ = (
        Index("ix_deferred_rows_service_id", "service_id", "next_attempt_at"),
        Index("ix_deferred_rows_next_attempt_at", "next_attempt_at"),
        {"schema": RETENTION_SCHEMA},
    )

    notification_id: Mapped[UUID] = mapped_column(primary_key=True)
    service_id: Mapped[UUID]
    notification_type: Mapped[str]
    kind: Mapped[str]
    cutoff: Mapped[datetime] = mapped_column(Instant)
    reason: Mapped[str]
    sqlstate: Mapped[str | None]
    refused_by: Mapped[str | None]
    attempts: Mapped[int]
    first_failed_at: Mapped[datetime] = mapped_column(Instant)
    last_failed_at: Mapped[datetime] = mapped_column(Instant)
    next_attempt_at: Mapped[datetime] = mapped_column(Instant)
    needs_person: Mapped[bool]


class DeferredBucket(Base):
    """A bucket that is missing or refuses everything: one record for all of a service's letters in it."""

    __tablename__ = "deferred_buckets"
    __table_args__ = (
        Index("ix_deferred_buckets_next_attempt_at", "next_attempt_at"),
        {"schema": RETENTION_SCHEMA},
    )

    service_id: Mapped[UUID] = mapped_column(primary_key=True)
    bucket: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    cutoff: Mapped[datetime] = mapped_column(Instant)
    reason: Mapped[str]
    attempts: Mapped[int]
    first_failed_at: Mapped[datetime] = mapped_column(Instant)
    last_failed_at: Mapped[datetime] = mapped_column(Instant)
    next_attempt_at: Mapped[datetime] = mapped_column(Instant)


class Hold(Base):
    """Nothing of this service, or of the user of `user:<id>`, is deleted or rewritten while the row stands; the scope
    `pipeline` pauses everything.
    """

    __tablename__ = "holds"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    scope: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    placed_by: Mapped[str]
    placed_at: Mapped[datetime] = mapped_column(Instant)


class Turn(Base):
    """A row to be locked by work of a kind that has no row of its own. The rows are made by the migrations.

    `lockable` says nothing: to lock a row takes the right to update one of its columns.
    """

    __tablename__ = "turns"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    name: Mapped[str] = mapped_column(primary_key=True)
    lockable: Mapped[bool] = mapped_column(default=True, server_default=true())


class UserSweep(Leased, Base):
    """What one night's sweep over users may do, and what it did. No personal data.

    `users` are those whom the sweep's share is of; `found` those on whom it would act. It may act on `allowed` (NULL:
    on any number), and has acted on `acted`; `refused` warnings were refused by the address. While `blocked_by` is set
    it acts on nobody. `mail_failure` is SES's code since `mail_failed_at`, while no email can be sent.

    It has come to the user with the time `seen_to` and the id `seen_to_id` in its order, after so many `pauses` in a
    row.
    """

    __tablename__ = "user_sweeps"
    __table_args__ = {"schema": RETENTION_SCHEMA}

    sweep: Mapped[str] = mapped_column(primary_key=True)
    night: Mapped[date] = mapped_column(primary_key=True)
    began_at: Mapped[datetime] = mapped_column(Instant)
    users: Mapped[int]
    found: Mapped[int]
    allowed: Mapped[int | None]
    acted: Mapped[int] = mapped_column(server_default="0", default=0)
    refused: Mapped[int] = mapped_column(server_default="0", default=0)
    blocked_by: Mapped[str | None]
    blocked_at: Mapped[datetime | None] = mapped_column(Instant)
    accepted_by: Mapped[str | None]
    accepted_at: Mapped[datetime | None] = mapped_column(Instant)
    mail_failure: Mapped[str | None]
    mail_failed_at: Mapped[datetime | None] = mapped_column(Instant)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    seen_to: Mapped[datetime | None] = mapped_column(Instant)
    seen_to_id: Mapped[UUID | None]
    pauses: Mapped[int] = mapped_column(default=0, server_default="0")
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
