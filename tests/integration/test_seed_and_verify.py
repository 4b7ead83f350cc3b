"""A seed, a night done right, and each way in which a night can go wrong: verification must see every one."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from dev.product import migrate
from dev.seed import FILES, LETTERS, MESSAGES, Plan, Seeded, seed
from dev.seed_model import Buckets
from dev.stack import Stack
from dev.verify import Result, Verification

# What verification itself says should happen, so these tests say nothing about its rules: the cases do that,
# whose outcomes the seed states.
A_GOOD_NIGHT = """
INSERT INTO notification_history ({columns})
SELECT {columns} FROM notifications JOIN verification.live AS due USING (id) WHERE due.expected = 'moved'
ON CONFLICT (id) DO UPDATE SET ({columns}) = ROW ({excluded})
WHERE coalesce(excluded.updated_at, excluded.created_at)
   >= coalesce(notification_history.updated_at, notification_history.created_at);
DELETE FROM notifications AS n USING verification.live AS due
WHERE due.id = n.id AND due.expected IN ('moved', 'deleted');
INSERT INTO retention.deferred_rows
SELECT id, service_id, CASE WHEN test THEN 'test' ELSE 'real' END, now(), 'AmbiguousReference', 1,
       now(), now(), now(), false, 'letter'
FROM verification.live WHERE expected = 'ambiguous';
"""
FILES_DUE = """
SELECT DISTINCT f.bucket, f.key
FROM verification.files AS f JOIN verification.owners AS o USING (bucket, prefix)
JOIN verification.live AS due USING (id) WHERE due.expected IN ('moved', 'deleted')
"""


@dataclass
class World:
    """A stack with a seed and a night that went well, each test on a copy of its database."""

    stack: Stack
    s3: Any
    buckets: Buckets
    seeded: Seeded
    url: str

    def execute(self, statement: str, *values: object) -> list[tuple]:
        with closing(psycopg2.connect(self.url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, statement: str, *values: object) -> Any:
        return self.execute(statement, *values)[0][0]

    def any_row(self, expected: str, kind: str = "email") -> str:
        return self.one(
            "SELECT id::text FROM verification.live WHERE expected = %s AND type = %s ORDER BY id LIMIT 1",
            expected,
            kind,
        )

    def verification(self) -> Verification:
        return Verification(self.url, self.s3, self.buckets)

    def verify(self) -> Result:
        return self.verification().after(self.seeded.cases)


@pytest.fixture(scope="module")
def night() -> Iterator[World]:
    now = datetime.now(UTC)
    with Stack() as stack, closing(stack.s3.client()) as s3:
        buckets = Buckets.from_environment(stack.environment)
        url = stack.postgres.create_database("night")
        migrate(url)
        plan = Plan(now, messages=600, letters=120, history=100)
        world = World(stack, s3, buckets, seed(url, s3, buckets, plan), url)
        world.verification().before(now)
        _do_it_right(world)
        yield world


@pytest.fixture
def world(night: World) -> Iterator[World]:
    name = f"copy_{uuid4().hex}"
    url = night.stack.postgres.create_database(name, template="night")
    yield World(night.stack, night.s3, night.buckets, night.seeded, url)
    night.stack.postgres.drop_database(name)


def _do_it_right(world: World) -> None:
    names = world.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'notification_history'"
    )
    columns = ", ".join(f'"{name}"' for (name,) in names)
    excluded = ", ".join(f'excluded."{name}"' for (name,) in names)
    # `expected` and the like are columns of the snapshot, too: the live table's are meant
    live = A_GOOD_NIGHT.replace("SELECT {columns} FROM notifications", "SELECT {live} FROM notifications")
    world.execute(
        live.format(
            columns=columns,
            excluded=excluded,
            live=", ".join(f'notifications."{name}"' for (name,) in names),
        )
    )
    for bucket, key in world.execute(FILES_DUE):
        world.s3.delete_object(Bucket=bucket, Key=key)


def test_a_night_that_went_well_passes_with_every_awkward_case(world):
    result = world.verify()
    assert list(result.details()) == []
    assert result.summary == "0 rows lost, 0 files orphaned, 0 kept too long"
    assert result.ok
    assert result.cases == len({expected.case for expected in world.seeded.cases}) > 25
    assert result.files_deleted > 200


def test_the_counts_of_a_type_add_up_to_its_rows(world):
    counts = world.verify().counts
    assert set(counts) == {"email", "sms", "letter"}
    for kind, count in counts.items():
        assert count.before == sum(count[1:]), kind
    assert counts["email"].before + counts["sms"].before == world.seeded.written[MESSAGES]
    assert counts["letter"].before == world.seeded.written[LETTERS]
    assert counts["letter"].deferred == 3
    assert counts["email"].refused == 6


def test_a_row_in_neither_table_is_lost(world):
    lost = world.any_row("moved")
    world.execute("DELETE FROM notification_history WHERE id = %s", lost)
    result = world.verify()
    assert result.lost == [(lost, "is in neither table")]
    assert result.summary == "1 rows lost, 0 files orphaned, 0 kept too long"
    assert not result.ok


def test_a_row_of_earlier_history_that_has_gone_is_lost(world):
    lost = world.one(
        "SELECT id::text FROM verification.history AS h "
        "WHERE NOT EXISTS (SELECT FROM verification.live AS l WHERE l.id = h.id) LIMIT 1"
    )
    world.execute("DELETE FROM notification_history WHERE id = %s", lost)
    assert world.verify().lost == [(lost, "has left history")]


def _copy_into_history(world: World, row: str) -> None:
    names = world.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'notification_history'"
    )
    columns = ", ".join(f'"{name}"' for (name,) in names)
    world.execute(
        f"INSERT INTO notification_history ({columns}) SELECT {columns} FROM notifications WHERE id = %s", row
    )


def test_a_row_in_both_tables_is_found(world):
    both = world.any_row("newer")
    _copy_into_history(world, both)
    assert world.verify().lost == [(both, "is in both tables")]


def test_a_test_row_in_history_is_found(world):
    row = world.one("SELECT id::text FROM notifications WHERE key_type = 'test' LIMIT 1")
    _copy_into_history(world, row)
    assert world.verify().lost == [(row, "a test row, is in history")]


@pytest.mark.parametrize("expected", ["newer", "refused", "no service"])
def test_a_row_that_left_though_it_should_stay_is_found(world, expected):
    row = world.any_row(expected)
    if world.one("SELECT key_type FROM notifications WHERE id = %s", row) != "test":
        _copy_into_history(world, row)
    world.execute("DELETE FROM notifications WHERE id = %s", row)
    assert (row, f"has left notifications though it should stay: {expected}") in world.verify().lost


def test_a_letter_that_left_before_it_was_final_is_found_with_the_file_it_left(world):
    row = world.one(
        "SELECT l.id::text FROM verification.live AS l JOIN verification.owners AS o USING (id) "
        "JOIN verification.files AS f USING (bucket, prefix) "
        "WHERE expected = 'not final' AND NOT test ORDER BY id LIMIT 1"
    )
    _copy_into_history(world, row)
    world.execute("DELETE FROM notifications WHERE id = %s", row)
    result = world.verify()
    assert result.lost == [(row, "has left notifications though it should stay: not final")]
    assert len(result.orphaned) == 1
    assert result.orphaned[0].reason == f"is still there, its letter is not: {row}"


def test_a_row_that_has_other_values_in_history_is_found(world):
    row = world.any_row("moved", "sms")
    world.execute("UPDATE notification_history SET sent_by = 'someone else' WHERE id = %s", row)
    assert world.verify().lost == [(row, "has other values in history than it should")]


def test_a_history_row_that_the_older_one_overwrote_is_found(world):
    newer = next(e for e in world.seeded.cases if e.history_status == "temporary-failure")
    world.execute("UPDATE notification_history SET notification_status = 'delivered' WHERE id = %s", str(newer.id))
    result = world.verify()
    assert result.lost == [(str(newer.id), "has other values in history than it should")]
    assert [finding.reason for finding in result.wrong_cases] == [
        "should be 'temporary-failure' in history, is 'delivered'"
    ]


def test_a_row_from_nowhere_is_found(world):
    world.execute("UPDATE notification_history SET id = gen_random_uuid() WHERE id = %s", world.any_row("moved"))
    assert {finding.reason for finding in world.verify().lost} == {"is in neither table", "was never seeded"}


@pytest.mark.parametrize("kind", ["email", "letter"])
def test_an_overdue_row_that_is_still_there_is_kept_too_long(world, kind):
    live = "SELECT id::text FROM notifications JOIN verification.live AS l USING (id) "
    young = world.one(live + "WHERE l.expected = 'newer' AND NOT l.test AND l.type = %s LIMIT 1", kind)
    world.execute("UPDATE verification.live SET expected = 'moved' WHERE id = %s", young)
    result = world.verify()
    assert result.kept == [(young, "should have been moved")]
    assert result.summary == "0 rows lost, 0 files orphaned, 1 kept too long"


def test_the_cutoff_decides_whether_a_row_is_overdue(world):
    """Seen a year later, everything eligible that is still there is overdue."""
    verification = world.verification()
    due = verification.before(datetime.now(UTC) + timedelta(days=400))
    assert due["email"].rows > 100
    assert len(verification.after().kept) == sum(due[kind].rows for kind in due)


def test_a_deferred_letter_without_a_reason_is_kept_too_long(world):
    world.execute("UPDATE retention.deferred_rows SET reason = ''")
    assert {finding.reason for finding in world.verify().kept} == {"should have been deferred"}


def test_a_file_whose_letter_has_gone_is_orphaned(world):
    bucket, key, owner = world.execute(
        "SELECT f.bucket, f.key, o.id::text FROM verification.files AS f "
        "JOIN verification.owners AS o USING (bucket, prefix) JOIN verification.live AS l USING (id) "
        "WHERE l.expected = 'moved' ORDER BY key LIMIT 1"
    )[0]
    world.s3.put_object(Bucket=bucket, Key=key, Body=b"left behind")
    try:
        result = world.verify()
    finally:
        world.s3.delete_object(Bucket=bucket, Key=key)
    assert result.orphaned == [(f"{bucket}: {key}", f"is still there, its letter is not: {owner}")]
    assert result.summary == "0 rows lost, 1 files orphaned, 0 kept too long"


@pytest.mark.parametrize(
    ("whose", "reason"),
    [
        ("l.expected = 'newer'", "is gone, its letter is not: "),
        ("l.expected = 'not final'", "is gone, its letter is not: "),
        ("l.id IS NULL", "is gone, and was nobody's"),
    ],
)
def test_a_file_that_has_gone_though_it_should_stay_is_found(world, whose, reason):
    bucket, key = world.execute(
        "SELECT f.bucket, f.key FROM verification.files AS f "
        "LEFT JOIN verification.owners AS o USING (bucket, prefix) "
        "LEFT JOIN verification.live AS l USING (id) "
        f"WHERE {whose} ORDER BY key LIMIT 1"
    )[0]
    body = world.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    world.s3.delete_object(Bucket=bucket, Key=key)
    try:
        result = world.verify()
    finally:
        world.s3.put_object(Bucket=bucket, Key=key, Body=body)
    assert [finding.subject for finding in result.orphaned] == [f"{bucket}: {key}"]
    assert result.orphaned[0].reason.startswith(reason)


def test_an_old_version_of_a_file_is_a_file(world):
    """A bucket with versioning: a plain delete leaves the data behind a marker."""
    bucket = "versioned-bucket"
    world.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    key, owner = world.execute(
        "SELECT o.prefix || 'D.2.C.20260101120000.PDF', o.id::text FROM verification.owners AS o "
        "JOIN verification.live AS l USING (id) WHERE o.bucket = %s AND l.expected = 'moved' LIMIT 1",
        world.buckets.letters,
    )[0]
    world.execute("UPDATE verification.owners SET bucket = %s WHERE id = %s", bucket, owner)
    world.s3.put_object(Bucket=bucket, Key=key, Body=b"a letter")
    world.s3.delete_object(Bucket=bucket, Key=key)
    buckets = world.buckets._replace(invalid=bucket)
    result = Verification(world.url, world.s3, buckets).after()
    assert (f"{bucket}: {key}", f"is still there, its letter is not: {owner}") in result.orphaned


def test_a_column_for_personal_data_in_history_is_found(world):
    world.execute("ALTER TABLE notification_history ADD COLUMN normalised_to varchar")
    result = world.verify()
    assert not result.ok
    assert "notification_history has columns for personal data: normalised_to" in list(result.details())


def test_every_file_of_the_seed_is_somebodys_or_a_known_bystander(world):
    """Seed and verification name the letters' places each for itself, and agree."""
    nobodys = world.execute(
        "SELECT f.bucket, f.key FROM verification.files AS f "
        "LEFT JOIN verification.owners AS o USING (bucket, prefix) WHERE o.id IS NULL"
    )
    kept = {place for expected in world.seeded.cases for place in expected.files_kept}
    unscanned = {(bucket, key) for bucket, key in nobodys if bucket == world.buckets.scan and "/" not in key}
    assert set(nobodys) <= kept | unscanned
    assert world.one("SELECT count(*) FROM verification.files") == world.seeded.written[FILES]


class RecordingS3:
    """Keeps what is put into it."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, **_: object) -> None:
        self.objects[Bucket, Key] = Body


def test_the_same_plan_makes_the_same_data(night):
    plan = Plan(datetime(2026, 11, 3, 12, tzinfo=UTC), services=5, messages=50, letters=5, history=5)
    seen = []
    for name in ("first", "second"):
        s3, url = RecordingS3(), night.stack.postgres.create_database(name)
        migrate(url)
        seeded = seed(url, s3, Buckets("letters", "test", "invalid", "scan"), plan)
        world = World(night.stack, s3, night.buckets, seeded, url)
        rows = [
            world.execute(f"SELECT md5(string_agg(t::text, ',' ORDER BY id)), count(*) FROM {table} AS t")
            for table in ("services", "service_data_retention", "notifications", "notification_history")
        ]
        seen.append((seeded, rows, s3.objects))
    assert seen[0] == seen[1]
    assert seen[0][1][2][0][1] > 800
