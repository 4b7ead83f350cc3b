"""Settings of the night: its steps, what it does when something is in the way, and what is an alarm."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.config.kinds import PositiveInt, PositiveSeconds, ShareOrOff

TIME_LIMIT_IN_STEP_BUDGETS = 5
"""So many times the step's budget: a backstop against code that hangs, far above any step."""


class NightSettings(BaseModel):
    """How the night goes."""

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
    clock_tolerance_seconds: PositiveSeconds = Field(
        60,
        description="Seconds by which a host's clock may differ from the database's. Beyond that the host begins "
        "nothing. Nothing is taken before its time by either clock, whatever is set here.",
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
        description="Failed attempts after which a deferred letter, or an account's deletion, needs a person. Both are "
        "still tried.",
    )
    missing_files_share: ShareOrOff = Field(
        0.2,
        description="Share of a run's letters in a bucket that may have no file before chains rest until an "
        "operator accepts it; `off` for platforms that keep no files.",
    )
    missing_files_least: PositiveInt = Field(
        20, description="Letters looked for in a bucket in a run before that share means anything."
    )
    letter_folder_index: bool = Field(
        True,
        description="Whether a day's folder of letters is listed once a night for all services, where that is "
        "cheaper than each step's own listings. Turn it off on platforms that write a letter's file more than five "
        "minutes after they last wrote its row: docs/adr/0015. Not used where LETTER_FOLDER_DATE is `sent-at-utc`.",
    )
    records_kept_days: Annotated[int, Field(ge=3)] = Field(
        400,
        description="Days that the records of runs, chains, steps and audits are kept; 3 or more. They hold no "
        "personal data.",
    )
    audit_every_days: Annotated[int, Field(ge=0)] = Field(
        7, description="Days between two audits of the letter buckets that beat starts; 0: none."
    )
    audit_margin_hours: PositiveSeconds = Field(
        24,
        description="Hours in which an audit does not judge a file or a letter: it may just be being made or moved.",
    )
    audit_examples: PositiveInt = Field(
        100, description="Examples that are kept of each kind of finding of an audit, without their keys."
    )

    overdue_red_hours: PositiveSeconds = Field(
        24, description="Hours past its retention after which a notification that is still there is an alarm."
    )
    not_final_red_days: PositiveSeconds = Field(
        30, description="Days past its retention after which a letter that is not final yet is an alarm."
    )
    on_hold_red_days: PositiveSeconds = Field(
        365, description="Days past their retention after which notifications on hold are an alarm."
    )
    missing_files_red_days: PositiveSeconds = Field(
        2, description="Days past their retention after which letters whose missing files nobody accepts are an alarm."
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
