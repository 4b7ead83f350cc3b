"""Audits: what lies in the letter buckets, compared with the tables. Counts, ids and times; no reference stays.

`Audit.position` is the exception while an audit is under way: the last key that was dealt with, which holds a letter's
reference. It goes when the audit ends, or when another begins.
"""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import RETENTION_SCHEMA, Base, Instant, one_of

AUDIT_PHASES = ("files", "rows")
FINDINGS = (
    "file-of-history",
    "file-of-nobody",
    "file-misplaced",
    "file-within-retention",
    "file-unrecognised",
    "row-without-file",
    "row-in-mixed-case",
)


class Audit(Base):
    """An audit: its scope, how far it has come (`place` is a bucket or a status), and what it has counted.

    `files_without_row` are still there; `files_of_history` of them have their row in history. `refused` names buckets
    that could not be read. `abandoned` says that it never ended, and can't go on: another was
    begun, or it failed `failures` times in a row in the same way, `failure`.
    """

    __tablename__ = "audits"
    __table_args__ = (
        one_of("phase", AUDIT_PHASES),
        Index("ix_audits_finished_at", "finished_at"),
        Index("ix_audits_started_at", "started_at"),
        {"schema": RETENTION_SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(Instant)
    advanced_at: Mapped[datetime] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    abandoned: Mapped[bool] = mapped_column(default=False, server_default=false())
    started_by: Mapped[str]
    deletes: Mapped[bool]
    only_bucket: Mapped[str | None]
    since: Mapped[date | None]
    until: Mapped[date | None]
    step: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    phase: Mapped[str] = mapped_column(default="files", server_default="files")
    place: Mapped[str | None]
    position: Mapped[str | None]
    refused: Mapped[str | None]
    files_seen: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    files_without_row: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    files_of_history: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    files_within_retention: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    files_young: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    files_misplaced: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    unrecognised_files: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    deleted_files: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    rows_seen: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    rows_without_file: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    rows_in_mixed_case: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    failure: Mapped[str | None]


class AuditFinding(Base):
    """An example of what an audit found. A file is known by the digest of its key, never by the key."""

    __tablename__ = "audit_findings"
    __table_args__ = (
        one_of("kind", FINDINGS),
        Index("ix_audit_findings_audit_id", "audit_id", "kind"),
        {"schema": RETENTION_SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    audit_id: Mapped[int] = mapped_column(
        ForeignKey(f"{RETENTION_SCHEMA}.audits.id", ondelete="CASCADE"),
    )
    kind: Mapped[str]
    bucket: Mapped[str | None]
    folder: Mapped[str | None]
    key_sha256: Mapped[str | None]
    last_modified: Mapped[datetime | None] = mapped_column(Instant)
    notification_id: Mapped[UUID | None]
    found_at: Mapped[datetime] = mapped_column(Instant)


class AuditDeletion(Base):
    """A bulk that an audit deleted, written ahead. Without `files`: its process was killed, and up to `asked` went."""

    __tablename__ = "audit_deletions"
    __table_args__ = (
        Index("ix_audit_deletions_audit_id", "audit_id"),
        {"schema": RETENTION_SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    audit_id: Mapped[int] = mapped_column(
        ForeignKey(f"{RETENTION_SCHEMA}.audits.id", ondelete="CASCADE"),
    )
    bucket: Mapped[str]
    deleted_by: Mapped[str]
    deleted_at: Mapped[datetime] = mapped_column(Instant)
    asked: Mapped[int]
    files: Mapped[int | None]
    refused: Mapped[int | None]
    code: Mapped[str | None]


class AuditedLetter(Base):
    """A letter of which the audit under way has seen a file. Unlogged, and emptied when the audit ends."""

    __tablename__ = "audited_letters"
    __table_args__ = {"schema": RETENTION_SCHEMA, "prefixes": ["UNLOGGED"]}

    notification_id: Mapped[UUID] = mapped_column(primary_key=True)
