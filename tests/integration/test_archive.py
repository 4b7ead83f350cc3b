"""The archive: what leaves history is in the bucket, whole and exact; and can be listed, found and brought back."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pytest
from sqlalchemy import text

from app import clock
from app.archive import policy, upkeep, using, windows
from app.archive.tools import tools
from app.archive.windows import HOUR
from app.celery import archive_tasks, celery
from app.ops.collector import Collector
from app.retention import facts, overdue, plan
from tests.archives import BUCKET, OLD, manifest, many, rows_of, run
from tests.factories import create_history, create_service, days_ago


@pytest.fixture
def settings_override():
    return {"S3_BUCKET_ARCHIVE": BUCKET, "ARCHIVE_ROWS_PER_FILE": "300", "ARCHIVE_ROWS_PER_PAGE": "100"}


@pytest.fixture(autouse=True)
def bucket(archive_bucket):
    return archive_bucket


@pytest.fixture
def archive_in(administrator_s3, tmp_path):
    """Every archived file, fetched as a user of the bucket would."""

    def fetch():
        for one in administrator_s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            path = tmp_path / one["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            administrator_s3.download_file(BUCKET, one["Key"], str(path))
        return tmp_path

    return fetch


def test_old_history_goes_to_the_bucket_exactly_and_recent_history_stays(connection, archive_in):
    services = [create_service(connection) for _ in range(3)]
    many(connection, services, 700)
    recent = create_history(connection, service_id=services[0], created_at=days_ago(300))
    before = rows_of(connection)
    run()
    assert set(rows_of(connection)) == {recent}
    files = manifest()
    assert [(one.state, one.rows, one.removed) for one in files] == [
        ("done", 300, 300), ("done", 300, 300), ("done", 100, 100),
    ]  # fmt: skip
    assert files[0].key == "archive/table=notification_history/date=2020-05-17/part-0001.parquet"
    assert {service for one in files for service in one.services} == set(services)
    archived = duckdb.sql(
        f"SELECT * FROM read_parquet('{archive_in()}/archive/**/*.parquet', hive_partitioning = true)"
    )
    names = archived.columns
    found = {row[names.index("id")]: dict(zip(names, row, strict=True)) for row in archived.fetchall()}
    assert {str(row.pop("date")) for row in found.values()} == {"2020-05-17"}
    assert {row.pop("table") for row in found.values()} == {"notification_history"}
    del before[recent]
    expected = {id_: {name: row[name] for name in row if name != "created_by_id"} for id_, row in before.items()}
    for row in [*expected.values(), *found.values()]:
        row["rate_multiplier"] = str(row["rate_multiplier"])
    assert found == expected
    assert not connection.execute(text("SELECT count(*) FROM retention.archive_pages")).scalar()


def test_found_and_restored(connection):
    many(connection, [create_service(connection)], 50)
    before = rows_of(connection)
    one = next(iter(before))
    run()
    assert rows_of(connection) == {}
    found = using.find(tools(), "id", str(one))
    assert [row["id"] for row in found.rows] == [one]
    assert using.restore(tools(), using.in_window(tools(), None)) == 50
    assert using.restore(tools(), using.in_window(tools(), None)) == 0
    expected = {id_: {**row, "created_by_id": None} for id_, row in before.items()}
    assert rows_of(connection) == expected


def flask(app, *arguments):
    ended = app.test_cli_runner().invoke(args=["retention", "archive", *arguments])
    return ended.exit_code, ended.output


def test_the_commands_say_what_is_archived_and_do_nothing_without_yes(app, connection):
    service = create_service(connection)
    many(connection, [service], 20)
    before = rows_of(connection)
    one = next(id_ for id_, row in before.items() if row["reference"])
    run()
    code, listed = flask(app, "list")
    assert (code, "1 files, 20 rows" in listed, max(map(len, listed.splitlines())) <= 80) == (0, True, True)
    assert json.loads(flask(app, "list", "--json", "--window", "2020-05-17")[1])[0]["rows"] == 20
    assert json.loads(flask(app, "list", "--json", "--window", "2020-05-18")[1]) == []
    assert "1 files were read, 0 are not as they should be" in flask(app, "verify")[1]
    code, found = flask(app, "find", str(one))
    assert (code, "1 rows; read" in found, str(service) in found) == (0, True, True)
    code, found = flask(app, "find", "--reference", before[one]["reference"], "--window", "2020-05-17T10", "--json")
    assert (code, [row["id"] for row in json.loads(found)["rows"]]) == (0, [str(one)])
    assert flask(app, "find", str(service))[0] == 1
    assert flask(app, "find")[0] == 2
    assert "Would restore at most 1 rows" in flask(app, "restore", "--id", str(one))[1]
    assert "Would look through 1 files" in flask(app, "redact", "--id", str(one))[1]
    assert rows_of(connection) == {}
    assert "1 rows were restored" in flask(app, "restore", "--id", str(one), "--yes")[1]
    assert set(rows_of(connection)) == {one}
    assert "1 rows are gone" in flask(app, "redact", "--id", str(one), "--yes")[1]
    assert "0 rows are gone" in flask(app, "redact", "--id", str(one), "--yes")[1]
    assert flask(app, "find", str(one))[0] == 1
    assert "20 rows are gone" not in flask(app, "redact", "--service", str(service), "--yes")[1]
    assert [archive.state for archive in manifest()] == ["expired"]


def test_the_task_goes_on_until_nothing_is_left(connection):
    many(connection, [create_service(connection)], 350)
    for _ in range(4):
        archive_tasks.archive_history.apply(throw=True)
        celery.control.purge()
    assert rows_of(connection) == {}
    archive_tasks.verify_archives.apply(throw=True)


def test_nothing_of_it_is_imported_where_nothing_is_archived():
    code = "import app.celery, app.cli, app.wiring, sys; import app.celery.archive_tasks; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"pyarrow", "duckdb", "fsspec"}.isdisjoint(loaded)


UTC_WINDOWS = [
    (datetime(2025, 10, 26, 0, 59, tzinfo=UTC), HOUR, "2025-10-26T00"),
    (datetime(2025, 10, 26, 1, 0, tzinfo=UTC), HOUR, "2025-10-26T01"),
    (datetime(2025, 3, 30, 23, 59, tzinfo=UTC), timedelta(days=1), "2025-03-30"),
    (datetime(2024, 2, 29, 12, tzinfo=ZoneInfo("Australia/Sydney")), timedelta(days=1), "2024-02-29"),
    (datetime(1969, 12, 31, 23, 30, tzinfo=UTC), HOUR, "1969-12-31T23"),
]


@pytest.mark.parametrize(("instant", "length", "named"), UTC_WINDOWS)
def test_windows_are_in_utc_whatever_clocks_do(instant, length, named):
    window = windows.window_of(instant, length)
    assert (str(window), window.first <= instant < window.before) == (named, True)
    assert windows.parse(named) == window


def test_only_windows_all_of_whose_rows_are_old_enough_are_closed(app):
    of = policy.history(tools().settings)
    now = datetime(2026, 11, 30, 0, 0, tzinfo=UTC)
    assert of.closed_before(now) == datetime(2025, 11, 30, tzinfo=UTC)
    assert of.closed_before(now - timedelta(seconds=1)) == datetime(2025, 11, 29, tzinfo=UTC)


def test_the_plan_the_metrics_and_the_judgement_say_how_the_archive_stands(app, connection, s3):
    many(connection, [create_service(connection)], 400)
    connection.exec_driver_sql("ANALYZE notification_history")
    planned = plan.plan().archive
    assert (planned.rows, planned.more, planned.oldest) == (400, False, OLD)
    shown = app.test_cli_runner().invoke(args=["retention", "plan"]).output
    assert "400 rows of history from before" in " ".join(shown.split())

    def told():
        scraped = list(Collector(tools().settings).collect())
        return {one.name.removeprefix("retention_archive_"): one.samples[0].value for one in scraped if one.samples}

    due = clock.now() - (OLD.replace(hour=0) + timedelta(days=1 + 365))
    assert told()["overdue_age_seconds"] == pytest.approx(due.total_seconds(), abs=60)
    assert [one.state for one in judged() if one.policy == "archive"] == ["archive-stopped"]
    run()
    assert plan.plan().archive.rows == 0
    metrics = told()
    files = manifest()
    assert (metrics["files"], metrics["rows"], metrics["overdue_age_seconds"]) == (2, 400, 0)
    assert metrics["bytes"] == sum(one.bytes for one in files)
    assert metrics["oldest_timestamp_seconds"] == OLD.timestamp()
    assert metrics["verified_timestamp_seconds"] == min(one.finished_at for one in files).timestamp()
    assert metrics["damaged_files"] == 0
    assert 0 < metrics["bytes_ratio"] < 1
    assert [one for one in judged() if one.policy == "archive"] == []
    s3.put_object(Bucket=BUCKET, Key=files[0].key, Body=b"something else")
    upkeep.verify(tools(), files)
    assert told()["damaged_files"] == 1
    assert told()["verified_timestamp_seconds"] > max(one.finished_at for one in files).timestamp()
    assert [one.state for one in judged() if one.policy == "archive"] == ["archive-damaged"]


def judged():
    return facts.judgement_now(overdue.measure()).verdicts


def test_a_window_that_was_given_up_is_told_until_it_is_looked_at_again(connection):
    odd = create_history(connection, service_id=create_service(connection), created_at=OLD)
    connection.execute(text("UPDATE notification_history SET sent_at = 'infinity' WHERE id = :id"), {"id": odd})
    run()
    [one] = [one for one in judged() if one.policy == "archive"]
    assert (one.state, one.amount) == ("archive-given-up", 1)
    assert "has no form in the file" in one.sentence
    connection.execute(text("UPDATE retention.archives SET retry_at = now()"))
    assert "archive-given-up" not in [one.state for one in judged()]
