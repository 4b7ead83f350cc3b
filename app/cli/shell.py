"""What `flask shell` has at hand, and its banner."""

from typing import Any

import click
from flask import current_app
from sqlalchemy.engine import make_url

from app import models
from app.db import db


def shell_context() -> dict[str, Any]:
    """The tasks, `db`, the models and `plan()`; says which database this is."""
    from app.celery import nightly_tasks
    from app.retention import delete_test_notifications, move_notifications_to_notification_history
    from app.retention.plan import plan

    tasks = {name: getattr(nightly_tasks, name) for name in TASKS}
    click.secho(banner(), err=True)
    return {
        **{name: getattr(models, name) for name in models.__all__},
        **tasks,
        "db": db,
        "plan": plan,
        "move_notifications_to_notification_history": move_notifications_to_notification_history,
        "delete_test_notifications": delete_test_notifications,
    }


TASKS = (
    "delete_notifications_older_than_retention",
    "delete_email_notifications_older_than_retention",
    "delete_sms_notifications_older_than_retention",
    "delete_letter_notifications_older_than_retention",
    "delete_notifications_for_service_and_type",
    "delete_test_notifications_for_service_and_type",
)


def banner() -> str:
    """Which database and bucket this shell is on, and what it has at hand."""
    settings = current_app.extensions["settings"]
    url = make_url(settings.database_url)
    return (
        f"Database {url.database} on {url.host}:{url.port or 5432} as {url.username}; "
        f"letters in {settings.s3_bucket_letters_pdf} "
        f"({settings.aws_endpoint_url_s3 or 'AWS, ' + settings.aws_region}).\n"
        "At hand: db, plan(), the models, move_notifications_to_notification_history(), "
        "delete_test_notifications(), and the tasks:\n  " + "\n  ".join(TASKS)
    )
