"""A worker doesn't start on a database without the tables of what is switched on."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, insert, text

from app import config, create_app
from app.config import psycopg2_url
from app.models import UserExport
from app.retention.readiness import DatabaseNotReady, check_accounts
from tests.servers import new_database

NOW = datetime(2026, 6, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("accounts", "sessions", "missing"),
    [
        (True, True, "deferred_sessions, retention.login_attempts, user_deletions, user_exports, user_sessions, users"),
        (False, True, "deferred_sessions, user_sessions, users"),
        (False, False, None),
    ],
)
def test_missing_tables_are_named_unless_what_needs_them_is_off(environment, accounts, sessions, missing):
    with new_database(environment["DATABASE_URL"]) as url:
        engine = create_engine(psycopg2_url(url), poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE email_rate ()"))
        given = {"DATABASE_URL": url, "ACCOUNTS_ENABLED": str(accounts), "SESSIONS_ENABLED": str(sessions)}
        app = create_app(config.load({**environment, **given}))
        with app.app_context():
            if missing is None:
                check_accounts(app.extensions["settings"])
            else:
                with pytest.raises(DatabaseNotReady, match=f"there is no table {missing}. Make the tables with"):
                    check_accounts(app.extensions["settings"])
        app.extensions["db.engine"].dispose()


@pytest.mark.parametrize(
    ("state", "expires_at", "is_refused"),
    [
        (None, None, False),
        ("requested", None, True),
        ("running", None, True),
        ("ready", NOW, True),
        ("failed", NOW, True),
        ("failed", None, False),
        ("expired", NOW, False),
    ],
)
def test_a_worker_without_a_bucket_for_exports_does_not_start_where_there_are_some(
    connection, environment, state, expires_at, is_refused
):
    if state is not None:
        times = {"requested_at": NOW, "deadline_at": NOW, "due_at": NOW, "expires_at": expires_at}
        connection.execute(insert(UserExport).values(user_id=uuid4(), state=state, **times))
    with_bucket = config.load(environment)
    without = with_bucket.model_copy(update={"s3_bucket_exports": None})
    check_accounts(with_bucket)
    check_accounts(without.model_copy(update={"accounts_enabled": False}))
    if is_refused:
        with pytest.raises(DatabaseNotReady, match="Set S3_BUCKET_EXPORTS"):
            check_accounts(without)
    else:
        check_accounts(without)
