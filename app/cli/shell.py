"""What `flask shell` has at hand, and its banner."""

from typing import Any
from uuid import UUID

import click
from flask import current_app
from sqlalchemy.engine import make_url

from app import clock, models
from app.accounts import deletion, session_cleanup, tonight
from app.accounts.deletion import Deletion
from app.cli.words import operator
from app.dao.audit_dao import Audit
from app.dao.user_deletions_dao import Record
from app.dao.user_sessions_dao import Count
from app.db import db, server_of
from app.retention import audit


def shell_context() -> dict[str, Any]:
    """The tasks, `db`, the models and plain calls to ask and to act; says which database this is."""
    from app.celery import (
        account_tasks,
        audit_tasks,
        export_tasks,
        inactivity_tasks,
        nightly_tasks,
        session_tasks,
    )
    from app.retention import delete_test_notifications, move_notifications_to_notification_history, overdue
    from app.retention.history import history
    from app.retention.plan import plan

    modules = (nightly_tasks, account_tasks, inactivity_tasks, export_tasks, session_tasks, audit_tasks)
    tasks = {name: getattr(module, name) for module in modules for name in TASKS if hasattr(module, name)}
    click.secho(banner(), err=True)
    return {
        **{name: getattr(models, name) for name in models.__all__},
        **tasks,
        "db": db,
        "plan": plan,
        "overdue": overdue.measure,
        "history": history,
        **{call.__name__: call for call in (run_audit, accounts_plan, account_status, delete_account, sessions_status)},
        "move_notifications_to_notification_history": move_notifications_to_notification_history,
        "delete_test_notifications": delete_test_notifications,
    }


def run_audit() -> Audit:
    """As `flask retention audit`: from beginning to end, which deletes nothing."""
    return audit.finish(audit.begin(operator()))


def delete_account(user_id: UUID | str) -> Deletion:
    """As `flask accounts delete`, without asking."""
    return deletion.delete_account(UUID(str(user_id)), by="operator", by_id=None, now=clock.now())


def account_status(user_id: UUID | str) -> Record | None:
    """The record of an account's deletion, None if there is none."""
    return deletion.find(UUID(str(user_id)))


def accounts_plan() -> list[tonight.Planned]:
    """Who would be warned or marked tonight, who is kept, and why."""
    return list(tonight.plan(clock.now()))


def sessions_status() -> Count:
    """How many sessions there are, and how many of them are dead."""
    return session_cleanup.count(clock.now())


TASKS = (
    "delete_notifications_older_than_retention",
    "delete_email_notifications_older_than_retention",
    "delete_sms_notifications_older_than_retention",
    "delete_letter_notifications_older_than_retention",
    "delete_notifications_for_service_and_type",
    "delete_test_notifications_for_service_and_type",
    "delete_user_account",
    "warn_inactive_users",
    "mark_inactive_users",
    "mark_never_completed_accounts",
    "export_user_data",
    "cleanup_user_sessions",
    "audit_letter_files",
)


def banner() -> str:
    """Which database and bucket this shell is on, and what it has at hand."""
    settings = current_app.extensions["settings"]
    url = make_url(settings.database_url)
    return (
        f"Database {url.database} on {server_of(settings.database_url)} as {url.username}; "
        f"letters in {settings.s3_bucket_letters_pdf or 'no bucket'} "
        f"({settings.aws_endpoint_url_s3 or 'AWS, ' + settings.aws_region}).\n"
        "At hand: db, the models, plan(), overdue(), run_audit(), history(service, day), "
        "move_notifications_to_notification_history(), "
        "delete_test_notifications(), accounts_plan(), account_status(id), delete_account(id), sessions_status(), "
        "and the tasks:\n  " + "\n  ".join(TASKS)
    )
