"""Policies that are data do what they say, to tables that no code knows.

Seen to fail, each by breaking the product: a cut-off that is itself past, holds not read, conditions left out, a
service's own retention not read, keys that refer not asked, the position not read, all rows removed after a refusal,
files deleted before the database was asked, the intent not read.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from freezegun import freeze_time
from sqlalchemy import Connection, make_url, text

from app import clock
from app.celery import celery
from app.dao import policy_sweeps_dao
from app.db import db
from app.policies import batches, planning, sweeps
from app.policies.batches import Blocked
from app.policies.registry import registry
from app.retention import operations
from app.state.judgement import EXIT_CODES, Severity
from dev.stack import BUCKETS as LOCAL_BUCKETS
from tests.concurrency import background
from tests.factories import create_service, days_ago, naive
from tests.integration.conftest import _make_anew as make_anew
from tests.policies import MOVED, checked, grant, ids, latest, parcel, steps_of, unplanned_tables, use, work_off

BUCKET = LOCAL_BUCKETS["S3_BUCKET_TEST_LETTERS"]
DELETED = MOVED.replace('{ move = "parcels_history" }', '"delete"')
OF_SERVICE = DELETED.replace("{ days = 7 }", '{ days = 7, of_service_for = "sms" }')
REDACTED = (
    MOVED.replace('{ move = "parcels_history" }', "{ redact = { archived = true, address = { null = true } } }")
    + "where = { archived = false }\n"
)
FILES = f'files = {{ bucket = "{BUCKET}", key = "of-{{service_id}}/{{id}}.csv" }}\n'


@pytest.fixture(autouse=True)
def tables(app: Flask, connection: Connection) -> Iterator[None]:
    with unplanned_tables(connection):
        yield


@pytest.fixture
def policy(app: Flask, connection: Connection, tmp_path: Path):
    """Takes entries, and gives the application what they need and nothing else."""

    def take(entries: str) -> None:
        use(app, entries, tmp_path)
        assert not registry().problems
        role = make_url(app.extensions["settings"].database_url).username or ""
        for name in set(registry().policies) - {"policy-steps", "policy-sweeps"}:
            grant(connection, checked(app, name), role)

    return take


@pytest.fixture
def bucket(app: Flask, s3: Any) -> str:
    """One that the application may list and delete in."""
    return BUCKET


@pytest.fixture(params=["plain", "versioned"])
def any_bucket(request: pytest.FixtureRequest, bucket: str, administrator_s3: Any) -> Iterator[str]:
    if request.param == "plain":
        yield bucket
        return
    on = {"Status": "Enabled"}
    administrator_s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=on)
    yield bucket
    make_anew(administrator_s3, bucket)


def keys(s3: Any) -> set[str]:
    return {one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


def put(s3: Any, service: UUID, *parcels: UUID) -> set[str]:
    names = {f"of-{service}/{one}.csv" for one in parcels}
    for name in names:
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"1")
    return names


@freeze_time("2026-06-10 12:00:00", tick=True)
@pytest.mark.parametrize(
    ("created_at", "goes"),
    [
        ("2026-06-02 22:59:59.999999", True),  # midnight of 3 June in London is 23:00 of the day before
        ("2026-06-02 23:00:00", False),
        (None, False),
    ],
)
def test_a_row_moves_from_the_instant_that_is_its_cut_off(connection, policy, created_at, goes):
    policy(MOVED)
    service = create_service(connection)
    one = parcel(connection, created_at=created_at, service_id=service)
    work_off("parcels")
    assert (one not in ids(connection), one in ids(connection, "parcels_history")) == (goes, goes)
    assert [(step["rows"], step["services"], step["removed_of"]) for step in steps_of(connection, "parcels")] == (
        [(1, [service], [1])] if goes else []
    )


@freeze_time("2026-06-10 12:00:00", tick=True)
def test_hours_and_minutes_are_to_the_second(connection, policy):
    policy(DELETED.replace("{ days = 7 }", "{ hours = 2 }"))
    past, not_yet = (parcel(connection, created_at=at) for at in ("2026-06-10 09:59:59", "2026-06-10 10:00:30"))
    work_off("parcels")
    assert ids(connection) == {not_yet}
    assert past not in ids(connection)


def test_of_several_columns_the_first_that_is_set_counts_and_a_path_leads_to_another_table(app, connection, policy):
    connection.exec_driver_sql("ANALYZE parcels")
    old, new = naive(days_ago(30)), naive(days_ago(1))
    kinds = {name: uuid4() for name in ("old", "new")}
    for name, listed in (("old", old), ("new", new)):
        connection.execute(
            text("INSERT INTO parcel_kinds (id, listed_at) VALUES (:id, :at)"), {"id": kinds[name], "at": listed}
        )
    gone = parcel(connection, sent_at=old, created_at=new)
    stays = parcel(connection, sent_at=new, created_at=old)
    policy(DELETED.replace('"created_at"', '["sent_at", "created_at"]'))
    work_off("parcels")
    assert ids(connection) == {stays}
    by_kind = {name: parcel(connection, kind_id=kind) for name, kind in kinds.items()}
    policy(DELETED.replace("parcels]", "by-kind]").replace('"created_at"', '"kind_id.listed_at"'))
    work_off("by-kind")
    assert ids(connection) == {stays, by_kind["new"]}, "a path that is NULL is not due"
    assert gone not in ids(connection)


def test_only_rows_that_meet_every_condition_go(connection, policy):
    policy(DELETED + 'where = { state = { in = ["sent", "gone"] }, weight = { above = 3 }, note = { set = false } }\n')
    goes = parcel(connection, state="sent", weight=4)
    stay = {
        parcel(connection, state="packed", weight=4),
        parcel(connection, state="sent", weight=3),
        parcel(connection, state="sent"),
        parcel(connection, state="gone", weight=9, note="{}"),
    }
    work_off("parcels")
    assert ids(connection) == stay
    assert goes not in stay


def test_each_services_own_retention_counts_and_a_refused_one_keeps_its_rows(connection, policy):
    policy(OF_SERVICE)
    usual, longer = create_service(connection), create_service(connection, sms=60)
    refused, of_emails = create_service(connection), create_service(connection, email=1)
    connection.exec_driver_sql("ALTER TABLE service_data_retention DISABLE TRIGGER USER")
    connection.execute(
        text(
            "INSERT INTO service_data_retention (id, service_id, notification_type, days_of_retention, created_at) "
            "VALUES (gen_random_uuid(), :id, 'sms', 0, now())"
        ),
        {"id": refused},
    )
    rows = {
        name: parcel(connection, service_id=service, created_at=naive(days_ago(age)))
        for name, service, age in (
            ("usual", usual, 30),
            ("usual but new", usual, 3),
            ("longer", longer, 30),
            ("longer and past", longer, 90),
            ("refused", refused, 90),
            ("of another type", of_emails, 30),
            ("of no service", None, 90),
        )
    }
    work_off("parcels")
    gone = {name for name, one in rows.items() if one not in ids(connection)}
    assert gone == {"usual", "longer and past", "of another type"}


def test_a_redacted_row_stays_without_what_was_taken_from_it_and_is_not_chosen_again(connection, policy):
    policy(REDACTED)
    one = parcel(connection)
    work_off("parcels")
    assert connection.execute(text("SELECT id, archived, address FROM parcels")).all() == [(one, True, None)]
    work_off("parcels")
    assert [step["rows"] for step in steps_of(connection, "parcels")] == [1]


def test_a_redaction_may_set_the_time_another_column_or_a_word(connection, policy):
    policy(
        DELETED.replace('"delete"', '{ redact = { state = "gone", sent_at = { now = true }, seen_on = { now = true }, '
                        'sender_id = { null = true } } }')
        + 'where = { state = { not = "gone" } }\n'
    )  # fmt: skip
    parcel(connection)
    work_off("parcels")
    row = connection.execute(text("SELECT state::text, sent_at, seen_on FROM parcels")).one()
    assert row[0] == "gone"
    assert abs(clock.from_column(row[1]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert row[2] is not None


def test_a_row_that_others_refer_to_stays_and_keeps_nobody_waiting(connection, policy):
    policy(DELETED)
    kept, gone = parcel(connection), parcel(connection)
    connection.execute(text("INSERT INTO parcel_marks VALUES (gen_random_uuid(), :id)"), {"id": kept})
    work_off("parcels")
    assert ids(connection) == {kept}
    assert gone != kept
    assert (latest("parcels").state, latest("parcels").deferred) == ("ended", 0), "it was not even tried"


def test_rows_that_go_by_cascade_go_where_they_are_named(connection, policy):
    connection.exec_driver_sql("INSERT INTO boxes VALUES (1, now() - interval '9 days'), (2, now())")
    connection.exec_driver_sql("INSERT INTO box_lids VALUES (1, 1), (2, 2)")
    connection.exec_driver_sql("ANALYZE boxes")
    policy(DELETED.replace('"parcels"', '"boxes"') + 'takes = ["box_lids"]\n')
    work_off("parcels")
    assert ids(connection, "boxes") == ids(connection, "box_lids") == {2}


def test_it_goes_on_batch_after_batch_and_equal_ages_are_told_apart(app, connection, policy, monkeypatch):
    monkeypatch.setattr(batches.Work, "limit", 3)
    policy(DELETED)
    at = naive(days_ago(20))
    for _ in range(8):
        parcel(connection, created_at=at)
    sent = work_off("parcels")
    assert ids(connection) == set()
    assert [step["rows"] for step in steps_of(connection, "parcels")] == [3, 3, 2]
    assert [step for _, step in sent] == [0, 1, 2]


def test_a_redaction_that_a_trigger_undoes_ends_all_the_same(connection, policy, monkeypatch):
    monkeypatch.setattr(batches.Work, "limit", 2)
    policy(REDACTED)
    connection.exec_driver_sql(
        "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN new.archived := false; RETURN new; END $$; "
        "CREATE TRIGGER undo BEFORE UPDATE ON parcels FOR EACH ROW EXECUTE FUNCTION undo()"
    )
    for _ in range(5):
        parcel(connection, created_at=naive(days_ago(20)))
    assert len(work_off("parcels")) == 3
    connection.exec_driver_sql("DROP FUNCTION undo CASCADE")


def test_a_row_that_the_database_refuses_is_held_back_and_the_others_go(connection, policy):
    policy(MOVED)
    connection.exec_driver_sql("ALTER TABLE parcels_history ADD CHECK (kind_id IS NULL)")
    kind = uuid4()
    connection.execute(text("INSERT INTO parcel_kinds (id) VALUES (:id)"), {"id": kind})
    rows = [parcel(connection) for _ in range(40)]
    bad = parcel(connection, kind_id=kind, created_at=naive(days_ago(25)))
    work_off("parcels")
    assert ids(connection) == {bad}
    assert ids(connection, "parcels_history") == set(rows)
    with db.transaction(read_only=True) as reading:
        [held] = policy_sweeps_dao.deferred(reading, "parcels", 10)
    assert (held.key, held.reason, held.sqlstate) == (str(bad), "CheckViolation", "23514")
    assert held.refused_by == "parcels_history_kind_id_check of parcels_history"
    assert work_off("parcels")
    assert latest("parcels").deferred == 0, "it is not tried before its time"
    connection.exec_driver_sql("ALTER TABLE parcels_history DROP CONSTRAINT parcels_history_kind_id_check")
    with db.transaction() as writing:
        assert policy_sweeps_dao.retry(writing, "parcels", clock.now()) == 1
    work_off("parcels")
    assert ids(connection) == set()
    with db.transaction(read_only=True) as reading:
        assert policy_sweeps_dao.deferred(reading, "parcels", 10) == []


def test_a_database_that_refuses_everything_blocks_the_policy_with_its_reason(connection, policy):
    policy(MOVED)
    connection.exec_driver_sql("ALTER TABLE parcels_history ADD CHECK (moved IS NOT NULL)")
    rows = {parcel(connection) for _ in range(5)}
    work_off("parcels")
    assert ids(connection) == rows
    assert latest("parcels").state == "blocked"
    assert "the database refuses every row: CheckViolation 23514" in (latest("parcels").reason or "")


def test_a_hold_keeps_the_rows_of_its_service_and_the_others_go(connection, policy):
    policy(DELETED)
    held, free = create_service(connection), create_service(connection)
    kept, gone = parcel(connection, service_id=held), parcel(connection, service_id=free)
    assert operations.hold(held, "a court", "somebody").is_confirmed
    work_off("parcels")
    assert ids(connection) == {kept}
    operations.lift(str(held), "somebody")
    work_off("parcels")
    assert ids(connection) == set()
    assert gone != kept


def test_a_hold_on_a_user_keeps_the_rows_that_name_the_user(connection, policy):
    policy(DELETED + 'user = "sender_id"\n')
    user = connection.execute(text("SELECT id FROM users")).scalar_one()
    kept = parcel(connection, sender_id=user)
    parcel(connection)
    operations.hold_user(user, "a court", "somebody")
    work_off("parcels")
    assert ids(connection) == {kept}


def test_a_hold_waits_for_the_batch_that_was_under_way(app, connection, policy, monkeypatch):
    policy(DELETED)
    service = create_service(connection)
    parcel(connection, service_id=service)
    [wake] = sweeps.begin_now(["parcels"])
    seen = []

    def hold_meanwhile(*arguments: Any) -> Any:
        with background(app) as start:
            seen.append(start(operations.hold, service, "a court", "somebody", 0.3).result())
        return real(*arguments)

    real = batches._without_files
    monkeypatch.setattr(batches, "_without_files", hold_meanwhile)
    sweeps.run_step(*wake)
    assert [str(unit) for unit in seen[0].still_running] == [f"batch {wake[0]} of a policy"]


def test_a_pause_stops_it_and_it_goes_on_afterwards(connection, policy):
    policy(DELETED)
    one = parcel(connection)
    operations.pause("a storm", "somebody")
    [wake] = sweeps.begin_now(["parcels"])
    assert sweeps.run_step(*wake) is None
    assert ids(connection) == {one}
    assert (latest("parcels").state, latest("parcels").reason) == ("waiting", "paused")
    operations.lift("pipeline", "somebody")
    connection.exec_driver_sql("UPDATE retention.policy_sweeps SET due_at = now()")
    [wake] = sweeps.take_due()
    sweeps.run_step(*wake)
    assert ids(connection) == set()


def test_a_row_that_somebody_else_has_locked_is_passed_over(connection, policy, administrator_engine):
    policy(DELETED)
    locked, free = parcel(connection), parcel(connection)
    with administrator_engine.begin() as other:
        other.execute(text("SELECT FROM parcels WHERE id = :id FOR UPDATE"), {"id": locked})
        work_off("parcels")
    assert ids(connection) == {locked}
    assert free != locked


def test_a_stale_message_and_a_second_one_do_nothing(connection, policy):
    policy(DELETED)
    parcel(connection)
    [(sweep, step)] = sweeps.begin_now(["parcels"])
    with pytest.raises(sweeps.UnderWay):
        sweeps.begin_now(["parcels"])
    assert sweeps.run_step(sweep, step + 1) is None
    assert len(ids(connection)) == 1
    sweeps.run_step(sweep, step)
    assert len(ids(connection)) == 0
    assert sweeps.run_step(sweep, step) is None


def test_a_worker_that_outlived_its_lease_changes_nothing(connection, policy, monkeypatch):
    policy(DELETED)
    one = parcel(connection)
    [wake] = sweeps.begin_now(["parcels"])
    real = batches._standing

    def late(*arguments: Any) -> Any:
        connection.exec_driver_sql("UPDATE retention.policy_sweeps SET lease_token = gen_random_uuid()")
        return real(*arguments)

    monkeypatch.setattr(batches, "_standing", late)
    assert sweeps.run_step(*wake) is None
    assert ids(connection) == {one}


def test_what_no_longer_fits_blocks_the_policy_and_no_other(app, connection, policy):
    policy(MOVED + DELETED.replace("[parcels]", "[others]").replace('"parcels"', '"parcel_odd"'))
    connection.exec_driver_sql("ANALYZE parcel_odd")
    wakes = sweeps.begin_now(["parcels"])
    connection.exec_driver_sql("ALTER TABLE parcels_history ADD COLUMN size integer NOT NULL")
    sweeps._believed.clear()
    assert sweeps.run_step(*wakes[0]) is None
    assert "needs a value for size, which parcels lacks" in (latest("parcels").reason or "")
    with pytest.raises(Blocked, match="needs a value for size"):
        sweeps.begin_now(["parcels"])


# Files ---------------------------------------------------------------------------------------------------------------


def test_the_object_of_each_row_goes_with_it_and_no_other(connection, policy, any_bucket, administrator_s3):
    s3 = administrator_s3
    policy(REDACTED + FILES)
    service = create_service(connection)
    past, new = (
        parcel(connection, service_id=service),
        parcel(connection, service_id=service, created_at=naive(days_ago(1))),
    )
    put(s3, service, past)
    put(s3, service, past)
    kept = put(s3, service, new)
    s3.put_object(Bucket=any_bucket, Key=f"of-{service}/{past}.csv.copy", Body=b"1")
    work_off("parcels")
    files = 2 if "Status" in s3.get_bucket_versioning(Bucket=any_bucket) else 1
    assert keys(s3) == kept | {f"of-{service}/{past}.csv.copy"}
    listed = s3.list_object_versions(Bucket=any_bucket)
    left = {one["Key"] for one in [*listed["Versions"], *listed.get("DeleteMarkers", [])]}
    assert left == keys(s3), "every version of it"
    [step] = steps_of(connection, "parcels")
    assert (step["rows"], step["files"], step["missing"]) == (1, files, 0)


def test_a_row_without_an_object_is_counted_and_goes(connection, policy, bucket):
    policy(DELETED + FILES)
    parcel(connection, service_id=create_service(connection))
    without = parcel(connection)
    work_off("parcels")
    assert ids(connection) == {without}, "a NULL in the key: not due"
    assert [step["missing"] for step in steps_of(connection, "parcels")] == [1]


def test_too_many_rows_without_an_object_block_the_policy_before_anything_goes(
    connection, policy, bucket, administrator_s3
):
    policy(DELETED + FILES)
    service = create_service(connection)
    rows = [parcel(connection, service_id=service) for _ in range(30)]
    left = put(administrator_s3, service, *rows[:20])
    work_off("parcels")
    assert ids(connection) == set(rows)
    assert keys(administrator_s3) == left
    assert "10 of 30 rows have no object in bucket local-test-letters" in (latest("parcels").reason or "")
    policy(DELETED + FILES.replace(" }", ", expected = false }"))
    work_off("parcels")
    assert ids(connection) == set()


def test_no_object_goes_of_a_row_that_the_database_refuses(connection, policy, bucket, administrator_s3):
    policy(MOVED + FILES)
    connection.exec_driver_sql("ALTER TABLE parcels_history ADD CHECK (kind_id IS NULL)")
    kind, service = uuid4(), create_service(connection)
    connection.execute(text("INSERT INTO parcel_kinds (id) VALUES (:id)"), {"id": kind})
    bad = parcel(connection, kind_id=kind, service_id=service)
    rows = [parcel(connection, service_id=service) for _ in range(4)]
    kept = put(administrator_s3, service, bad)
    put(administrator_s3, service, *rows)
    work_off("parcels")
    assert keys(administrator_s3) == kept
    assert ids(connection) == {bad}


def test_what_a_killed_worker_left_is_done_again_and_does_not_count_as_missing(
    connection, policy, bucket, administrator_s3, monkeypatch
):
    policy(DELETED + FILES)
    service = create_service(connection)
    rows = [parcel(connection, service_id=service) for _ in range(25)]
    put(administrator_s3, service, *rows)
    [(sweep, step)] = sweeps.begin_now(["parcels"])

    class Killed(BaseException):
        """As if the process were gone."""

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(batches, "_end", die)
        with pytest.raises(Killed):
            sweeps.run_step(sweep, step)
    assert (keys(administrator_s3), ids(connection)) == (set(), set(rows)), "the files are gone, the rows are not"
    connection.exec_driver_sql("UPDATE retention.policy_sweeps SET lease_until = now(), due_at = now()")
    wake = (sweep, step)
    while wake is not None:
        wake = sweeps.run_step(*wake)
    assert latest("parcels").state == "ended"
    assert ids(connection) == set()
    assert sum(step["missing"] for step in steps_of(connection, "parcels")) == len(rows)


def test_a_bucket_that_refuses_blocks_the_policy(connection, policy):
    policy(DELETED + FILES.replace(BUCKET, "there-is-no-such-bucket"))
    one = parcel(connection, service_id=create_service(connection))
    work_off("parcels")
    assert ids(connection) == {one}
    assert "the bucket refuses" in (latest("parcels").reason or "")


# Schedules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "now", "period"),
    [
        ("night", "2026-06-10T01:59:59", "2026-06-09T02:00:00"),
        ("night", "2026-06-10T02:00:00", "2026-06-10T02:00:00"),  # 03:00 in London
        ("night", "2026-12-10T03:00:00", "2026-12-10T03:00:00"),
        ("hour", "2026-06-10T02:59:59", "2026-06-10T02:00:00"),
        ("hour", "2026-06-10T03:00:00", "2026-06-10T03:00:00"),
    ],
)
def test_a_policy_is_due_once_a_night_or_an_hour(app, policy, every, now, period):
    policy(DELETED + f'every = "{every}"\n')
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    found = sweeps.period_of(registry().policies["parcels"], at, app.extensions["settings"])
    assert found == datetime.fromisoformat(period).replace(tzinfo=UTC)


def test_each_period_opens_one_sweep_however_many_ask(app, connection, policy):
    policy(DELETED + 'every = "hour"\n')
    opened = "SELECT count(*) FROM retention.policy_sweeps WHERE policy = 'parcels'"

    def ask(now: datetime) -> int:
        with db.transaction() as writing:
            period = sweeps.period_of(registry().policies["parcels"], now, app.extensions["settings"])
            policy_sweeps_dao.begin(writing, {"parcels": period}, now, sweeps.FIRST)
        return connection.exec_driver_sql(opened).scalar_one()

    noon = datetime(2026, 6, 10, 12, 10, tzinfo=UTC)
    assert ask(noon) == 1
    assert ask(noon + timedelta(minutes=20)) == 1
    assert ask(noon + timedelta(hours=1)) == 1, "the one before is under way"
    connection.exec_driver_sql("UPDATE retention.policy_sweeps SET state = 'ended'")
    assert ask(noon + timedelta(hours=1)) == 2
    connection.exec_driver_sql("UPDATE retention.policy_sweeps SET state = 'blocked' WHERE state = 'waiting'")
    assert ask(noon + timedelta(hours=2)) == 2, "what is blocked goes on"
    states = connection.exec_driver_sql("SELECT state FROM retention.policy_sweeps ORDER BY id").scalars().all()
    assert states == ["ended", "waiting"]


def test_a_new_nightly_policy_waits_for_its_first_night(connection, policy):
    policy(DELETED)
    now = datetime(2026, 6, 10, 15, tzinfo=UTC)
    for period, opened in ((now - timedelta(hours=13), 0), (now - timedelta(minutes=5), 1)):
        with db.transaction() as writing:
            policy_sweeps_dao.begin(writing, {"parcels": period}, now, sweeps.FIRST)
        assert connection.exec_driver_sql("SELECT count(*) FROM retention.policy_sweeps").scalar_one() == opened


def test_what_the_product_keeps_of_policies_is_a_policy_itself(connection, policy):
    policy(DELETED)
    parcel(connection)
    work_off("parcels")
    connection.exec_driver_sql("UPDATE retention.policy_steps SET began_at = now() - interval '500 days'")
    connection.exec_driver_sql("UPDATE retention.policy_sweeps SET finished_at = now() - interval '500 days'")
    connection.exec_driver_sql("ANALYZE retention.policy_steps; ANALYZE retention.policy_sweeps")
    work_off("policy-steps")
    work_off("policy-sweeps")
    assert steps_of(connection, "parcels") == []
    assert connection.exec_driver_sql("SELECT policy FROM retention.policy_sweeps ORDER BY 1").scalars().all() == [
        "policy-steps",
        "policy-sweeps",
    ]


def test_a_plan_counts_what_would_go_and_writes_nothing(connection, policy):
    policy(OF_SERVICE)
    service = create_service(connection)
    parcel(connection, service_id=service)
    parcel(connection, service_id=service, created_at=naive(days_ago(1)))
    parcel(connection, service_id=create_service(connection, sms=90))
    [planned] = planning.plan([registry().policies["parcels"]])
    assert (planned.rows, planned.problem) == (1, None)
    assert len(ids(connection)) == 3


def test_the_commands_know_policies(app, connection, policy):
    policy(MOVED)
    connection.exec_driver_sql("ALTER TABLE parcels_history ADD CHECK (kind_id IS NULL)")
    kind = uuid4()
    connection.execute(text("INSERT INTO parcel_kinds (id) VALUES (:id)"), {"id": kind})
    bad = [parcel(connection, kind_id=kind), *(parcel(connection) for _ in range(3))][0]

    def say(*arguments: str) -> str:
        ended = app.test_cli_runner().invoke(args=["retention", *arguments])
        assert ended.exit_code in (0, *EXIT_CODES.values()), ended.output
        return " ".join(ended.output.split())

    assert "Nothing is held back." in say("deferred")
    assert "parcels 4 rows past their time" in say("plan")
    assert "parcels 4 rows past their time" in say("run", "--policy", "parcels", "--dry-run")
    assert len(ids(connection)) == 4
    work_off("parcels")
    assert "parcels: ended, begun at" in say("status")
    assert "3 rows and 0 files gone, 1 held back." in say("status")
    assert f"parcels {bad} CheckViolation 23514 parcels_history_kind_id_check of parcels_history" in say("deferred")
    assert [row["key"] for row in json.loads(say("deferred", "--json"))["of_policies"]] == [str(bad)]
    assert [one["deferred"] for one in json.loads(say("status", "--json"))["policies"]] == [1]
    assert app.test_cli_runner().invoke(args=["retention", "deferred"]).exit_code == EXIT_CODES[Severity.ATTENTION]
    assert "1 are due" in say("retry", "--policy", "parcels")
    assert "1 sweeps started." in say("run", "--policy", "parcels")
    wrong = app.test_cli_runner().invoke(args=["retention", "run", "--policy", "nobody"])
    assert (wrong.exit_code, "there is no policy 'nobody'" in wrong.output) == (1, True)
    celery.control.purge()
