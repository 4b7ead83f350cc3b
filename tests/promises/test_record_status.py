"""Promise 8 for an API that is no Python: `record_status`, as `adopt` prints it, called by a login of its own.

Seen to fail: a row in history not found; history looked at first; EXECUTE left to PUBLIC; UPDATE or SELECT granted on
the whole table.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from psycopg2 import errors
from sqlalchemy import Engine, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from app import clock
from app.config import psycopg2_url
from app.dao.notifications_dao import REAL
from app.dao.status_function import WRITERS
from app.retention.steps import Work, take_step
from app.retention.tools import tools
from tests.concurrency import wait_until, waiting_for_locks
from tests.factories import days_ago, tonight
from tests.least import DEPLOY, ROLE
from tests.promises.platforms import HISTORY, LIVE, Platform
from tests.variants import OWN
from tests.variants.adopted import Adopted, flask_adopt, login, url_of

SCHEMAS = "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class WHERE relname = :name"
# An enum, or a foreign key to a table of statuses.
NAMES_STATUSES = f"""
SELECT EXISTS (
    SELECT FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = '{LIVE}'::regclass AND a.attname = 'notification_status'
      AND (t.typtype = 'e' OR EXISTS (SELECT FROM pg_constraint AS c WHERE c.contype = 'f' AND c.conrelid = a.attrelid
                                      AND a.attnum = ANY (c.conkey)))
)
"""


@pytest.fixture(scope="module")
def printed(installed: Adopted, environment: dict[str, str]) -> str:
    """What `adopt` prints for the API of each platform."""
    names = {"PLATFORM_PRESET": installed.name, "RETENTION_SCHEMA": schema_of(installed)}
    said = flask_adopt(environment, url_of(installed.owner), **names).output
    block = said[said.index("For your API") : said.index("The least that the pipeline's role needs")]
    return "\n".join(line.removeprefix("  ") for line in block.splitlines() if line.startswith("  "))


@pytest.fixture(scope="module")
def api(installed: Adopted, printed: str) -> Iterator[Engine]:
    """Of a login that is a member of the role, and otherwise finds tables and nothing more."""
    with installed.owner.connect() as connection:
        found = connection.execute(
            text("SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class WHERE relname = :name"), {"name": LIVE}
        )
        schemas = found.scalars().all()
    usual = [f"GRANT CONNECT ON DATABASE {installed.owner.url.database} TO {ROLE}"]
    usual += [f"GRANT USAGE ON SCHEMA {schema} TO {ROLE}" for schema in schemas]
    with login(installed.owner, [*usual, printed.replace(WRITERS, ROLE)]) as url:
        yield create_engine(psycopg2_url(url), poolclass=NullPool)


def schema_of(installed: Adopted) -> str:
    return installed.environment.get("RETENTION_SCHEMA", "retention")


def record(api: Engine, platform: Platform, id_: UUID, status: str) -> str | None:
    """What the API does."""
    call = text(f"SELECT {schema_of(platform.adopted)}.record_status(CAST(:id AS uuid), :status)")
    with api.begin() as connection:
        written: str | None = connection.execute(call, {"id": id_, "status": status}).scalar_one()
        return written


def test_a_status_is_written_where_the_row_is(platform, api):
    before = clock.now()
    service = platform.service()
    live, moved, other = (
        platform.create(service, created_at=days_ago(1)),
        platform.create(service),
        platform.create(service),
    )
    platform.night()
    assert record(api, platform, live, "temporary-failure") == LIVE
    assert record(api, platform, moved, "temporary-failure") == HISTORY
    assert record(api, platform, uuid4(), "temporary-failure") is None
    for table, id_ in ((LIVE, live), (HISTORY, moved)):
        row = platform.row(table, id_)
        assert row["notification_status"] == "temporary-failure"
        assert before <= clock.from_column(row["updated_at"]) <= clock.now()
    assert platform.row(HISTORY, other)["notification_status"] != "temporary-failure"


def test_a_status_that_arrives_while_the_row_moves_is_written_to_history(platform, api):
    service = platform.service()
    email = platform.create(service)
    work = Work(tonight(), service, "email", REAL, clock.now(), 10)
    with ThreadPoolExecutor(1) as thread:
        with take_step(tools(), work) as step:
            assert step.report.moved == 1
            written = thread.submit(record, api, platform, email, "temporary-failure")
            wait_until(lambda: waiting_for_locks(platform.connection) == 1)
        assert written.result(10) == HISTORY
    assert platform.row(HISTORY, email)["notification_status"] == "temporary-failure"


def test_a_status_that_the_platform_does_not_have_is_refused_where_it_says_which_it_has(platform, api):
    live = platform.create(platform.service(), created_at=days_ago(1))
    says = platform.connection.execute(text(NAMES_STATUSES)).scalar_one()
    if not says:
        assert record(api, platform, live, "made-up") == LIVE
        return
    before = platform.row(LIVE, live)
    with pytest.raises(DBAPIError) as caught:
        record(api, platform, live, "made-up")
    assert isinstance(caught.value.orig, (errors.InvalidTextRepresentation, errors.ForeignKeyViolation))
    assert platform.row(LIVE, live) == before


@pytest.mark.parametrize("statement", ["UPDATE {} SET reference = NULL", "DELETE FROM {}", "SELECT service_id FROM {}"])
def test_who_may_call_it_may_do_nothing_else(platform, api, statement):
    platform.create(platform.service(), created_at=days_ago(1))
    with pytest.raises(DBAPIError) as caught, api.begin() as connection:
        connection.execute(text(statement.format(LIVE)))
    assert isinstance(caught.value.orig, errors.InsufficientPrivilege)


def test_nobody_else_may_call_it(platform, api):
    workers = create_engine(psycopg2_url(platform.adopted.url), poolclass=NullPool)
    with pytest.raises(DBAPIError) as caught:
        record(workers, platform, uuid4(), "delivered")
    assert isinstance(caught.value.orig, errors.InsufficientPrivilege)
    assert api.url != workers.url


def test_the_file_for_our_own_tables_says_the_same(installed, printed):
    if installed.name == OWN:
        file = (DEPLOY / "postgres" / "status_writer.sql").read_text()
        assert file.split("$$;\n", 1)[1].strip().replace("\n\n", "\n") == printed
