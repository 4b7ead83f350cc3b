"""Rows of other tables that refer to notifications: those notifications stay and are told, or the rows go with them.

Seen to fail: a lock that lets others refer, the choice not looking, the look after the lock left out (messages,
letters), the rows not deleted and all of them deleted, the declaration not handed on, CASCADE and SET NULL deferred,
nothing told, the plan and the overdue counting what stays as what goes, the plan's table without them, policies of
referring tables not looked at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from structlog.testing import capture_logs

from app import clock, config, create_app
from app.dao import many_services_dao, notifications_dao
from app.models.types import EMAIL, LETTER, NOTIFICATION_TYPES
from app.retention import overdue, plan
from app.retention.readiness import DatabaseNotReady, check_database
from app.retention.steps import move_notifications_to_notification_history
from tests.emptying import empty
from tests.integration.night import run_night
from tests.variants import application_on, database, rows, with_pipeline
from tests.variants.adopted import adopted

LIVE, HISTORY, SCHEDULED, IDENTIFIERS = (
    "notifications",
    "notification_history",
    "scheduled_notifications",
    "recipient_identifiers",
)
DELETE = '{"scheduled_notifications": "delete"}'


@pytest.fixture(scope="module", params=["gc-notify", "va-notify"])
def platform(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[tuple[str, Engine]]:
    """A database that has a table whose rows refer to notifications, and do nothing when one goes."""
    with database(environment["DATABASE_URL"], request.param) as engine:
        yield request.param, with_pipeline(engine)


@pytest.fixture
def connection(platform: tuple[str, Engine]) -> Iterator[Connection]:
    """An administrator's; every statement of it commits at once. Empties the tables afterwards."""
    _, engine = platform
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as administrator:
        yield administrator
        own = (f"retention.{table}" for table in ("runs", "chains", "steps"))
        empty(administrator, ["services", "notifications", "notification_history", *own])


@contextmanager
def running(platform: tuple[str, Engine], environment: dict[str, str], **variables: str) -> Iterator[Flask]:
    """The application's context on the platform's database."""
    always = {"LETTER_FOLDER_INDEX": "false", "FAN_OUT_SPREAD_SECONDS": "0"}
    application = application_on(platform[1], environment, **always, **variables)
    with application.app_context():
        yield application
        application.extensions["db.session"].remove()
        application.extensions["db.engine"].dispose()


@pytest.fixture
def app(platform: tuple[str, Engine], environment: dict[str, str]) -> Iterator[Flask]:
    with running(platform, environment) as application:
        yield application


@pytest.fixture
def deleting(platform: tuple[str, Engine], environment: dict[str, str]) -> Iterator[Flask]:
    with running(platform, environment, REFERRING_ROWS=DELETE) as application:
        yield application


def create(connection: Connection, service: UUID, notification_type: str = EMAIL, **values: object) -> UUID:
    if notification_type == LETTER:
        values = {"reference": f"LETTER{len(rows.ids(connection, LIVE)):010}", **values}
    return rows.create_notification(connection, service, notification_type, **values)


def everything(connection: Connection, table: str = SCHEDULED) -> set[UUID]:
    """The notifications that rows of a table refer to."""
    return set(connection.execute(text(f"SELECT notification_id FROM {table}")).scalars())


@pytest.mark.parametrize("notification_type", NOTIFICATION_TYPES)
def test_a_notification_that_something_refers_to_stays_and_the_others_go(app, connection, notification_type):
    service = rows.create_service(connection)
    oldest, *others = [create(connection, service, notification_type) for _ in range(4)]
    of_tests = [create(connection, service, notification_type, key_type="test") for _ in range(2)]
    rows.create_referring(connection, SCHEDULED, oldest)
    rows.create_referring(connection, SCHEDULED, of_tests[0])
    with capture_logs() as logs:
        run_night(notification_type)
    assert rows.ids(connection, HISTORY) == set(others)
    assert rows.ids(connection, LIVE) == {oldest, of_tests[0]} == everything(connection)
    told = [log["by_table"] for log in logs if log["event"] == "notifications-referred-to"]
    assert told == [{SCHEDULED: 1}, {SCHEDULED: 1}]
    assert [log["event"] for log in logs if log["log_level"] == "error"] == []
    connection.execute(text("TRUNCATE scheduled_notifications"))
    connection.execute(text("TRUNCATE retention.chains"))
    run_night(notification_type)
    assert rows.ids(connection, HISTORY) == {oldest, *others}


@pytest.mark.parametrize(
    "rename", ["TABLE scheduled_notifications RENAME TO planned", "TABLE {} RENAME COLUMN notification_id TO of_it"]
)
def test_a_referring_table_that_is_renamed_while_workers_run_is_noticed(app, connection, rename):
    service = rows.create_service(connection)
    stays = create(connection, service)
    rows.create_referring(connection, SCHEDULED, stays)
    run_night(EMAIL)
    moved = create(connection, service)
    connection.execute(text(f"ALTER {rename.format(SCHEDULED)}"))
    try:
        run_night(EMAIL)
    finally:
        back = "planned RENAME TO {}" if "planned" in rename else "{} RENAME COLUMN of_it TO notification_id"
        connection.execute(text(f"ALTER TABLE {back.format(SCHEDULED)}"))
    assert (rows.ids(connection, LIVE), rows.ids(connection, HISTORY)) == ({stays}, {moved})


def test_a_plan_and_the_overdue_tell_them_apart(app, connection):
    service = rows.create_service(connection)
    stays, _ = (create(connection, service) for _ in range(2))
    rows.create_referring(connection, SCHEDULED, stays)
    [of_email, *_] = plan.plan().types
    assert [(one.rows, one.referred_to) for one in of_email.services] == [(1, 1)]
    said = app.test_cli_runner().invoke(args=["retention", "plan"]).stdout.splitlines()
    [heads], [counts] = ([line for line in said if name in line] for name in ("referred to  ", str(service)))
    assert counts.split()[-7:] == ["1", "0", "0", "0", "0", "1", "0"]
    assert heads.index("deferred") < heads.index("referred to") < heads.index("on hold")
    assert "1 stay: 0 not final, 0 deferred until their next attempt, 1 referred to by rows of other tables" in said[-2]
    kept = {(one.kind, one.rows) for one in overdue.measure().kept}
    assert kept == {(overdue.OVERDUE, 1), (overdue.REFERRED_TO, 1)}
    run_night(EMAIL)
    state = overdue.measure()
    assert {(one.kind, one.rows) for one in state.kept} == {(overdue.REFERRED_TO, 1)}
    assert not state.is_red


def test_rows_that_are_declared_to_go_go_with_their_notification(deleting, connection):
    service = rows.create_service(connection)
    for notification_type in NOTIFICATION_TYPES:
        for key_type in ("normal", "test"):
            rows.create_referring(
                connection, SCHEDULED, create(connection, service, notification_type, key_type=key_type)
            )
    young = rows.create_notification(connection, service, created_at=clock.now())
    rows.create_referring(connection, SCHEDULED, young)
    for notification_type in NOTIFICATION_TYPES:
        run_night(notification_type)
    assert rows.ids(connection, LIVE) == everything(connection) == {young}
    assert len(rows.ids(connection, HISTORY)) == len(NOTIFICATION_TYPES)


def test_what_a_key_does_by_itself_holds_nothing_up(app, platform, connection):
    if platform[0] != "va-notify":
        connection.execute(
            text(
                "CREATE TABLE recipient_identifiers (notification_id uuid REFERENCES notifications ON DELETE SET NULL)"
            )
        )
    service = rows.create_service(connection)
    id_ = create(connection, service)
    rows.create_referring(connection, IDENTIFIERS, id_)
    run_night(EMAIL)
    assert rows.ids(connection, HISTORY) == {id_}
    assert everything(connection, IDENTIFIERS) == (set() if platform[0] == "va-notify" else {None})
    if platform[0] != "va-notify":
        connection.execute(text("DROP TABLE recipient_identifiers"))


STOPPING = {
    "at once": "CREATE TABLE attempts (of_row uuid REFERENCES scheduled_notifications)",
    "what goes with them": "CREATE TABLE parts (id uuid PRIMARY KEY, of_row uuid REFERENCES scheduled_notifications "
    "ON DELETE CASCADE); CREATE TABLE attempts (part uuid REFERENCES parts ON DELETE RESTRICT)",
}


@pytest.mark.parametrize("by_itself", [False, True], ids=["declared", "by itself"])
@pytest.mark.parametrize("how", STOPPING)
def test_where_a_third_table_stops_rows_from_going_their_notification_stays(deleting, connection, how, by_itself):
    """Seen by a process that knew the tables before. A step that tried would be rolled back, again and again."""
    [key] = connection.execute(KEY_OF_SCHEDULED).scalars()
    if by_itself:
        connection.execute(text(f"ALTER TABLE scheduled_notifications DROP CONSTRAINT {key}"))
        connection.execute(text(CASCADING.format(key)))
    service = rows.create_service(connection)
    before, stays, goes = (create(connection, service, kind) for kind in (LETTER, EMAIL, EMAIL))
    for id_ in (before, stays):
        rows.create_referring(connection, SCHEDULED, id_)
    run_night(LETTER)
    connection.execute(text(STOPPING[how]))
    try:
        run_night(EMAIL)
        assert (rows.ids(connection, LIVE), rows.ids(connection, HISTORY)) == ({stays}, {before, goes})
    finally:
        connection.execute(text("DROP TABLE IF EXISTS parts, attempts"))
        if by_itself:
            connection.execute(text(f"ALTER TABLE scheduled_notifications DROP CONSTRAINT {key}"))
            connection.execute(text(CASCADING.format(key).replace(" ON DELETE CASCADE", "")))
    connection.execute(text("TRUNCATE retention.chains"))
    run_night(EMAIL)
    assert (rows.ids(connection, LIVE), everything(connection)) == (set(), set())


KEY_OF_SCHEDULED = text(
    "SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid = 'scheduled_notifications'::regclass "
    "AND confrelid = 'notifications'::regclass"
)
CASCADING = (
    "ALTER TABLE scheduled_notifications ADD CONSTRAINT {} FOREIGN KEY (notification_id) REFERENCES notifications "
    "ON DELETE CASCADE"
)


@pytest.mark.parametrize(("referring_rows", "left"), [("{}", 1), (DELETE, 0)], ids=["defer", "delete"])
def test_workers_do_not_start_before_they_see_every_row_that_refers(environment, referring_rows, left):
    """A key is checked as the table's owner: one row that the workers' login can't see would stop its whole batch."""
    with (
        adopted(environment, "gc-notify", REFERRING_ROWS=referring_rows) as made,
        made.owner.execution_options(isolation_level="AUTOCOMMIT").connect() as administrator,
    ):
        service = rows.create_service(administrator)
        referred_to, *_ = [create(administrator, service) for _ in range(3)]
        rows.create_referring(administrator, SCHEDULED, referred_to)
        administrator.execute(text("ALTER TABLE scheduled_notifications ENABLE ROW LEVEL SECURITY"))
        with create_app(config.load(made.environment)).app_context() as context:
            with pytest.raises(DatabaseNotReady, match="on table scheduled_notifications hides rows") as refused:
                check_database()
            administrator.execute(text(str(refused.value).partition("changed. ")[2]))
            check_database()
            move_notifications_to_notification_history(EMAIL, service, clock.now(), 10)
            context.app.extensions["db.engine"].dispose()
        assert len(rows.ids(administrator, LIVE)) == len(everything(administrator)) == left


@contextmanager
def after_statement(app: Flask, words: str, act: Callable[[], None]) -> Iterator[None]:
    """Do something once, as soon as the database has answered a statement with these words."""
    acted = []

    def maybe(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if words in statement and not acted:
            acted.append(words)
            act()

    event.listen(app.extensions["db.engine"], "after_cursor_execute", maybe)
    try:
        yield
    finally:
        event.remove(app.extensions["db.engine"], "after_cursor_execute", maybe)
    assert acted


@pytest.mark.parametrize("notification_type", [EMAIL, LETTER])
def test_nothing_can_come_to_refer_to_a_notification_that_was_chosen(app, connection, notification_type):
    """Whoever refers to it must lock it, and waits for the step; then it is gone."""
    service = rows.create_service(connection)
    id_ = create(connection, service, notification_type)

    def refer() -> None:
        with pytest.raises(OperationalError, match="lock timeout"):
            rows.create_referring(connection, SCHEDULED, id_)

    connection.execute(text("SET lock_timeout = '200ms'"))
    with after_statement(app, "FOR UPDATE OF n SKIP LOCKED", refer):
        run_night(notification_type)
    assert rows.ids(connection, HISTORY) == {id_}
    with pytest.raises(IntegrityError, match="foreign key"):
        rows.create_referring(connection, SCHEDULED, id_)


@pytest.mark.parametrize("notification_type", [EMAIL, LETTER])
def test_what_came_to_refer_to_a_notification_before_it_was_locked_is_seen_after_it(
    app, connection, monkeypatch, notification_type
):
    """A choice whose snapshot is older than the row that refers: here it does not look at such rows at all."""
    for dao in (notifications_dao, many_services_dao):
        monkeypatch.setattr(dao, "NOT_REFERRED_TO", "")
    service = rows.create_service(connection)
    stays, goes = (create(connection, service, notification_type) for _ in range(2))
    rows.create_referring(connection, SCHEDULED, stays)
    run_night(notification_type)
    assert (rows.ids(connection, LIVE), rows.ids(connection, HISTORY)) == ({stays}, {goes})
    states = connection.execute(text("SELECT state, last_error FROM retention.chains")).all()
    assert states[-1] == ("waiting", None)
