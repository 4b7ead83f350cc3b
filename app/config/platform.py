"""Settings: the platform's servers, and its policies: what goes when, and where a letter's files are."""

from datetime import time
from functools import cached_property
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.config.kinds import BrokerUrl, Bucket, CaFile, DatabaseUrl, Identifier, PlainIdentifier, PositiveInt, TimeZone
from app.presets import (
    FINAL,
    LETTER_BUCKETS,
    PRESETS,
    UNFINISHED,
    CutoffRuleName,
    FolderDateName,
    LetterFilesName,
    PresetName,
)

BUCKETS_UNSET = "buckets_unset"
"""The kind of error that names, in its context, the settings of buckets that are needed and not set."""


class PlatformSettings(BaseModel):
    """What the pipeline works on."""

    database_url: DatabaseUrl = Field(
        description="PostgreSQL that holds the platform's tables and the `retention` schema, as a URL. Of several "
        "hosts (`host1:5432,host2:5432`) the first that takes changes is used."
    )
    celery_broker_url: BrokerUrl = Field(
        description="The broker, as a URL: `amqp` (quorum queues), `sqs`, or `redis`, `valkey`. Through TLS, with its "
        "certificate and name verified: `amqps`, `rediss`, `valkeys`."
    )
    broker_ca_file: CaFile | None = Field(
        None,
        description="File of certificates in PEM of the authority that signed the broker's; unset: the system's "
        "authorities. For `amqps`, `rediss` and `valkeys`.",
    )

    s3_bucket_letters_pdf: Bucket | None = Field(
        None,
        description="Bucket of the letters' PDFs, in a folder a day. Required where LETTER_FILES is `by-status` or "
        "`one-bucket`.",
    )
    s3_bucket_test_letters: Bucket | None = Field(
        None,
        description="Bucket of test letters' PDFs. Required where LETTER_FILES is `by-status`; so are the next two.",
    )
    s3_bucket_invalid_pdf: Bucket | None = Field(None, description="Bucket of PDFs that failed validation.")
    s3_bucket_letters_scan: Bucket | None = Field(
        None, description="Bucket of the virus scan, with its folders FAILURE/ and ERROR/."
    )
    aws_region: str = Field("eu-west-1", description="AWS region of the buckets.")
    aws_endpoint_url_s3: str | None = Field(
        None, description="URL of an S3 server other than AWS's own; unset means AWS."
    )

    retention_timezone: TimeZone = Field(
        "Europe/London",
        description="Time zone whose midnight is the cut-off and whose clock the night follows.",
    )
    letter_folder_timezone: TimeZone = Field(
        "Europe/London", description="Time zone that names the letters' day folders."
    )
    retention_default_days: PositiveInt = Field(
        7, description="Days that a service keeps a type for which it has no retention of its own."
    )
    retention_nightly_at: time = Field(time(3, 0), description="Local time (HH:MM) at which beat starts the night.")
    letter_postage_classes: dict[str, str] = Field(
        {"first": "1", "second": "2", "europe": "E", "rest-of-world": "N", "economy": "3"},
        description="Postage to the class in a letter's file name, as a JSON object.",
    )

    platform_preset: PresetName = Field(
        "own",
        description="Whose policies other settings begin with: our own schema's (`own`) or those of a platform of "
        "the family (docs/adopting.md). What is set by itself counts before the preset. Unset, "
        "`flask retention adopt` takes it for not known whose rules a platform follows, and compares nothing.",
    )
    platform_schema: Identifier | None = Field(
        None, description="Schema of the platform's tables; unset: wherever the role's search_path finds them."
    )
    retention_schema: PlainIdentifier = Field(
        "retention",
        description="Schema of the pipeline's own tables. Set another where the platform has one of this name; every "
        "process on the database must have the same.",
    )
    cutoff_rule: CutoffRuleName = Field(
        "local-midnight",
        description="Where a retention of N days is cut off: `local-midnight` of the date N days ago, `utc-midnight` "
        "or `utc-end-of-day` (23:59:59.999999) of it, or `local-midnight-then-days`: of today, then N times 24 hours "
        "back.",
    )
    letter_files: LetterFilesName = Field(
        "by-status",
        description="Where letters have files: `by-status` in four buckets, `one-bucket` (letters-pdf alone), "
        "`no-files`, or `no-letters` at all. With the last two nothing is asked of S3 for letters, with the last one "
        "no night looks for any.",
    )
    letter_folder_date: FolderDateName = Field(
        "created-at-local",
        description="What names a letter's day folder: `created-at-local` (LETTER_FOLDER_TIMEZONE, the next day past "
        "17:30) or `sent-at-utc`, the UTC date of sent_at; a letter without one is looked for under each date from "
        "created_at to updated_at.",
    )
    letter_statuses_final: tuple[str, ...] = Field(
        FINAL,
        description="Statuses that are known to be a letter's last, as a JSON array. A letter in any other, or without "
        "one, stays.",
    )
    letter_statuses_unfinished: tuple[str, ...] = Field(
        UNFINISHED,
        description="Statuses of letters that are known to be still under way, as a JSON array. Letters in a status "
        "that is in neither list are reported as such.",
    )
    letters_in_any_status: bool = Field(
        False,
        description="Whether letters go whatever their status is, also without one. Only for a platform that has "
        "always deleted them so.",
    )
    test_letters_in_any_status: bool = Field(
        False,
        description="Whether test letters go whatever their status is, also without one, while other letters wait for "
        "a final one. Only for a platform that has always deleted them so.",
    )
    referring_rows: dict[Identifier, Literal["defer", "delete"]] = Field(
        {},
        description="What is done with rows of other tables that refer to a notification, as a JSON object by table: "
        "`delete` them with it, or `defer` the notification. Tables that are not named: defer.",
    )

    @property
    def tables_deleted_with(self) -> frozenset[str]:
        """Tables whose rows go with the notification that they refer to."""
        return frozenset(table for table, action in self.referring_rows.items() if action == "delete")

    @model_validator(mode="before")
    @classmethod
    def _begin_with_the_preset(cls, given: Any) -> Any:
        preset = PRESETS.get(given.get("platform_preset", "own"))  # an unknown one is refused as a value
        return given if preset is None else {**preset.settings, **given}

    @field_validator("broker_ca_file")
    @classmethod
    def _of_a_broker_with_tls(cls, path: str | None, info: ValidationInfo) -> str | None:
        scheme = str(info.data.get("celery_broker_url", "rediss")).partition(":")[0]  # missing when wrong, and said so
        if path is not None and scheme not in ("rediss", "amqps"):
            raise ValueError(f"{scheme} has no certificate; CELERY_BROKER_URL must begin with rediss or amqps")
        return path

    @field_validator("letter_files")
    @classmethod
    def _with_the_buckets_that_it_needs(cls, letter_files: LetterFilesName, info: ValidationInfo) -> LetterFilesName:
        unset = [name for name in LETTER_BUCKETS[letter_files] if info.data.get(name, "wrong, and said so") is None]
        if unset:
            raise PydanticCustomError(BUCKETS_UNSET, "its buckets are not set", {"unset": unset})
        return letter_files

    @property
    def letter_buckets(self) -> tuple[str, ...]:
        """The names of the settings of the buckets that letters' files are in; none where letters have no files."""
        return LETTER_BUCKETS[self.letter_files]

    @property
    def letters_have_files(self) -> bool:
        """Whether anything is looked for in S3 before a letter moves."""
        return bool(self.letter_buckets)

    @property
    def has_letters(self) -> bool:
        """Whether there are letters at all."""
        return self.letter_files != "no-letters"

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of cut-offs and nights."""
        return ZoneInfo(self.retention_timezone)

    @cached_property
    def folder_zone(self) -> ZoneInfo:
        """The time zone of the letters' day folders."""
        return ZoneInfo(self.letter_folder_timezone)
