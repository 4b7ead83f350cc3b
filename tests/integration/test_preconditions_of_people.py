"""Accounts and sessions: what blocks them is said, kept for the page and the metrics, and over by itself.

That nothing changes meanwhile is tests/promises/test_stops.py's. Seen to fail: each judgement of `app.state.people`
taken out; what the relay and the dispatcher found not kept.
"""

import pytest
from sqlalchemy import text

from app import clock
from app.celery import account_tasks, nightly_tasks, session_tasks
from app.db import db
from app.doctor import database
from app.ops.collector import Collector
from app.state import asked
from app.state.asked import PolicyBlocked
from tests.session_rows import create_session
from tests.users import create_user

pytestmark = pytest.mark.usefixtures("just_started")

BROKEN = {
    "hidden sessions": (
        "ALTER TABLE user_sessions ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE user_sessions DISABLE ROW LEVEL SECURITY",
        {"accounts", "sessions"},
        "row-level security on table user_sessions hides rows from role",
    ),
    "hidden rows of users": (
        "ALTER TABLE templates ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE templates DISABLE ROW LEVEL SECURITY",
        {"accounts"},
        "row-level security on table templates hides rows from role",
    ),
    "times": (
        "ALTER TABLE user_sessions ALTER expires_at TYPE timestamp USING expires_at AT TIME ZONE 'UTC'",
        "ALTER TABLE user_sessions ALTER expires_at TYPE timestamptz USING expires_at AT TIME ZONE 'UTC'",
        {"accounts", "sessions"},
        "column expires_at of table user_sessions is timestamp without time zone, not timestamp with time zone",
    ),
    "replica identity": (
        "CREATE PUBLICATION to_warehouse FOR TABLE users; ALTER TABLE users REPLICA IDENTITY NOTHING",
        "DROP PUBLICATION to_warehouse; ALTER TABLE users REPLICA IDENTITY DEFAULT",
        {"accounts"},
        "table users has no replica identity, and publication to_warehouse sends on what happens to its rows",
    ),
    "table": (
        "ALTER TABLE deferred_sessions RENAME TO deferred",
        "ALTER TABLE deferred RENAME TO deferred_sessions",
        {"accounts", "sessions"},
        "there is no table deferred_sessions",
    ),
    "privilege": (
        "REVOKE DELETE ON user_sessions FROM {workers}",
        "GRANT DELETE ON user_sessions TO {workers}",
        {"accounts", "sessions"},
        "lacks DELETE ON user_sessions",
    ),
}


def told(settings):
    """What the metrics say is blocked."""
    metrics = {metric.name: metric for metric in Collector(settings).collect()}
    return {one.labels["policy"] for one in metrics["retention_policies_blocked"].samples if one.value}


def look():
    """What relay, dispatcher and clean-up do every so often."""
    account_tasks.relay_user_deletions()
    nightly_tasks.dispatch_retention()
    session_tasks.cleanup_user_sessions.apply()


@pytest.fixture
def workers(app):
    """What the group `accounts_worker` is called on this test's server."""
    return f"{app.extensions['db.engine'].url.username.removesuffix('_login')}_accounts"


@pytest.mark.parametrize(("breaks", "fixes", "policies", "sentence"), BROKEN.values(), ids=BROKEN)
def test_what_blocks_accounts_and_sessions_is_said_and_over_by_itself(
    app, connection, settings, workers, breaks, fixes, policies, sentence
):
    connection.exec_driver_sql(breaks.format(workers=workers))
    try:
        asked.forget()
        look()
        kept = {row.policy: row for row in connection.execute(text("SELECT * FROM retention.blocked_policies"))}
        assert kept.keys() == policies
        assert all(sentence in row.sentence and row.fix for row in kept.values())
        assert told(settings) == policies
        with db.transaction() as own:
            assert {finding for finding in asked.findings_of_people(own) if sentence in finding.sentence}
        assert any(sentence.lower() in found.says.lower() for found in database.tables(settings))
    finally:
        connection.exec_driver_sql(fixes.format(workers=workers))
    asked.forget()
    look()
    assert told(settings) == set()


def test_a_person_who_cleans_up_sessions_is_told_why_not(app, connection):
    create_session(connection, create_user(connection), created_at=clock.now(), expires_at=clock.now())
    breaks, fixes, _, sentence = BROKEN["times"]
    connection.exec_driver_sql(breaks)
    try:
        with pytest.raises(PolicyBlocked, match=sentence.capitalize()[:40]):
            session_tasks.cleanup_user_sessions()
        done = app.test_cli_runner().invoke(args=["sessions", "purge", "--yes"])
        assert done.exit_code == 1
        assert f"Error: Column {sentence.removeprefix('column ')}" in done.output
    finally:
        connection.exec_driver_sql(fixes)
