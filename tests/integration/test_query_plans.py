"""The choice at scale: whatever the planner knows, it reads the one index in order and stops at the limit.

A million rows in a database of their own. The statements are those that `app.dao` sends, caught on their way and
explained with the same values in a transaction with the same settings. Buffers are counted, never time.

Seen to fail: the statuses of emails and text messages read where those that are overdue are counted.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from app.config import psycopg2_url
from app.dao import audit_dao, counting_dao, folders_dao, notifications_dao, overdue_dao, services_dao
from app.dao.letter_statuses import LetterStatuses
from app.dao.notifications_dao import REAL, Scope
from app.models.types import LETTER, SMS
from app.presets import FINAL, UNFINISHED
from tests.plans import Plan, explained
from tests.servers import migrated_database

THE_INDEX = "ix_notifications_service_id_notification_type_created_at"
ROWS = 1_000_000
ROWS_AMONG_FEW = 200_000
BATCH = 500
# A row of a batch costs its heap page, its lock and a share of an index page; the rest is for the way down the tree,
# catalogue look-ups and the letters that are passed over.
BUFFERS_OF_A_BATCH = 8 * BATCH + 200
BUFFERS_OF_A_PROBE = 100

NEWEST = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 60
STATUSES = LetterStatuses(FINAL, UNFINISHED)
CUTOFF = NEWEST - timedelta(days=7)
LOWER_BOUND = NEWEST - timedelta(days=30)

# Of a thousand rows, 300 belong to the largest service, the others are dealt out. Letters are a tenth, a few of
# them not final. In the order of their creation, like a live table.
FILL = text(
    """
    INSERT INTO notifications
        (id, "to", service_id, key_type, notification_type, notification_status, template_id, template_version,
         created_at, billable_units, international)
    SELECT gen_random_uuid(), 'x', services.ids[CASE WHEN dealt < 300 THEN 1 ELSE 2 + dealt % (services.count - 1) END],
           CASE WHEN i % 97 = 0 THEN 'test' ELSE 'normal' END,
           (ARRAY['letter', 'sms', 'sms', 'sms', 'email', 'email', 'email', 'email', 'email', 'email'])
               [1 + (i / 1000) % 10]::notification_type,
           CASE WHEN i % 53 = 0 THEN 'created' ELSE 'delivered' END,
           '00000000-0000-0000-0000-000000000000', 1,
           CAST(:newest AS timestamp) - make_interval(secs => :seconds * (1 - i / CAST(:rows AS float))), 1, false
    FROM generate_series(1, CAST(:rows AS bigint)) AS i,
         LATERAL (SELECT i * 7919 % 1000 AS dealt) AS deal,
         (SELECT CAST(:ids AS uuid[]) AS ids, cardinality(CAST(:ids AS uuid[])) AS count) AS services
    """
)
A_HANDFUL = text(
    """
    INSERT INTO notifications
        (id, "to", service_id, key_type, notification_type, notification_status, template_id, template_version,
         created_at)
    SELECT gen_random_uuid(), 'x', :service_id, 'normal', type::notification_type, 'delivered', gen_random_uuid(), 1,
           CAST(:newest AS timestamp) - make_interval(days => 8 + 10 * i)
    FROM generate_series(0, 4) AS i, unnest(ARRAY['sms', 'letter']) AS type
    """
)
INDEXES_BUT_GIN = text(
    """
    SELECT indexname, indexdef FROM pg_indexes
    WHERE tablename = 'notifications' AND indexname <> 'notifications_pkey' AND indexdef NOT LIKE '%USING gin%'
    """
)


@dataclass(frozen=True)
class Platform:
    """A filled database. The services are those with the most and the fewest rows."""

    engine: Engine
    largest: UUID
    smallest: UUID
    services: int


@contextmanager
def platform(server: str, rows: int, services: int) -> Iterator[Platform]:
    """A database with so many rows of so many services, and a last service with a handful."""
    ids = [uuid4() for _ in range(services)]
    with migrated_database(server) as url:
        engine = create_engine(psycopg2_url(url), poolclass=NullPool)
        with engine.begin() as connection:
            for service_id in ids:
                services_row = {"id": service_id, "name": str(service_id)}
                connection.execute(text("INSERT INTO services VALUES (:id, :name, true, now(), NULL)"), services_row)
            _fill(connection, rows, ids)
        yield Platform(engine, ids[0], ids[-1], services)


def _fill(connection: Connection, rows: int, ids: list[UUID]) -> None:
    """Fast: no constraints, and indexes only afterwards; the trigram ones, which no plan here could use, never."""
    newest = NEWEST.replace(tzinfo=None)
    indexes = [definition for _, definition in connection.execute(INDEXES_BUT_GIN)]
    names = connection.execute(
        text("SELECT indexname FROM pg_indexes WHERE tablename = 'notifications' AND indexname <> 'notifications_pkey'")
    ).scalars()
    connection.execute(text("DROP INDEX " + ", ".join(names)))
    for constraint in ("pkey", "service_id_fkey", "key_type_fkey", "notification_status_fkey"):
        connection.execute(text(f"ALTER TABLE notifications DROP CONSTRAINT notifications_{constraint}"))
    connection.execute(text("ALTER TABLE notifications SET (autovacuum_enabled = false)"))
    values = {"rows": rows, "ids": ids[:-1], "newest": newest, "seconds": DAYS * 86_400}
    connection.execute(FILL, values)
    connection.execute(A_HANDFUL, {"service_id": ids[-1], "newest": newest})
    connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    for definition in ["ALTER TABLE notifications ADD CONSTRAINT notifications_pkey PRIMARY KEY (id)", *indexes]:
        connection.execute(text(definition))


@pytest.fixture(scope="module")
def large(environment: dict[str, str]) -> Iterator[Platform]:
    with platform(environment["DATABASE_URL"], ROWS, services=40) as filled:
        yield filled


@pytest.fixture(scope="module")
def among_few(environment: dict[str, str]) -> Iterator[Platform]:
    with platform(environment["DATABASE_URL"], ROWS_AMONG_FEW, services=3) as filled:
        yield filled


def refresh_statistics(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE notifications"))


def forget_statistics(engine: Engine) -> None:
    """As after a restore, or a fail-over to a fresh replica's upgrade. Only a superuser can make it so."""
    with engine.begin() as connection:
        if connection.execute(text("SHOW is_superuser")).scalar() != "on":
            pytest.skip("statistics can only be forgotten by a superuser")
        connection.execute(text("DELETE FROM pg_statistic WHERE starelid = 'notifications'::regclass"))
        connection.execute(
            text("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = 'notifications'::regclass")
        )


def outdate_statistics(engine: Engine) -> None:
    """Those of a table that had the newest rows only, as before an import: what is overdue seems to be nothing."""
    forget_statistics(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE before (LIKE notifications)"))
        newest = {"newest": (NEWEST - timedelta(days=2)).replace(tzinfo=None)}
        connection.execute(text("INSERT INTO before SELECT * FROM notifications WHERE created_at > :newest"), newest)
        connection.execute(text("ANALYZE before"))
        connection.execute(
            text("UPDATE pg_statistic SET starelid = 'notifications'::regclass WHERE starelid = 'before'::regclass")
        )
        connection.execute(text("DROP TABLE before"))


@pytest.fixture(
    params=[refresh_statistics, outdate_statistics, forget_statistics],
    ids=["fresh", "outdated", "none"],
    scope="module",
)
def statistics(request: pytest.FixtureRequest) -> Callable[[Engine], None]:
    """What the planner knows."""
    return request.param


@pytest.fixture(params=["large", "among_few"], scope="module")
def known(request: pytest.FixtureRequest, statistics: Callable[[Engine], None]) -> Platform:
    """A database and what its planner knows."""
    filled: Platform = request.getfixturevalue(request.param)
    statistics(filled.engine)
    return filled


def scope(service_id: UUID, notification_type: str, created_from: datetime | None) -> Scope:
    return Scope(
        service_id,
        notification_type,
        REAL,
        created_before=CUTOFF,
        created_from=created_from,
        now=NEWEST,
        statuses_final=FINAL,
    )


def assert_reads_in_order(plan: Plan, most_buffers: int) -> None:
    """Through the one index, without a sort of the whole range, and no more than that."""
    assert (plan.indexes, plan.sorts) == ({THE_INDEX}, [])
    assert plan.buffers <= most_buffers


of_any_size = pytest.mark.parametrize("size", ["largest", "smallest"])
from_anywhere = pytest.mark.parametrize("created_from", [None, LOWER_BOUND], ids=["whole", "above a bound"])


@of_any_size
@from_anywhere
def test_the_choice_of_letters_reads_the_index_in_order_and_stops(known, size, created_from):
    of = scope(getattr(known, size), LETTER, created_from)
    [plan] = explained(known.engine, lambda connection: notifications_dao.choose_letters(connection, of, BATCH))
    assert_reads_in_order(plan, BUFFERS_OF_A_BATCH)
    assert plan.rows == BATCH if size == "largest" else 0 < plan.rows <= 5


@of_any_size
@from_anywhere
def test_the_choice_of_messages_reads_the_index_in_order_and_stops(known, size, created_from):
    of = scope(getattr(known, size), SMS, created_from)
    [plan] = explained(known.engine, lambda connection: notifications_dao.take_messages(connection, of, BATCH))
    assert_reads_in_order(plan, BUFFERS_OF_A_BATCH)
    assert plan.rows == BATCH if size == "largest" else 0 < plan.rows <= 5


@of_any_size
@from_anywhere
@pytest.mark.parametrize("notification_type", [LETTER, SMS])
def test_the_probe_for_what_is_left_stops_at_the_first_row(known, size, created_from, notification_type):
    of = scope(getattr(known, size), notification_type, created_from)
    [plan] = explained(known.engine, lambda connection: notifications_dao.is_any_left(connection, of))
    assert_reads_in_order(plan, BUFFERS_OF_A_PROBE)


@of_any_size
@pytest.mark.parametrize("notification_type", [LETTER, SMS])
def test_slices_are_bounded_by_reading_the_index_alone(known, size, notification_type):
    of = scope(getattr(known, size), notification_type, None)
    rows = 1_000
    plans = explained(known.engine, lambda connection: counting_dao.slice_bounds(connection, of, rows, slices=4))
    count, *bounds = plans
    assert len(bounds) == (3 if size == "largest" else 0)
    assert_reads_in_order(count, most_buffers=4 * rows // 10)
    for plan in bounds:
        assert_reads_in_order(plan, most_buffers=rows // 10)


def test_discovery_probes_the_index_once_a_service(known):
    cutoffs = {7: CUTOFF, 3: NEWEST - timedelta(days=3)}
    found: list[Any] = []
    [plan] = explained(
        known.engine,
        lambda connection: found.extend(services_dao.services_with_overdue(connection, LETTER, cutoffs, 7)),
    )
    assert plan.indexes == {THE_INDEX}
    assert plan.buffers <= BUFFERS_OF_A_PROBE + 10 * known.services
    assert {service_id for service_id, _, _ in found} >= {known.largest, known.smallest}
    assert len(found) == known.services


def test_the_letters_of_a_folder_are_counted_by_a_probe_a_service(known):
    found: list[Any] = []
    [plan] = explained(
        known.engine,
        lambda connection: found.extend(
            folders_dao.letters_of_services(connection, (CUTOFF - timedelta(days=7), CUTOFF), {7: CUTOFF}, 7)
        ),
    )
    assert plan.indexes == {THE_INDEX}
    # Each letter's index entry and heap page at most, and the way down the tree for each service.
    letters = sum(letters for letters, _ in found)
    assert letters > 100
    assert plan.buffers <= BUFFERS_OF_A_PROBE + 10 * known.services + 2 * letters


def test_files_without_a_row_are_found_by_a_probe_each(known):
    references = [f"{number:016X}" for number in range(1_000)]
    [plan] = explained(known.engine, lambda connection: folders_dao.count_orphans(connection, references))
    assert plan.indexes == {"ix_notifications_reference"}
    assert plan.buffers <= BUFFERS_OF_A_PROBE + 10 * len(references)


@of_any_size
def test_letters_that_are_deferred_are_passed_over_by_their_hashed_ids(large, size):
    """Ten thousand deferred letters are read once, not once for each row."""
    refresh_statistics(large.engine)
    service_id, deferred = getattr(large, size), 10_000
    with large.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO retention.deferred_rows "
                "SELECT n.id, :service, 'real', now(), 'AccessDenied', 1, now(), now(), 'infinity', false, 'letter' "
                "FROM notifications AS n WHERE n.service_id = :service AND n.notification_type = 'letter' "
                "ORDER BY n.created_at LIMIT :deferred"
            ),
            {"service": service_id, "deferred": deferred},
        )
    of = scope(service_id, LETTER, None)
    [plan] = explained(large.engine, lambda connection: notifications_dao.choose_letters(connection, of, BATCH))
    with large.engine.begin() as connection:
        connection.execute(text("TRUNCATE retention.deferred_rows"))
    assert_reads_in_order(plan, BUFFERS_OF_A_BATCH + 2 * deferred)
    assert plan.rows == (BATCH if size == "largest" else 0)


@pytest.mark.parametrize("notification_type", [LETTER, SMS])
def test_the_oldest_overdue_is_measured_by_a_probe_a_service_and_a_count_up_to_the_cap(known, notification_type):
    """Of 40 services, each with far more overdue rows than are counted."""
    cap, found = 100, []
    with known.engine.connect() as connection:
        services = connection.execute(text("SELECT id FROM services")).scalars().all()
    [plan] = explained(
        known.engine,
        lambda connection: found.extend(
            overdue_dao.overdue(connection, notification_type, [(id_, CUTOFF) for id_ in services], STATUSES, cap)
        ),
    )
    assert plan.indexes == {THE_INDEX}
    rows = {one.service_id: one.rows for one in found}
    assert (rows[known.largest], rows[known.smallest]) == (cap + 1, 5)
    # Down the index twice, an index entry and a heap page for each letter counted, and the few that are not final; of
    # others the index alone. The one sort is of the services.
    of_each = 2 * cap + 40 if notification_type == LETTER else 20
    assert plan.buffers <= BUFFERS_OF_A_PROBE + known.services * of_each


def test_an_audit_looks_references_up_in_the_index(known):
    references = [f"{number:016X}" for number in range(1_000)]
    [plan] = explained(known.engine, lambda connection: audit_dao.live_rows(connection, references))
    assert plan.indexes == {"ix_notifications_reference"}
    assert plan.buffers <= BUFFERS_OF_A_PROBE + 10 * 2 * len(references)


@pytest.mark.parametrize("status", ["delivered", "created", None])
def test_an_audit_reads_letters_a_page_at_a_time_by_the_index_on_their_status(known, status):
    page = 500
    after = (NEWEST - timedelta(days=20), UUID(int=0))
    [plan] = explained(
        known.engine, lambda connection: audit_dao.letters_page(connection, status, after, (None, NEWEST), page)
    )
    assert plan.indexes == {"ix_notifications_notification_type_composite"}
    assert plan.sorts == []
    # Each row's heap page, and a look into the list of letters that were seen.
    assert plan.buffers <= 8 * page + 200
    assert plan.rows <= page
    assert bool(plan.rows) == bool(status)
