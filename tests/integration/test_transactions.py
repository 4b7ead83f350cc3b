"""What every transaction says for itself, and the clock by which it destroys.

Promises 5, 11 and 12. Seen to fail: without the engine's isolation level, without the time zone of each transaction,
with a cut-off by the host's clock alone, and with a step that begins on a host whose clock is wrong.
"""

import os
import socket
from contextlib import contextmanager
from datetime import timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy import event, make_url, text

from app import clock, config, create_app
from app.dao import platform_dao
from app.db import ClocksApart, db
from app.models.types import EMAIL
from app.retention import chains, nightly, steps
from tests.chain_steps import open_chains
from tests.factories import create_notification, create_service, days_ago, history, live, tonight

SAYS = text("SELECT current_setting('transaction_isolation'), current_setting('TimeZone')")
EXPLICIT = ("read committed", "UTC")
ALTERED = ("SET default_transaction_isolation = 'repeatable read'", "SET TimeZone = 'Asia/Tokyo'")
DAYS = timedelta(days=1)


@pytest.fixture
def settings_override():
    return {"CLOCK_TOLERANCE_SECONDS": "60"}


@pytest.fixture
def other_defaults(app, connection):
    """The role's own defaults are others, as ALTER ROLE … SET leaves them, for connections made from now on."""
    role = app.extensions["db.engine"].url.username
    for what in ALTERED:
        connection.exec_driver_sql(f'ALTER ROLE "{role}" {what}')
    app.extensions["db.engine"].dispose()
    yield
    connection.exec_driver_sql(f'ALTER ROLE "{role}" RESET ALL')


def in_a_transaction():
    with db.transaction() as connection:
        return connection.execute(SAYS).one()


def in_a_read_only_transaction():
    with db.transaction(read_only=True) as connection:
        return connection.execute(SAYS).one()


def in_the_shells_session():
    return db.session.execute(SAYS).one()


def from_the_engine():
    with db.engine.begin() as connection:
        return connection.execute(SAYS).one()


def after_another_isolation_level():
    with db.transaction(isolation_level="REPEATABLE READ") as connection:
        assert tuple(connection.execute(SAYS).one()) == ("repeatable read", "UTC"), "what is asked for is kept"
    return in_a_transaction()


@pytest.mark.parametrize(
    "say",
    [
        in_a_transaction,
        in_a_read_only_transaction,
        in_the_shells_session,
        from_the_engine,
        after_another_isolation_level,
    ],
)
def test_every_transaction_is_read_committed_and_in_utc_whatever_the_roles_defaults_are(app, other_defaults, say):
    assert tuple(say()) == EXPLICIT
    db.session.remove()


def test_a_transaction_leaves_nothing_behind_for_whoever_a_pooler_gives_its_connection_to(app, other_defaults):
    in_a_transaction()
    with db.engine.connect() as connection, connection.connection.dbapi_connection.cursor() as cursor:
        cursor.execute("SHOW TimeZone")  # beneath SQLAlchemy, which has begun nothing
        assert cursor.fetchone() == ("Asia/Tokyo",)


def test_a_transaction_says_all_of_it_in_one_statement(app):
    said = []
    event.listen(db.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    with db.transaction(read_only=True) as connection:
        assert len(said) == 1
        assert connection.execute(text("SHOW transaction_read_only")).scalar() == "on"
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "5s"


@contextmanager
def clock_ahead_by(time):
    with freeze_time(clock.now() + time, ignore=["sqlalchemy"]):
        yield


def test_the_time_is_bounded_by_the_databases_clock(app):
    with db.transaction() as connection:
        of_database = connection.execute(text("SELECT now()")).scalar()
        past, future = of_database - 3 * DAYS, of_database + 3 * DAYS
        assert db.bounded_now(connection, past) == past
        assert of_database <= db.bounded_now(connection, future) <= clock.now()


def test_a_connection_that_is_not_of_our_engine_is_asked_for_its_clock(app, connection):
    assert db.bounded_now(connection, clock.now() + DAYS) <= clock.now()


@pytest.mark.parametrize(("ahead", "direction"), [(120, "ahead of"), (-62, "behind")])
def test_a_host_whose_clock_is_wrong_begins_nothing_and_is_named(app, connection, ahead, direction):
    service = create_service(connection)
    create_notification(connection, service, created_at=days_ago(30))
    (wake,) = open_chains(service)
    begin = [
        lambda: chains.run_step(wake.chain, wake.step, None),
        lambda: steps.move_notifications_to_notification_history(EMAIL, service, clock.now()),
        lambda: nightly.start_run(tonight()),
        lambda: nightly.fan_out(EMAIL),
        nightly.dispatch,
    ]
    with clock_ahead_by(timedelta(seconds=ahead)):
        for one in begin:
            with pytest.raises(ClocksApart) as refused:
                one()
            assert f"The clock of host {socket.gethostname()} is " in str(refused.value)
            assert direction in str(refused.value)
    assert history(connection) == set()
    state = connection.execute(text("SELECT attempts, lease_until FROM retention.chains")).one()
    assert tuple(state) == (0, None)


class TestWithMoreTolerance:
    @pytest.fixture
    def settings_override(self):
        return {"CLOCK_TOLERANCE_SECONDS": str(100 * DAYS.total_seconds())}

    @pytest.mark.usefixtures("app")
    def test_a_host_whose_clock_is_ahead_takes_nothing_before_its_time(self, connection):
        service = create_service(connection)
        old, young = (create_notification(connection, service, created_at=days_ago(days)) for days in (30, 3))
        with clock_ahead_by(31 * DAYS):
            (wake,) = nightly.fan_out(EMAIL)
            chains.run_step(wake.chain, wake.step, None)
            steps.move_notifications_to_notification_history(EMAIL, service, clock.now())
        assert (live(connection), history(connection)) == ({young}, {old})


def test_a_host_that_vanished_is_noticed_soon(app):
    """What the kernel says of the connection, since no test may drop packets."""
    with db.engine.connect() as connection:
        descriptor = os.dup(connection.connection.dbapi_connection.fileno())
    with socket.socket(fileno=descriptor) as ours:
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
        assert [ours.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [15, 5, 3, 15_000]


def test_of_several_hosts_the_one_that_takes_changes_is_used(environment):
    there = make_url(environment["DATABASE_URL"])
    several = f"{there.username}:{there.password}@127.0.0.1:1,{there.host}:{there.port}/{there.database}"
    application = create_app(config.load({**environment, "DATABASE_URL": f"postgresql://{several}"}))
    with application.app_context():
        assert tuple(in_a_transaction()) == EXPLICIT
        application.extensions["db.engine"].dispose()


def test_settings_of_the_planner_are_made_once_a_transaction_and_again_behind_a_savepoint(app):
    sent = []

    def note(_connection, _cursor, statement, *_):
        sent.append("enable_sort" in statement)

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        counts = []
        for _ in range(2):
            with db.transaction() as own:
                platform_dao.known_in_index_order(own)
                platform_dao.known_in_index_order(own)
                counts.append(sum(sent))
        with db.transaction() as own:
            with own.begin_nested() as savepoint:
                platform_dao.known_in_index_order(own)
                savepoint.rollback()
            platform_dao.known_in_index_order(own)
            settings = own.execute(text("SHOW enable_sort")).scalar()
    finally:
        event.remove(db.engine, "before_cursor_execute", note)
    assert (counts, settings) == ([1, 2], "off")
