"""What beat sends and when, and which queue each task is on."""

from datetime import UTC, datetime
from typing import Any

from celery.schedules import crontab

from app.celery.messages import INTERVAL
from app.config import Settings

TASK_MODULES = [
    "app.celery.nightly_tasks",
    "app.celery.account_tasks",
    "app.celery.inactivity_tasks",
    "app.celery.export_tasks",
    "app.celery.session_tasks",
    "app.celery.audit_tasks",
    "app.celery.archive_tasks",
    "app.celery.policy_tasks",
]
PERIODIC = ("catch-up-missed-night", "dispatch-retention")
DELETIONS = ("delete-user-account", "relay-user-deletions", "purge-account-records")
SWEEPS = ("warn-inactive-users", "mark-inactive-users", "mark-never-completed-accounts")
EXPORTS = ("export-user-data", "relay-user-exports", "remove-expired-exports")
CATCH_UP_EVERY_SECONDS = 300
SECONDS_AN_HOUR = 3600
SECONDS_A_DAY = 24 * SECONDS_AN_HOUR

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""As the last time of what a beat that keeps no state must send as soon as it starts."""

HOUR_OF_AUDITS, MINUTE_OF_AUDITS = 10, 17
"""Local time, when the night is over. Whether an audit is due, or stands still, is looked at every day. Not on the
dispatcher's queue: a stretch of an audit takes as long as a step."""
POLICIES = ("dispatch-policies", "sweep-policy")
ARCHIVES = ("archive-history", "verify-archives")
MINUTE_OF_ARCHIVES = 43
DAY_AND_HOUR_OF_VERIFIED_ARCHIVES = {"day_of_week": "sunday", "hour": 12, "minute": 7}
MINUTE_OF_SESSIONS, MINUTE_OF_EXPIRED_EXPORTS, MINUTE_OF_ACCOUNT_RECORDS = 13, 33, 53
"""Of every hour, by the clock: an interval would begin anew whenever beat is started again."""


def beat(settings: Settings) -> dict[str, Any]:
    """The schedule, in local time of `RETENTION_TIMEZONE`."""
    schedule = {
        "nightly": {
            "task": "delete-notifications-older-than-retention",
            "schedule": _nightly(settings),
            "kwargs": {"once": True},
            "options": {"queue": settings.queue_nightly},
        },
        "catch-up": {
            **_every(CATCH_UP_EVERY_SECONDS, "catch-up-missed-night", settings.queue_periodic),
            "last_run_at": LONG_AGO,
        },
        "dispatcher": _every(settings.dispatch_every_seconds, "dispatch-retention", settings.queue_periodic),
    }
    if settings.audit_every_days and settings.letters_have_files:
        schedule["audit"] = {
            "task": "audit-letter-files",
            "schedule": crontab(hour=HOUR_OF_AUDITS, minute=MINUTE_OF_AUDITS),
            "options": _options(settings.queue_accounts, SECONDS_A_DAY),
        }
    schedule["policies"] = _every(settings.dispatch_every_seconds, "dispatch-policies", settings.queue_accounts)
    if settings.archives_history:
        schedule["archive"] = _hourly(settings, "archive-history", MINUTE_OF_ARCHIVES)
        schedule["verified-archives"] = {
            "task": "verify-archives",
            "schedule": crontab(**DAY_AND_HOUR_OF_VERIFIED_ARCHIVES),
            "options": _options(settings.queue_accounts, SECONDS_A_DAY),
        }
    if settings.accounts_enabled:
        schedule["deletions"] = _every(settings.dispatch_every_seconds, "relay-user-deletions", settings.queue_accounts)
        schedule |= {task: _daily(settings, task) for task in SWEEPS}
        schedule |= {
            "exports": _every(settings.dispatch_every_seconds, "relay-user-exports", settings.queue_accounts),
            "expired-exports": _hourly(settings, "remove-expired-exports", MINUTE_OF_EXPIRED_EXPORTS),
            "account-records": _hourly(settings, "purge-account-records", MINUTE_OF_ACCOUNT_RECORDS),
        }
    if settings.sessions_enabled:
        schedule["sessions"] = _hourly(settings, "cleanup-user-sessions", MINUTE_OF_SESSIONS)
    return schedule


def routes(settings: Settings) -> dict[str, dict[str, str]]:
    """The queue of each task that is not on the nightly one."""
    of_accounts = (*DELETIONS, *SWEEPS, *EXPORTS, *ARCHIVES, *POLICIES, "cleanup-user-sessions", "audit-letter-files")
    by_queue = {settings.queue_periodic: PERIODIC, settings.queue_accounts: of_accounts}
    return {task: {"queue": queue} for queue, tasks in by_queue.items() for task in tasks}


def _nightly(settings: Settings) -> crontab:
    return crontab(hour=settings.retention_nightly_at.hour, minute=settings.retention_nightly_at.minute)


def _daily(settings: Settings, task: str) -> dict[str, Any]:
    """With the night, among the work on accounts."""
    options = _options(settings.queue_accounts, SECONDS_A_DAY)
    return {"task": task, "schedule": _nightly(settings), "options": options}


def _hourly(settings: Settings, task: str, minute: int) -> dict[str, Any]:
    """In this minute of every hour, among the work on accounts."""
    options = _options(settings.queue_accounts, SECONDS_AN_HOUR)
    return {"task": task, "schedule": crontab(minute=minute), "options": options}


def _every(seconds: float, task: str, queue: str) -> dict[str, Any]:
    return {"task": task, "schedule": seconds, "options": _options(queue, seconds)}


def _options(queue: str, interval_seconds: float) -> dict[str, Any]:
    """Of a message that says when the next comes, so that one that piled up behind another ends at once."""
    return {"queue": queue, "headers": {INTERVAL: interval_seconds}}
