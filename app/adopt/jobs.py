"""The platform's own jobs: those that must be over before a night begins, and those that the pipeline replaces.

Read from the schedules in the platforms' code of 2026. Which of them really run is the platform's to say; what is found
here is what to ask.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from app.config import Settings
from app.presets import PresetName
from app.state.findings import Finding, look, note

NIGHTS = 366
TIME_OUT, BILLING, STATUS = (
    "timeout-sending-notifications",
    "create-nightly-billing",
    "create-nightly-notification-status",
)
OF_ALL_TYPES = "delete-notifications-older-than-retention"
OF_EACH_TYPE = ("delete-email-notifications", "delete-sms-notifications", "delete-letter-notifications")


@dataclass(frozen=True)
class Schedule:
    """What of a platform's schedule matters. Times are local ones of `zone`, which is that of its Celery."""

    zone: str
    before: Mapping[str, time]
    """Jobs that must be over before a night begins: they end what is under way, and count the day from the table."""
    replaced: tuple[str, ...]
    """Jobs that do what a night does."""
    others: tuple[str, ...]
    """Jobs that delete something else."""


def _before(hour: int) -> Mapping[str, time]:
    return MappingProxyType({TIME_OUT: time(hour, 5), BILLING: time(hour, 15), STATUS: time(hour, 30)})


HOURLY = ("delete-verify-codes", "delete-invitations")
SCHEDULES: Mapping[PresetName, Schedule] = MappingProxyType(
    {
        "govuk-notify": Schedule(
            "Europe/London",
            _before(0),
            (OF_ALL_TYPES,),
            (
                *("delete-inbound-sms", "remove_sms_email_jobs", "remove_letter_jobs"),
                *("delete-old-records-from-events-table", *HOURLY),
            ),
        ),
        "gc-notify": Schedule(
            "UTC",
            _before(5),
            OF_EACH_TYPE,
            ("delete-inbound-sms", "remove_sms_email_jobs", "remove_transformed_dvla_files", *HOURLY),
        ),
        "us-notify": Schedule(
            "UTC",
            _before(4),
            (OF_ALL_TYPES,),
            (
                *("delete-inbound-sms", "remove_sms_email_jobs", "cleanup-unfinished-jobs", "delete-old-s3-objects"),
                *("delete-verify-codes", "expire-or-delete-invitations"),
            ),
        ),
        "va-notify": Schedule(
            "America/New_York",
            _before(0),
            OF_EACH_TYPE,
            ("delete-inbound-sms", "remove_sms_email_jobs", "remove_transformed_dvla_files", *HOURLY),
        ),
    }
)


def check(preset: PresetName | None, settings: Settings, night: date) -> Iterator[Finding]:
    """Whether nights begin after what must be over, and which jobs to switch off. `preset`: whose jobs run today."""
    schedule = SCHEDULES.get(preset) if preset is not None else None
    if schedule is None:
        return
    jobs = ", ".join(f"{name} at {at:%H:%M}" for name, at in schedule.before.items())
    early = next((one for one in _nights(night) if _begins(settings, one) < _ready(schedule, one)), None)
    if early is None:
        yield note(
            "RETENTION_NIGHTLY_AT",
            f"these jobs must be over before a night begins at {_night(settings)}: {jobs} ({schedule.zone})",
        )
    else:
        yield look(
            "RETENTION_NIGHTLY_AT",
            f"on {early} the night begins at {_night(settings)}, before jobs that must be over by then: {jobs} "
            f"({schedule.zone}). What they have not ended moves as it is, and a day's figures lack what has moved",
            f"set RETENTION_NIGHTLY_AT to a time after {max(schedule.before.values()):%H:%M} {schedule.zone}, with "
            "room for the last of them",
        )
    for job in schedule.replaced:
        yield look(
            "jobs",
            f"a night does what the platform's job {job} does",
            "switch the job off in the platform's schedule before the first night",
        )
    yield note(
        "jobs",
        f"nothing replaces these jobs of the platform unless RETENTION_POLICIES has a policy for them, so that they "
        f"stay on: {', '.join(schedule.others)}",
    )


def _nights(first: date) -> Iterator[date]:
    """A year of them: zones change their clocks on different days."""
    return (first + timedelta(days=number) for number in range(NIGHTS))


def _begins(settings: Settings, night: date) -> datetime:
    return datetime.combine(night, settings.retention_nightly_at, settings.zone).astimezone(ZoneInfo("UTC"))


def _ready(schedule: Schedule, night: date) -> datetime:
    last = max(schedule.before.values())
    return datetime.combine(night, last, ZoneInfo(schedule.zone)).astimezone(ZoneInfo("UTC"))


def _night(settings: Settings) -> str:
    return f"{settings.retention_nightly_at:%H:%M} {settings.retention_timezone}"
