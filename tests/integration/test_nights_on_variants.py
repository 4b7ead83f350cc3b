"""Whole nights on the databases that platforms already have, by the same code as on our own schema.

Seen to fail: words of an enum cast to text, a status and a type that the enum lacks named all the same, history filled
by position in notifications' order, the stamp of the tables not looked at, a letter's postage read where there is none,
our own statuses taken for the platform's, the setting of the schema not handed on, its name not escaped (in statements
and in the catalogue), a platform's schema `retention` taken for ours, the type of a retention not cast, a letter
without a status counted as final or moved, casts into history's enums left out, one enum cast to another without its
text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from app import clock, own_schema
from app.dao import counting_dao, notifications_dao, platform_dao
from app.dao.notifications_dao import REAL, Scope
from app.db import db
from app.errors import BadArgument
from app.models.types import EMAIL, LETTER, NOTIFICATION_TYPES, SMS, STATUSES
from app.presets import FINAL
from app.retention import overdue, plan
from tests.emptying import empty
from tests.factories import days_ago
from tests.integration.night import run_night
from tests.variants import ALL, application_on, database, rows, with_pipeline

LIVE, HISTORY = "notifications", "notification_history"
WITHOUT_NULL_STATUS = "govuk-notify"
SCHEMAS = {"gc-notify": "notify: 100% of {b}", "us-notify": own_schema.USUAL}
"""Variants whose tables are in a schema that only the setting names; one of them is called as ours is elsewhere."""
OUR_SCHEMAS = {"us-notify": "clean_up"}
OF_VA_NOTIFY_ALONE = ("pii-check-failed", "preferences-declined")


@dataclass(frozen=True)
class Variant:
    """A database of a platform, with the pipeline's own tables in it, and an administrator's connection to it."""

    name: str
    engine: Engine
    connection: Connection

    @property
    def types(self) -> tuple[str, ...]:
        return (EMAIL, SMS) if self.name == "us-notify" else NOTIFICATION_TYPES

    @property
    def statuses(self) -> list[str | None]:
        """Every status that a row of it can have."""
        lacks = {"returned-letter"} if self.name == "us-notify" else set()
        more = OF_VA_NOTIFY_ALONE if self.name == "va-notify" else ()
        null = () if self.name == WITHOUT_NULL_STATUS else (None,)
        return [*(status for status in STATUSES if status not in lacks), *more, *null]

    @property
    def columns_that_move(self) -> set[str]:
        return set(rows.table(self.connection, HISTORY).columns.keys())

    def create(self, service: UUID | None, notification_type: str = EMAIL, **values: Any) -> UUID:
        """A live row; of a letter with a reference that names files, though there are none."""
        if notification_type == LETTER:
            values = {"reference": uuid4().hex[:16].upper(), **values}
        return rows.create_notification(self.connection, service, notification_type, **values)

    def row(self, table: str, id_: UUID) -> dict[str, Any] | None:
        return rows.row(self.connection, table, id_)

    def ids(self, table: str) -> set[UUID]:
        return rows.ids(self.connection, table)


@pytest.fixture(scope="module", params=ALL)
def filled(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[Variant]:
    schema = SCHEMAS.get(request.param)
    with database(environment["DATABASE_URL"], request.param, schema) as engine:
        with_pipeline(own_schema.use(engine, OUR_SCHEMAS.get(request.param, own_schema.USUAL)))
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            if schema is not None:
                connection.execute(
                    text("SELECT set_config('search_path', quote_ident(:schema), false)"), {"schema": schema}
                )
            yield Variant(request.param, engine, connection)


@pytest.fixture
def variant(filled: Variant, environment: dict[str, str], granted_buckets: None) -> Iterator[Variant]:
    """With no row of any service, and the application's context on it."""
    variables = {"LETTER_FOLDER_INDEX": "false", "FAN_OUT_SPREAD_SECONDS": "0"}
    if filled.name in SCHEMAS:
        variables["PLATFORM_SCHEMA"] = SCHEMAS[filled.name]
    if filled.name in OUR_SCHEMAS:
        variables["RETENTION_SCHEMA"] = OUR_SCHEMAS[filled.name]
    application = application_on(filled.engine, environment, **variables)
    with application.app_context():
        yield filled
        application.extensions["db.session"].remove()
        application.extensions["db.engine"].dispose()
    schema = own_schema.name(filled.connection)
    own = (f"{schema}.{table}" for table in ("runs", "run_types", "chains", "steps"))
    empty(filled.connection, ["services", "service_data_retention", LIVE, HISTORY, *own])


def test_every_type_and_status_moves_with_every_column_of_history_by_name(variant):
    service = rows.create_service(variant.connection)
    expected, stay = {}, set()
    for notification_type in variant.types:
        for status in variant.statuses:
            id_ = variant.create(service, notification_type, notification_status=status)
            if notification_type == LETTER and status not in FINAL:
                stay.add(id_)
            else:
                before = variant.row(LIVE, id_)
                expected[id_] = {name: before[name] for name in variant.columns_that_move}
    stay.add(variant.create(service, created_at=days_ago(1)))
    for notification_type in NOTIFICATION_TYPES:
        run_night(notification_type)
    assert {id_: variant.row(HISTORY, id_) for id_ in expected} == expected
    assert variant.ids(LIVE) == stay
    assert variant.ids(HISTORY) == expected.keys()


def test_test_notifications_go_without_history(variant):
    service = rows.create_service(variant.connection)
    for notification_type in variant.types:
        for key_type in ("normal", "team", "test", "test"):
            variant.create(service, notification_type, key_type=key_type)
    for notification_type in NOTIFICATION_TYPES:
        run_night(notification_type)
    assert variant.ids(LIVE) == set()
    assert {variant.row(HISTORY, id_)["key_type"] for id_ in variant.ids(HISTORY)} == {"normal", "team"}
    assert len(variant.ids(HISTORY)) == 2 * len(variant.types)


@pytest.mark.parametrize(("live_changed", "wins"), [(5, "live"), (9, "history")])
def test_where_history_has_the_row_the_newer_one_wins_with_all_its_columns(variant, live_changed, wins):
    service = rows.create_service(variant.connection)
    changed = {name: clock.to_column(days_ago(days)) for name, days in (("live", live_changed), ("history", 7))}
    id_ = variant.create(service, updated_at=changed["live"], client_reference="live")
    rows.create_history(variant.connection, service, id=id_, updated_at=changed["history"], client_reference="history")
    before = {"live": variant.row(LIVE, id_), "history": variant.row(HISTORY, id_)}
    run_night(EMAIL)
    assert variant.ids(LIVE) == set()
    assert variant.row(HISTORY, id_) == {name: before[wins][name] for name in variant.columns_that_move}


def test_each_service_has_its_own_retention(variant):
    short, default = (rows.create_service(variant.connection, **days) for days in ({"sms": 3}, {}))
    ids = {service: variant.create(service, SMS, created_at=days_ago(5)) for service in (short, default)}
    run_night(SMS)
    assert (variant.ids(HISTORY), variant.ids(LIVE)) == ({ids[short]}, {ids[default]})


def test_a_plan_and_the_overdue_count_what_there_is(variant):
    service = rows.create_service(variant.connection, email=0)
    other = rows.create_service(variant.connection)
    statuses = ("created", None) if None in variant.statuses else ("created", "sending")
    for notification_type in variant.types:
        variant.create(other, notification_type)
        variant.create(other, notification_type, key_type="test")
        for status in statuses:
            variant.create(other, notification_type, notification_status=status)
    variant.create(None)
    of_type = {
        one.notification_type: [
            (service.service_id, service.rows, service.test_rows, service.not_final + service.unknown_status)
            for service in one.services
        ]
        for one in plan.plan().types
    }
    messages, letters = [(other, 3, 1, 0)], [(other, 1, 1, 2)]
    assert of_type == {EMAIL: messages, SMS: messages, LETTER: letters if LETTER in variant.types else []}
    assert [one.rows_without_service for one in plan.plan().types] == [1, 0, 0]
    kept = {(one.kind, one.notification_type, one.service_id, one.rows) for one in overdue.measure().kept}
    expected = {
        (overdue.OVERDUE, EMAIL, other, 4),
        (overdue.OVERDUE, SMS, other, 4),
        (overdue.NO_SERVICE, EMAIL, None, 1),
        (overdue.REFUSED, EMAIL, service, 0),
    }
    if LETTER in variant.types:
        under_way, unknown = (1, 1) if None in statuses else (2, 0)
        expected |= {(overdue.OVERDUE, LETTER, other, 2), (overdue.NOT_FINAL, LETTER, other, under_way)}
        expected |= {(overdue.UNKNOWN_STATUS, LETTER, other, unknown)} if unknown else set()
    assert kept == expected


def test_a_receipt_finds_the_row_wherever_it_is(variant):
    service = rows.create_service(variant.connection)
    live, moved = (variant.create(service, created_at=days_ago(d)) for d in (1, 30))
    run_night(EMAIL)
    for status in filter(None, variant.statuses):
        assert notifications_dao.update_notification_status(live, status) == LIVE
        assert notifications_dao.update_notification_status(moved, status) == HISTORY
        written = [variant.row(LIVE, live)["notification_status"], variant.row(HISTORY, moved)["notification_status"]]
        assert written == [status, status]
    for status in {*STATUSES, *OF_VA_NOTIFY_ALONE} - set(variant.statuses):
        with pytest.raises(BadArgument, match="is not a status"):
            notifications_dao.update_notification_status(live, status)


def test_a_status_that_no_row_can_have_is_left_out_of_what_letters_are_compared_with(variant):
    """An enum that lacks it would refuse the whole statement."""
    service = rows.create_service(variant.connection)
    if LETTER in variant.types:
        _, goes = (variant.create(service, LETTER, notification_status=status) for status in ("created", "delivered"))
    final = {"delivered", "returned-letter", "no-such-status"}
    scope = Scope(service, LETTER, REAL, created_before=days_ago(7), statuses_final=final)
    with db.transaction() as connection:
        chosen = [chosen.letter.id for chosen in notifications_dao.choose_letters(connection, scope, 10)]
        not_final = counting_dao.count_not_final(connection, scope, 10)
    assert (chosen, not_final) == (([goes], 1) if LETTER in variant.types else ([], 0))


def test_the_tables_are_read_once_and_again_when_they_have_changed(variant):
    """A column that both tables gain between two steps moves with the second."""
    service = rows.create_service(variant.connection)
    variant.create(service)
    run_night(EMAIL)
    with db.transaction() as connection:
        before = platform_dao.known(connection)
        assert platform_dao.checked(connection) is before
    for table in (LIVE, HISTORY):
        variant.connection.execute(text(f"ALTER TABLE {table} ADD COLUMN gained integer"))
    try:
        id_ = variant.create(service)
        variant.connection.execute(text("UPDATE notifications SET gained = 42"))
        run_night(EMAIL)
        kept = variant.connection.execute(text("SELECT gained FROM notification_history WHERE id = :id"), {"id": id_})
        assert kept.scalar_one() == 42
    finally:
        for table in (LIVE, HISTORY):
            variant.connection.execute(text(f"ALTER TABLE {table} DROP COLUMN gained"))


OTHER_TYPES = """
    CREATE TYPE ends AS ENUM ('sent', 'delivered');
    CREATE TYPE kinds AS ENUM ('sms', 'email');
    ALTER TABLE notification_history
        DROP CONSTRAINT notification_history_notification_status_fkey,
        ALTER COLUMN notification_status TYPE ends USING notification_status::ends,
        ALTER COLUMN notification_type TYPE kinds USING notification_type::text::kinds,
        ALTER COLUMN rate_multiplier TYPE numeric(10,2)
"""


def test_rows_move_into_columns_of_other_types(environment):
    """Text into an enum, an enum into another with its labels in another order, a number into one of fewer digits."""
    with (
        database(environment["DATABASE_URL"], "govuk-notify") as engine,
        with_pipeline(engine).execution_options(isolation_level="AUTOCOMMIT").connect() as connection,
        application_on(engine, environment, FAN_OUT_SPREAD_SECONDS="0").app_context(),
    ):
        connection.exec_driver_sql(OTHER_TYPES)
        service = rows.create_service(connection)
        new, known = (
            rows.create_notification(connection, service, rate_multiplier=Decimal("1.005"), client_reference="live")
            for _ in range(2)
        )
        rows.create_history(connection, service, id=known, notification_status="sent", created_at=days_ago(31))
        before = {id_: rows.row(connection, LIVE, id_) for id_ in (new, known)}
        run_night(EMAIL)
        columns = rows.table(connection, HISTORY).columns.keys()
        for id_, row in before.items():
            expected = {name: row[name] for name in columns} | {"rate_multiplier": Decimal("1.01")}
            assert rows.row(connection, HISTORY, id_) == expected
        assert rows.ids(connection, LIVE) == set()
        db.engine.dispose()
