"""The manifest of archived history. No personal data: ids of rows, where they were, and what their files hold.

Timestamps here are `timestamp with time zone`.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Text, UniqueConstraint, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import RETENTION_SCHEMA, Base, Instant, one_of

ARCHIVE_STATES = ("writing", "written", "verified", "deleting", "done", "void", "expired")
UNFINISHED_STATES = "state IN ('writing', 'written', 'verified', 'deleting')"


class Archive(Base):
    """A file of archived rows of one window. This row is the truth about the file.

    `part` counts the files of a window. `version_id` and `etag` are S3's, `bytes` and `sha256` the file's. `schema` is
    a fingerprint of the columns' names and types. `key_to_delete` is the key of what a redaction replaces, or of what
    is to replace it, until that is gone. `services` are all those with rows in the file. `rows` is how many it holds,
    `removed` how many of them left the table because of it: the others had changed, were on hold, referred to or
    refused, and are in a later file if they left. A `void` file left with nothing removed, or was given up; its window
    is looked at again at `retry_at`. An `expired` file was deleted at its second age.
    """

    __tablename__ = "archives"
    __table_args__ = (
        UniqueConstraint("table_name", "window_from", "part", name="archives_part_key"),
        one_of("state", ARCHIVE_STATES),
        Index(
            "ix_archives_unfinished",
            *("table_name", "window_from"),
            unique=True,
            postgresql_where=text(UNFINISHED_STATES),
        ),
        {"schema": RETENTION_SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    table_name: Mapped[str]
    window_from: Mapped[datetime] = mapped_column(Instant)
    window_before: Mapped[datetime] = mapped_column(Instant)
    part: Mapped[int]
    state: Mapped[str] = mapped_column(default="writing", server_default="writing")
    bucket: Mapped[str]
    key: Mapped[str]
    key_to_delete: Mapped[str | None]
    version_id: Mapped[str | None]
    etag: Mapped[str | None]
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    schema: Mapped[str | None]
    rows: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    removed: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    services: Mapped[list[UUID] | None] = mapped_column(ARRAY(Uuid))
    first_created_at: Mapped[datetime | None] = mapped_column(Instant)
    last_created_at: Mapped[datetime | None] = mapped_column(Instant)
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    problem: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(Instant)
    verified_at: Mapped[datetime | None] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    retry_at: Mapped[datetime | None] = mapped_column(Instant)
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None] = mapped_column(Instant)


class ArchivePage(Base):
    """Rows that were read in one transaction for a file, in the order of created_at and id, until they are deleted.

    `checksums` are PostgreSQL's, one a column. A row is this version of itself by all of `tables` (its table's oid),
    `addresses` (ctid) and `versions` (xmin).
    """

    __tablename__ = "archive_pages"
    __table_args__ = ({"schema": RETENTION_SCHEMA},)

    archive_id: Mapped[int] = mapped_column(
        ForeignKey(f"{RETENTION_SCHEMA}.archives.id", ondelete="CASCADE"), primary_key=True
    )
    page: Mapped[int] = mapped_column(primary_key=True)
    checksums: Mapped[list[str]] = mapped_column(ARRAY(Text))
    ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    tables: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    addresses: Mapped[list[str]] = mapped_column(ARRAY(Text))
    versions: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    removed: Mapped[int | None]
