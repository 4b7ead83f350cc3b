"""Settings, from the environment only: typed, documented, and refused at start with a sentence when wrong."""

import json
import os
from collections.abc import Mapping
from datetime import time
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

BROKER_SCHEMES = ("redis", "rediss", "amqp", "amqps", "sqs")
TIME_LIMIT_IN_STEP_BUDGETS = 5
"""So many times the step's budget: a backstop against code that hangs, far above any step."""


class SettingsError(click.ClickException, ValueError):
    """The settings are wrong. The message has a line for each, with the variable's name and how to mend it.

    A click exception, so that `flask` and `celery` print the message instead of a traceback.
    """


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone; give an IANA name such as Europe/London") from None
    return name


def psycopg2_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg2") or not rest:
        raise ValueError("it must look like postgresql://user:password@host:5432/database")
    return f"postgresql+psycopg2://{rest}"


def _broker_url(url: str) -> str:
    if urlsplit(url).scheme not in BROKER_SCHEMES:
        raise ValueError(
            f"the broker must be one of {', '.join(BROKER_SCHEMES)}; "
            "the SQLAlchemy and filesystem transports lose tasks when a worker is killed"
        )
    return url


def _share(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() == "off" else value


TimeZone = Annotated[str, AfterValidator(_time_zone)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Bucket = Annotated[str, Field(min_length=3, max_length=63)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Settings(BaseSettings):
    """Every setting of the product. The variable is the field's name in capitals."""

    model_config = SettingsConfigDict(case_sensitive=False, frozen=True, extra="ignore", env_file=None)

    database_url: Annotated[str, AfterValidator(psycopg2_url)] = Field(
        description="PostgreSQL that holds the platform's tables and the `retention` schema, as a URL."
    )
    celery_broker_url: Annotated[str, AfterValidator(_broker_url)] = Field(
        description="The broker: amqp (quorum queues), sqs, or redis/valkey, as a URL."
    )

    s3_bucket_letters_pdf: Bucket = Field(description="Bucket of the letters' PDFs, in a folder a day.")
    s3_bucket_test_letters: Bucket = Field(description="Bucket of test letters' PDFs.")
    s3_bucket_invalid_pdf: Bucket = Field(description="Bucket of PDFs that failed validation.")
    s3_bucket_letters_scan: Bucket = Field(
        description="Bucket of the virus scan, with its folders FAILURE/ and ERROR/."
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

    letters_per_step: PositiveInt = Field(
        5000,
        description="Letters in one step, so in one transaction. Larger holds locks longer and is no faster.",
    )
    messages_per_step: PositiveInt = Field(
        10000, description="Emails or text messages in one step, so in one transaction."
    )
    rows_per_slice: PositiveInt = Field(
        100_000, description="Overdue rows of one service and type that make a slice of their own."
    )
    slices_per_service: PositiveInt = Field(
        8, description="The most slices of one service and type, so the most workers that share it."
    )
    fan_out_spread_seconds: Annotated[float, Field(ge=0)] = Field(
        300, description="Seconds over which a type's services start, so that the night begins gently."
    )
    step_budget_seconds: Annotated[float, Field(ge=5, le=75)] = Field(
        60,
        description="Seconds that one step may take, S3 and its retries included. Below the 120 s that a worker "
        "has between SIGTERM and SIGKILL.",
    )
    lock_timeout_seconds: PositiveSeconds = Field(
        5, description="Seconds that a step waits for a lock before it gives way."
    )
    dispatch_every_seconds: PositiveSeconds = Field(
        60,
        description="Seconds between two looks of the dispatcher for chains that are due or have lost their worker.",
    )
    retry_after_seconds: PositiveSeconds = Field(
        30,
        description="Seconds before a chain that met locked rows, a slow S3 or an error goes on; doubled each "
        "time up to an hour, with jitter.",
    )
    deferral_first_minutes: PositiveSeconds = Field(
        15,
        description="Minutes before a letter whose file could not be deleted is tried again; doubled each time "
        "up to a day.",
    )
    deferral_attempts: PositiveInt = Field(
        8,
        description="Failed attempts after which a deferred letter is marked as needing a person. It is still tried.",
    )
    missing_files_share: Annotated[Share | None, BeforeValidator(_share)] = Field(
        0.2,
        description="Share of a run's letters in a bucket that may have no file before chains rest until an "
        "operator accepts it; `off` for platforms that keep no files.",
    )
    missing_files_least: PositiveInt = Field(
        20, description="Letters looked for in a bucket in a run before that share means anything."
    )
    records_kept_days: PositiveInt = Field(
        400,
        description="Days that the records of runs, chains and steps are kept. They hold no personal data.",
    )

    yield_replica_lag_seconds: PositiveSeconds = Field(
        10, description="Seconds that a streaming replica may lag before chains wait between steps."
    )
    yield_waiting_queries: Annotated[int, Field(ge=0)] = Field(
        20, description="Queries of others that may wait for locks before chains wait between steps."
    )
    yield_seconds: PositiveSeconds = Field(15, description="Seconds of such a wait, give or take a quarter.")
    yield_times: Annotated[int, Field(ge=0)] = Field(
        20, description="Such waits in a row before a chain takes its next step all the same; 0: never wait."
    )

    queue_nightly: str = Field("retention-nightly", description="Queue of the nightly work.")
    queue_periodic: str = Field("retention-periodic", description="Queue of the dispatcher.")
    visibility_timeout_seconds: PositiveInt = Field(
        900,
        description="Redis and SQS: seconds before an unacknowledged message is handed out again. Above "
        f"{TIME_LIMIT_IN_STEP_BUDGETS} times STEP_BUDGET_SECONDS, when a task is cut: else it runs twice at once.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="Log lines as JSON, or readable on a console.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load` hands the environment over, so that a caller may hand over another

    @field_validator("visibility_timeout_seconds")
    @classmethod
    def _above_the_longest_task(cls, seconds: int, info: ValidationInfo) -> int:
        budget = info.data.get("step_budget_seconds")  # missing when it is itself wrong, and said so
        if budget is not None and seconds <= (longest := TIME_LIMIT_IN_STEP_BUDGETS * budget):
            raise ValueError(
                f"it must be above {longest:g}, {TIME_LIMIT_IN_STEP_BUDGETS} times STEP_BUDGET_SECONDS, or the broker "
                "hands out a task that is still running"
            )
        return seconds

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone of cut-offs and nights."""
        return ZoneInfo(self.retention_timezone)

    @cached_property
    def folder_zone(self) -> ZoneInfo:
        """The time zone of the letters' day folders."""
        return ZoneInfo(self.letter_folder_timezone)

    @property
    def lease_seconds(self) -> float:
        """Seconds that a step's lease of its chain lasts: its budget, and time to move what S3 has let go.

        One that takes longer all the same loses its lease, and is rolled back.
        """
        return 1.5 * self.step_budget_seconds

    @property
    def task_time_limit_seconds(self) -> float:
        """Seconds after which a task is killed. No visibility time-out may be shorter."""
        return TIME_LIMIT_IN_STEP_BUDGETS * self.step_budget_seconds

    def rows_per_step(self, notification_type: str) -> int:
        """The batch size of a type."""
        return self.letters_per_step if notification_type == "letter" else self.messages_per_step


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (the process's own unless another is given). Raises SettingsError."""
    given = os.environ if environment is None else environment
    values: dict[str, Any] = {
        name: given[name.upper()] for name in Settings.model_fields if given.get(name.upper(), "").strip()
    }
    if "letter_postage_classes" in values:
        values["letter_postage_classes"] = _json_object(values["letter_postage_classes"])
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(problem) for problem in error.errors())) from None


def _json_object(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text  # the validator says that it is no object


def _sentence(problem: Any) -> str:
    name = str(problem["loc"][0]).upper()
    if problem["type"] == "missing":
        return f"{name} is not set. {Settings.model_fields[name.lower()].description}"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name} is wrong: {reason}."
