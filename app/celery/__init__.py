"""The Celery application: `celery -A app.celery worker`, `celery -A app.celery beat`.

Tasks acknowledge late, are given back when their worker is lost, and are taken one at a time; results are not
kept. The truth is in `retention.chains`, so that a message that is lost, late or delivered twice does no harm.
"""

from typing import Any

from celery import Celery, Task, signals
from celery.schedules import crontab
from flask import Flask, current_app, has_app_context
from kombu import Queue

from app import config, create_app, logs

DISPATCH_SECONDS_LATE = 0.9
"""A dispatch that has not begun after this share of its interval is dropped: the next one does its work."""
SECONDS_A_TASK_CANNOT_TAKE = 5
"""So many times the step's budget: a backstop against code that hangs, far above any step."""


class ContextTask(Task):
    """Runs in the application's context: the caller's, from `flask shell`, or the process's own, in a worker."""

    _flask_app: Flask | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if has_app_context():
            return super().__call__(*args, **kwargs)
        with process_app().app_context():
            return super().__call__(*args, **kwargs)


def process_app() -> Flask:
    """The one Flask application of this process."""
    if ContextTask._flask_app is None:
        ContextTask._flask_app = create_app()
    return ContextTask._flask_app


@signals.worker_process_init.connect
def _forget_the_parents_app(**_: Any) -> None:
    """A forked worker must not share its parent's connections."""
    ContextTask._flask_app = None


@signals.setup_logging.connect
def _log_as_we_do(**_: Any) -> None:
    logs.configure(settings())


def settings() -> config.Settings:
    """The application's settings, or the environment's."""
    return current_app.extensions["settings"] if has_app_context() else config.load()


def configuration(settings: config.Settings) -> dict[str, Any]:
    """Celery's configuration from the settings."""
    transport: dict[str, Any] = {}
    if settings.celery_broker_url.startswith(("redis", "sqs")):
        transport["visibility_timeout"] = settings.visibility_timeout_seconds
    if settings.celery_broker_url.startswith("redis"):
        # As shipped, a killed worker's task is looked for every 100 s only.
        transport |= {"unacked_restore_interval": 2, "unacked_restore_throttle": 1}
    return {
        "broker_url": settings.celery_broker_url,
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_ignore_result": True,
        "task_time_limit": SECONDS_A_TASK_CANNOT_TAKE * settings.step_budget_seconds,
        "worker_prefetch_multiplier": 1,
        "worker_soft_shutdown_timeout": settings.step_budget_seconds + 30,
        "worker_enable_soft_shutdown_on_idle": False,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_queues": [Queue(settings.queue_nightly), Queue(settings.queue_periodic)],
        "task_default_queue": settings.queue_nightly,
        "task_create_missing_queues": False,
        "task_routes": {"dispatch-retention": {"queue": settings.queue_periodic}},
        "timezone": settings.retention_timezone,
        "enable_utc": True,
        "beat_schedule": {
            "nightly": {
                "task": "delete-notifications-older-than-retention",
                "schedule": crontab(
                    hour=settings.retention_nightly_at.hour, minute=settings.retention_nightly_at.minute
                ),
                "options": {"queue": settings.queue_nightly},
            },
            "dispatcher": {
                "task": "dispatch-retention",
                "schedule": settings.dispatch_every_seconds,
                "options": {
                    "queue": settings.queue_periodic,
                    "expires": settings.dispatch_every_seconds * DISPATCH_SECONDS_LATE,
                },
            },
        },
    }


celery = Celery("app", task_cls=ContextTask, include=["app.celery.nightly_tasks"])
# Read when first used, so that importing this module needs no environment.
celery.add_defaults(lambda: configuration(settings()))
