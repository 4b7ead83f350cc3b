"""A table that nobody planned for, added by an entry of a file, goes through a night on real workers with a kill."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import Connection, make_url, text

from app.celery import policy_tasks
from app.dao import policy_sweeps_dao
from app.db import db
from app.policies import sweeps
from app.retention import operations
from tests.acceptance.workers import Workers, eventually
from tests.factories import create_service, days_ago, naive
from tests.policies import checked, grant, ids, latest, parcel, steps_of, unplanned_tables, use

ENTRY = """
[parcels]
table = "parcels"
age = "created_at"
retention = { days = 7, of_service_for = "kind_id.template_type" }
then = { move = "parcels_history" }
files = { bucket = "local-test-letters", key = "of-{service_id}/{id}.csv" }
"""
SLOW = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER DELETE ON parcels FOR EACH STATEMENT EXECUTE FUNCTION be_slow();
ALTER TABLE parcels_history ADD CHECK (moved IS NULL AND kind_id <> '00000000-0000-0000-0000-000000000001');
"""
IN_THE_MIDDLE = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
)


@pytest.fixture
def workers(environment: dict[str, str], connection: Connection, tmp_path: Path) -> Iterator[Workers]:
    (tmp_path / "own.toml").write_text(ENTRY)
    given = {"RETENTION_POLICIES": str(tmp_path / "own.toml"), "POLICY_ROWS_PER_BATCH": "50"}
    with unplanned_tables(connection):
        started = Workers({**environment, **given}, tmp_path)
        yield started
        started.stop()
        connection.exec_driver_sql("DROP FUNCTION be_slow CASCADE")


def test_an_unplanned_table_goes_through_a_night_with_a_kill(
    app: Flask, connection: Connection, workers: Workers, administrator_s3, s3, tmp_path: Path
):
    connection.exec_driver_sql(SLOW)
    use(app, ENTRY, tmp_path)
    grant(connection, checked(app, "parcels"), make_url(app.extensions["settings"].database_url).username or "")
    kinds = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")
    for kind in kinds:
        connection.execute(
            text("INSERT INTO parcel_kinds (id, template_type) VALUES (CAST(:id AS uuid), 'sms')"), {"id": kind}
        )
    usual, longer, held = create_service(connection), create_service(connection, sms=90), create_service(connection)
    due = [parcel(connection, service_id=usual, kind_id=kinds[1]) for _ in range(18)]
    refused = parcel(connection, service_id=usual, kind_id=kinds[0])
    stay = {
        refused: usual,
        parcel(connection, service_id=longer, kind_id=kinds[1]): longer,
        parcel(connection, service_id=held, kind_id=kinds[1]): held,
        parcel(connection, service_id=usual, kind_id=kinds[1], created_at=naive(days_ago(1))): usual,
    }
    for one, service in [*((one, usual) for one in due), *stay.items()]:
        administrator_s3.put_object(Bucket="local-test-letters", Key=f"of-{service}/{one}.csv", Body=b"1")
    operations.hold(held, "a court", "somebody")

    first = workers.start("first", pool=1)
    [(sweep, step)] = sweeps.begin_now(["parcels"])
    workers.send(policy_tasks.sweep_policy, sweep, step)
    eventually(lambda: connection.execute(IN_THE_MIDDLE).scalar())
    first.kill()
    connection.exec_driver_sql("UPDATE retention.policy_sweeps SET lease_until = now(), due_at = now()")
    workers.start("second", pool=1)

    def is_over() -> bool:
        workers.remind(policy_tasks.dispatch_policies)
        return latest("parcels").state != "waiting"

    eventually(is_over)
    assert (latest("parcels").state, ids(connection)) == ("ended", set(stay))
    assert ids(connection, "parcels_history") == set(due)
    left = administrator_s3.list_objects_v2(Bucket="local-test-letters")["Contents"]
    assert {one["Key"] for one in left} == {f"of-{service}/{one}.csv" for one, service in stay.items()}
    assert sum(one["rows"] for one in steps_of(connection, "parcels")) == len(due)
    with db.transaction(read_only=True) as reading:
        assert [one.key for one in policy_sweeps_dao.deferred(reading, "parcels", 10)] == [str(refused)]
