"""The choice on the databases that platforms have: an index of theirs, in order, at a quarter of a million rows.

Seen to fail: the probe for what is left under EXISTS, the discovery, the choice of many services and their last look
without the settings that make plans follow an index, a plan without them and one that counts everything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, text

from app.dao import many_services_dao, notifications_dao, overdue_dao, overview_dao, services_dao
from app.dao.letter_statuses import LetterStatuses
from app.dao.many_services_dao import ManyServices
from app.dao.notifications_dao import REAL, Scope
from app.models.types import EMAIL, LETTER, SMS
from app.presets import FINAL, UNFINISHED
from tests.integration.test_query_plans import forget_statistics, refresh_statistics
from tests.plans import Plan, explained
from tests.variants import VARIANTS, database, rows, with_pipeline

ROWS, SERVICES, BATCH = 250_000, 40, 500
NEWEST, DAYS = datetime(2026, 3, 1, tzinfo=UTC), 60
STATUSES = LetterStatuses(FINAL, UNFINISHED)
CUTOFF = NEWEST - timedelta(days=7)
THE_INDEX = {
    "govuk-notify": "ix_notifications_service_id_composite",
    "gc-notify": "ix_notifications_service_created_at",
    "us-notify": "ix_notifications_service_created_at",
    "va-notify": "ix_notifications_service_created_at",
}
OF_THE_SMALLEST = 5

# Of a thousand rows, 300 belong to the largest service, the others are dealt out.
FILL = """
INSERT INTO notifications
    (id, "to", service_id, key_type, notification_type, notification_status, template_id, template_version, created_at,
     billable_units, international)
SELECT gen_random_uuid(), 'x', services.ids[CASE WHEN dealt < 300 THEN 1 ELSE 2 + dealt % (services.count - 1) END],
       CAST(CASE WHEN i % 97 = 0 THEN 'test' ELSE 'normal' END AS {key_type}),
       CAST((ARRAY['{rare}', 'sms', 'sms', 'sms', 'email', 'email', 'email', 'email', 'email', 'email'])
            [1 + (i * 31 + i / 1000) % 10] AS {notification_type}),
       CAST(CASE WHEN i % 53 = 0 THEN 'created' ELSE 'delivered' END AS {notification_status}),
       '00000000-0000-0000-0000-000000000000', 1,
       CAST(:newest AS timestamp) - make_interval(secs => :seconds * (1 - i / CAST(:rows AS float))), 1, false
FROM generate_series(1, CAST(:rows AS bigint)) AS i,
     LATERAL (SELECT i * 7919 % 1000 AS dealt) AS deal,
     (SELECT CAST(:ids AS uuid[]) AS ids, cardinality(CAST(:ids AS uuid[])) AS count) AS services
"""
TYPES = text(
    "SELECT attname, format_type(atttypid, atttypmod) AS written FROM pg_attribute "
    "WHERE attrelid = 'notifications'::regclass"
)
INDEXES = text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'notifications' AND indexname LIKE 'ix%'")
FOREIGN_KEYS = text("SELECT conname FROM pg_constraint WHERE conrelid = 'notifications'::regclass AND contype = 'f'")


@dataclass(frozen=True)
class Filled:
    """A platform with so many rows: the services with the most and the fewest."""

    name: str
    engine: Engine
    largest: UUID
    smallest: UUID

    @property
    def rare(self) -> str:
        """The type of which there is least."""
        return SMS if self.name == "us-notify" else LETTER

    @property
    def share(self) -> float:
        """How much of a service's rows are of that type."""
        return 0.4 if self.rare == SMS else 0.1


@pytest.fixture(scope="module", params=VARIANTS)
def filled(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[Filled]:
    with database(environment["DATABASE_URL"], request.param) as engine:
        with_pipeline(engine)
        with engine.begin() as connection:
            ids = [rows.create_service(connection) for _ in range(SERVICES)]
            platform = Filled(request.param, engine, ids[0], ids[-1])
            fill(connection, ids, platform.rare)
            for days in range(OF_THE_SMALLEST):
                for notification_type in (platform.rare, EMAIL):
                    made_at = CUTOFF - timedelta(days=1 + days)
                    rows.create_notification(connection, platform.smallest, notification_type, made_at)
        yield platform


def fill(connection: Connection, ids: list[UUID], rare: str) -> None:
    """Without what is checked for each row; indexes only afterwards."""
    types = {row.attname: row.written for row in connection.execute(TYPES)}
    made = [definition for _, definition in connection.execute(INDEXES)]
    for key in connection.execute(FOREIGN_KEYS).scalars().all():
        connection.execute(text(f"ALTER TABLE notifications DROP CONSTRAINT {key}"))
    connection.execute(text("DROP INDEX " + ", ".join(connection.execute(INDEXES).scalars())))
    connection.execute(text("ALTER TABLE notifications SET (autovacuum_enabled = false)"))
    values = {"rows": ROWS, "ids": ids[:-1], "newest": NEWEST.replace(tzinfo=None), "seconds": DAYS * 86_400}
    connection.execute(text(FILL.format(rare=rare, **types)), values)
    connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    for definition in made:
        connection.execute(text(definition))


@pytest.fixture(params=[refresh_statistics, forget_statistics], ids=["fresh", "none"])
def known(request: pytest.FixtureRequest, filled: Filled) -> Filled:
    """And what its planner knows."""
    request.param(filled.engine)
    return filled


def scope(service_id: UUID, notification_type: str) -> Scope:
    return Scope(service_id, notification_type, REAL, created_before=CUTOFF, now=NEWEST, statuses_final=FINAL)


def assert_reads_in_order(known: Filled, plan: Plan, rows_read: float) -> None:
    """Through the index, without a sort of the whole range, and of the heap no more than the rows on the way."""
    assert (plan.indexes, plan.sorts) == ({THE_INDEX[known.name]}, [])
    assert plan.buffers <= 8 * rows_read + 200


of_any_size = pytest.mark.parametrize("size", ["largest", "smallest"])


@of_any_size
def test_the_choice_reads_an_index_of_the_platform_in_order_and_stops(known, size):
    """Of the type of which there is least: between the rows of others."""
    of = scope(getattr(known, size), known.rare)
    take = notifications_dao.choose_letters if known.rare == LETTER else notifications_dao.take_messages
    plan, *_ = explained(known.engine, lambda connection: take(connection, of, BATCH))
    assert_reads_in_order(known, plan, BATCH if known.name == "govuk-notify" else BATCH / known.share)
    assert plan.rows == (BATCH if size == "largest" else OF_THE_SMALLEST)


@of_any_size
def test_the_probe_for_what_is_left_stops_at_the_first_row(known, size):
    of = scope(getattr(known, size), known.rare)
    [plan] = explained(known.engine, lambda connection: notifications_dao.is_any_left(connection, of))
    assert_reads_in_order(known, plan, 1 / known.share)


def of_many(known: Filled, **more: Any) -> ManyServices:
    return ManyServices(known.rare, REAL, 7, 7, CUTOFF, NEWEST.date(), CUTOFF, NEWEST, **more)


def test_the_choice_of_many_services_reads_a_range_of_the_index_for_each_and_stops(known):
    plan, *_ = explained(
        known.engine, lambda connection: many_services_dao.take(connection, of_many(known), 100, BATCH)
    )
    assert (plan.indexes, plan.rows) == ({THE_INDEX[known.name]}, BATCH)
    assert plan.buffers <= 8 * (BATCH if known.name == "govuk-notify" else BATCH / known.share) + 400


def test_services_that_have_something_left_are_found_by_a_probe_each(known):
    found: list[UUID] = []
    [plan] = explained(
        known.engine,
        lambda connection: found.extend(many_services_dao.with_rows(connection, of_many(known), all_that_stays=True)),
    )
    assert len(found) == SERVICES
    assert plan.indexes == {THE_INDEX[known.name]}
    assert plan.buffers <= 8 * SERVICES / known.share + 400


def test_discovery_probes_the_index_once_a_service(known):
    found = []
    [plan] = explained(
        known.engine,
        lambda connection: found.extend(services_dao.services_with_overdue(connection, known.rare, {7: CUTOFF}, 7)),
    )
    assert len(found) == SERVICES
    assert plan.indexes == {THE_INDEX[known.name]}
    assert plan.buffers <= 8 * SERVICES / known.share + 200


def test_the_overdue_are_counted_up_to_the_cap(known):
    cap = 100
    with known.engine.connect() as connection:
        services = [(id_, CUTOFF) for id_ in connection.execute(text("SELECT id FROM services")).scalars()]
    found: list[overdue_dao.Overdue] = []
    [plan] = explained(
        known.engine,
        lambda connection: found.extend(overdue_dao.overdue(connection, known.rare, services, STATUSES, cap)),
    )
    assert {one.service_id: one.rows for one in found}[known.largest] == cap + 1
    assert plan.indexes == {THE_INDEX[known.name]}
    assert plan.buffers <= 8 * SERVICES * cap / known.share


def test_a_plan_counts_the_oldest_of_each_service_and_no_more(known):
    cap = 100
    found: list[overview_dao.ServiceOverdue] = []
    plans = explained(
        known.engine,
        lambda connection: found.extend(
            overview_dao.overdue_of_services(
                connection, known.rare, [(known.largest, CUTOFF), (known.smallest, CUTOFF)], STATUSES, NEWEST, cap
            )
        ),
    )
    largest, smallest = found
    assert (largest.more, largest.rows + largest.test_rows + largest.not_final) == (True, cap)
    assert (smallest.more, smallest.rows) == (False, OF_THE_SMALLEST)
    for plan in plans:
        assert_reads_in_order(known, plan, cap if known.name == "govuk-notify" else cap / known.share)


@pytest.mark.parametrize("is_indexed", [True, False], ids=["with an index", "without"])
def test_rows_that_something_refers_to_are_passed_over_in_the_order_of_the_index(known, is_indexed):
    """By one look each into the index on the reference, or into the table, which is hashed once."""
    referring = 2_000
    with known.engine.begin() as connection:
        connection.execute(text("CREATE TABLE refers (notification_id uuid REFERENCES notifications)"))
        oldest = "SELECT id FROM notifications WHERE service_id = :largest AND notification_type = :type"
        connection.execute(
            text(f"INSERT INTO refers {oldest} ORDER BY created_at LIMIT :referring"),
            {"largest": known.largest, "type": known.rare, "referring": referring},
        )
        if is_indexed:
            connection.execute(text("CREATE INDEX ON refers (notification_id)"))
    of = scope(known.largest, known.rare)
    take = notifications_dao.choose_letters if known.rare == LETTER else notifications_dao.take_messages
    try:
        plan, *_ = explained(known.engine, lambda connection: take(connection, of, BATCH))
    finally:
        with known.engine.begin() as connection:
            connection.execute(text("DROP TABLE refers"))
    read = BATCH + referring
    assert_reads_in_order(known, plan, read if known.name == "govuk-notify" else read / known.share)
    assert plan.rows == BATCH
