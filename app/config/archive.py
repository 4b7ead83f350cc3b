"""Settings of the archive: which history goes to object storage, when, how, and for how long it stays there."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator

from app.config.kinds import Bucket, Names, PositiveInt, Share

_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")
_TAGS = re.compile(r"[^&=\s]+=[^&=\s]*(&[^&=\s]+=[^&=\s]*)*")


def _prefix(value: str) -> str:
    if not _PREFIX.fullmatch(value):
        raise ValueError(f"{value!r} is not a prefix; give words with slashes between them, such as archive/notify")
    return value


def _tags(value: str) -> str:
    if not _TAGS.fullmatch(value):
        raise ValueError(f"{value!r} are not tags; give them as key=value&key=value")
    return value


class ArchiveSettings(BaseModel):
    """How history ends."""

    s3_bucket_archive: Bucket | None = Field(
        None,
        description="Bucket that history is archived to, with the extra `archive` installed; unset: history stays in "
        "the database.",
    )
    archive_prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "archive", description="What the keys of archived files begin with, without the last slash."
    )
    archive_after_days: PositiveInt = Field(
        365, description="Days after which a row of history is archived, counted from its created_at."
    )
    archive_window: Literal["hour", "day"] = Field(
        "day", description="What is archived together: the rows of an `hour` or of a `day`, in UTC."
    )
    archive_rows_per_file: PositiveInt = Field(
        200_000,
        description="Rows of a file at most; a window with more has several. A worker holds the rows of one file in "
        "memory, about 400 bytes each.",
    )
    archive_rows_per_page: Annotated[int, Field(gt=0, le=100_000)] = Field(
        10_000, description="Rows that one transaction reads, and that one transaction deletes."
    )
    archive_columns_left_out: Names = Field(
        ("created_by_id",),
        description="Columns that are not archived, with commas between them: what an archive does not have, the "
        "deletion of an account need not look for there. A row that is restored has NULL in them.",
    )
    archive_storage_class: str | None = Field(
        None, description="Storage class of archived files, as S3 calls it; unset: the bucket's own."
    )
    archive_tags: Annotated[str, AfterValidator(_tags)] | None = Field(
        None, description="Tags of archived files, as `key=value&key=value`; unset: none."
    )
    archive_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None, description="Server-side encryption that is asked for by name; unset: as the bucket encrypts."
    )
    archive_encryption_key: str | None = Field(
        None, description="Key of `aws:kms`, its id or ARN; unset: the account's own for S3."
    )
    archive_kept_days: PositiveInt | None = Field(
        None,
        description="Days, counted as ARCHIVE_AFTER_DAYS is, after which archived files are deleted with all their "
        "versions; unset: never. Files with rows of a service on hold stay.",
    )
    archive_verify_share: Share = Field(
        0.02, description="Share of the archived files that is read again each week and compared with the manifest."
    )

    @field_validator("archive_columns_left_out")
    @classmethod
    def _not_what_is_needed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        needed = sorted({"id", "service_id", "created_at"}.intersection(names))
        if needed:
            raise ValueError(f"{', '.join(needed)} can't be left out: rows are found by them")
        return names

    @field_validator("archive_kept_days")
    @classmethod
    def _after_it_was_archived(cls, days: int | None, info: ValidationInfo) -> int | None:
        first = info.data.get("archive_after_days")  # missing when it is itself wrong, and said so
        if days is not None and first is not None and days <= first:
            raise ValueError(f"it must be above ARCHIVE_AFTER_DAYS, which is {first}")
        return days

    @property
    def archive_window_length(self) -> timedelta:
        """Of what is archived together."""
        return timedelta(hours=1) if self.archive_window == "hour" else timedelta(days=1)

    @property
    def archives_history(self) -> bool:
        """Whether history is archived at all."""
        return self.s3_bucket_archive is not None
