"""The archive when something goes wrong, or changes meanwhile: no row is ever gone that no verified file has.

Something happens at a request to S3, at a commit, or while a file is read back. Each test ends with the same question:
is every row, as it was last, in the table or in a file, and no version of it in two?

Seen to fail, each by its guard taken out: those of tests/mutants.toml; a file read before it is leased for a redaction,
and what a redaction replaces not noted; the manifest's row not read again after rows were deleted because of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

import pyarrow
import pyarrow.parquet
import pytest
from botocore.exceptions import EndpointConnectionError
from sqlalchemy import event, text

from app.archive import files, parquet, upkeep, using, work
from app.archive.tools import tools
from app.dao import archives_dao
from app.dao.archives_dao import UNFINISHED, LeaseLost
from app.db import db
from app.retention import operations
from tests.archives import BUCKET, OLD, manifest, many, rows_of, run
from tests.concurrency import wait_until
from tests.factories import create_history, create_service

ROWS = 25
ONE_FILE = 15
EXPIRE_LEASES = text("UPDATE retention.archives SET lease_until = now() - interval '1 s', retry_at = NULL")


@pytest.fixture
def settings_override():
    return {
        "S3_BUCKET_ARCHIVE": BUCKET,
        "ARCHIVE_ROWS_PER_FILE": "20",
        "ARCHIVE_ROWS_PER_PAGE": "10",
        "ARCHIVE_KEPT_DAYS": "400",
    }


@pytest.fixture(autouse=True)
def bucket(archive_bucket):
    return archive_bucket


class Killed(BaseException):
    """As a worker that is killed: nothing after it is done."""


class Happenings:
    """What is to happen at requests to S3 and at commits."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.commits = 0
        self.before: Callable[[int, str], None] = lambda _number, _name: None
        self.after: Callable[[int, str], None] = lambda _number, _name: None
        self.at_commit: Callable[[int], None] = lambda _number: None

    def of_request(self, model: Any, **_: Any) -> None:
        self.requests.append(model.name)
        self.before(len(self.requests), model.name)

    def of_answer(self, model: Any, **_: Any) -> None:
        self.after(len(self.requests), model.name)

    def of_commit(self, _connection: Any) -> None:
        self.commits += 1
        self.at_commit(self.commits)

    def once(self, name: str, do: Callable[[], None], at: int = 1) -> None:
        """Do it once, before the request of that name, the first or a later one."""
        seen = 0

        def before(_number: int, of: str) -> None:
            nonlocal seen
            seen += of == name
            if of == name and seen == at:
                do()

        self.before = before


@pytest.fixture
def happen(app) -> Iterator[Happenings]:
    happenings = Happenings()
    events = tools().s3.meta.events
    events.register("before-call.s3", happenings.of_request)
    events.register("after-call.s3", happenings.of_answer)
    event.listen(app.extensions["db.engine"], "commit", happenings.of_commit)
    yield happenings
    events.unregister("before-call.s3", happenings.of_request)
    events.unregister("after-call.s3", happenings.of_answer)


@pytest.fixture
def service(connection) -> UUID:
    return create_service(connection)


@pytest.fixture
def before(connection, service) -> dict[UUID, dict[str, Any]]:
    """Old history, as it was."""
    many(connection, [service], ROWS)
    return rows_of(connection)


def archived(s3: Any) -> list[dict[str, Any]]:
    """The rows of all files that count, oldest file first."""
    found: list[dict[str, Any]] = []
    for one in sorted(manifest(), key=lambda archive: archive.id):
        if one.has_rows:
            body = s3.get_object(Bucket=one.bucket, Key=one.key)["Body"].read()
            found += pyarrow.parquet.read_table(BytesIO(body)).to_pylist()
    return found


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without the column that is left out, numbers of any precision as they are printed."""
    return {
        name: str(value) if name == "rate_multiplier" else value
        for name, value in row.items()
        if name != "created_by_id"
    }


def assert_nothing_is_lost(connection: Any, s3: Any, expected: dict[UUID, dict[str, Any]]) -> None:
    newest = {row["id"]: row for row in archived(s3)} | rows_of(connection)
    assert {id_: plain(row) for id_, row in newest.items()} == {id_: plain(row) for id_, row in expected.items()}


def assert_all_is_archived_once(connection: Any, s3: Any, expected: dict[UUID, dict[str, Any]]) -> None:
    assert_nothing_is_lost(connection, s3, expected)
    assert rows_of(connection) == {}
    assert len(archived(s3)) == len(expected)
    assert {one.state for one in manifest()} <= {"done", "void", "expired"}
    listed = s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
    assert {one["Key"] for one in listed} == {one.key for one in manifest() if one.has_rows}


def finish(connection: Any) -> None:
    """The next worker, when the lease of the one that was killed is over."""
    connection.execute(EXPIRE_LEASES)
    run()


@contextmanager
def killed() -> Iterator[None]:
    with pytest.raises(Killed):
        yield


def forget(connection: Any, s3: Any) -> None:
    connection.execute(text("DELETE FROM retention.archives"))
    connection.execute(text("DELETE FROM notification_history"))
    for one in s3.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        s3.delete_object(Bucket=BUCKET, Key=one["Key"])


def each_moment(
    connection: Any, s3: Any, service: UUID, set_up: Callable[[int], None], total: Callable[[], int]
) -> None:
    """With something set up to happen at the first moment, at the second, and so on, until there are no more."""
    moment = 1
    while True:
        many(connection, [service], ONE_FILE)
        expected = rows_of(connection)
        set_up(moment)
        try:
            run()
        except Killed:
            assert_nothing_is_lost(connection, s3, expected)
        set_up(0)
        finish(connection)
        assert_all_is_archived_once(connection, s3, expected)
        if moment > total():
            assert moment > 7, "something happened at several moments"
            return
        forget(connection, s3)
        moment += 1


def test_killed_before_any_commit_it_loses_nothing_and_the_next_worker_ends_it(connection, service, happen, s3):
    def set_up(moment: int) -> None:
        happen.commits = 0

        def kill(number: int) -> None:
            if number == moment:
                raise Killed

        happen.at_commit = kill

    many(connection, [service], ONE_FILE)
    run()
    commits = happen.commits
    forget(connection, s3)
    each_moment(connection, s3, service, set_up, lambda: commits)


@pytest.mark.parametrize(
    ("how", "when"),
    [(Killed(), "before"), (Killed(), "after"), (EndpointConnectionError(endpoint_url="s3"), "after")],
    ids=["killed-before", "killed-after", "unreachable"],
)
def test_at_any_request_to_s3_it_loses_nothing(connection, service, happen, s3, when, how):
    many(connection, [service], ONE_FILE)
    run()
    requests = len(happen.requests)
    forget(connection, s3)

    def set_up(moment: int) -> None:
        happen.requests.clear()

        def fail(number: int, _name: str) -> None:
            if number == moment:
                raise how

        setattr(happen, when, fail)

    each_moment(connection, s3, service, set_up, lambda: requests)


def flip_a_bit(body: bytes) -> bytes:
    place = len(body) // 3
    return body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


def another_file(body: bytes) -> bytes:
    rows = pyarrow.parquet.read_table(BytesIO(body))
    file = BytesIO()
    pyarrow.parquet.write_table(rows.slice(0, len(rows) - 1), file)
    return file.getvalue()


@pytest.mark.parametrize("damage", [flip_a_bit, lambda body: body[:-100], another_file, None])
def test_a_file_that_is_not_what_was_written_is_written_again(connection, before, happen, s3, damage):
    def do() -> None:
        [one] = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        body = s3.get_object(Bucket=BUCKET, Key=one["Key"])["Body"].read()
        if damage is None:
            s3.delete_object(Bucket=BUCKET, Key=one["Key"])
        else:
            s3.put_object(Bucket=BUCKET, Key=one["Key"], Body=damage(body))
        assert_nothing_is_lost(connection, s3, before)

    happen.once("GetObject", do)
    run()
    assert_all_is_archived_once(connection, s3, before)


def spoil_the_writers_name(body: bytes) -> bytes:
    """What no reader looks at: the file is as readable as before, and has as many rows and bytes."""
    assert body.count(b"parquet-cpp") == 1
    return body.replace(b"parquet-cpp", b"parquet-cpq")


def test_a_file_whose_rows_are_right_and_whose_sha256_is_not_is_no_file_of_ours(connection, before, happen, s3):
    def spoil() -> None:
        key = s3.list_objects_v2(Bucket=BUCKET)["Contents"][0]["Key"]
        body = spoil_the_writers_name(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        assert len(pyarrow.parquet.read_table(BytesIO(body))) == 20
        s3.put_object(Bucket=BUCKET, Key=key, Body=body)

    happen.once("GetObject", spoil)
    turns = run()
    assert len(turns) == 4, "two files, one of them written twice, and the look that finds no more"
    assert_all_is_archived_once(connection, s3, before)
    spoil()
    assert [one.problem for one in upkeep.verify(tools(), manifest())] == [
        "the SHA-256 is not that of what was written",
        None,
    ]


def test_a_file_that_is_always_damaged_is_given_up_and_its_rows_stay(connection, before, happen, s3):
    def damage(_number: int, name: str) -> None:
        if name == "GetObject":
            [one] = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
            s3.put_object(Bucket=BUCKET, Key=one["Key"], Body=b"PAR1 and nothing else")

    happen.before = damage
    run()
    assert rows_of(connection) == before
    assert [one.state for one in manifest()] == ["void"]


def test_another_object_under_the_key_of_a_verified_file_is_noticed_before_a_row_goes(connection, before, happen, s3):
    def do() -> None:
        [one] = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
        s3.put_object(Bucket=BUCKET, Key=one["Key"], Body=b"something else")

    happen.once("HeadObject", do, at=3)
    run()
    assert_all_is_archived_once(connection, s3, before)


def test_parquet_that_differs_from_what_postgresql_said_is_noticed_although_its_sha256_is_right(
    connection, before, happen, s3
):
    """A value that changes on its way into the file. As a fault of the writer would."""

    def do() -> None:
        connection.execute(text("UPDATE retention.archive_pages SET checksums[3] = 'other' WHERE page = 1"))

    happen.once("HeadObject", do)  # before the pages are asked for what PostgreSQL said
    run()
    assert happen.requests.count("PutObject") == 3, "two files, the first of them written twice"
    assert_all_is_archived_once(connection, s3, before)


def test_a_row_that_changes_after_it_was_written_goes_to_another_file_as_it_is_then(connection, before, happen, s3):
    changed = list(before)[:3]

    def do() -> None:
        connection.execute(
            text("UPDATE notification_history SET notification_status = 'late' WHERE id = ANY (:ids)"), {"ids": changed}
        )

    happen.once("GetObject", do)
    run()
    expected = {id_: {**row, "notification_status": "late"} if id_ in changed else row for id_, row in before.items()}
    assert_nothing_is_lost(connection, s3, expected)
    assert rows_of(connection) == {}
    assert [(one.rows, one.removed) for one in manifest()] == [(20, 17), (8, 8)]
    found = using.find(tools(), "id", str(changed[0]))
    assert [row["notification_status"] for row in found.rows] == ["late"]


PLACE = text("SELECT ctid::text FROM notification_history WHERE id = :id")
ASIDE = text("CREATE TEMP TABLE kept_aside AS SELECT * FROM notification_history WHERE id = :id")
REMOVE = text("DELETE FROM notification_history WHERE id = :id")


def test_another_version_of_a_row_at_the_very_same_address_is_not_deleted(connection, before, happen, s3):
    """Deleted, vacuumed away and put back with another status: only who wrote the row tells it from the old one."""
    changed = {"id": next(iter(before))}
    connection.exec_driver_sql("VACUUM FULL notification_history")  # no address is free but the one that it leaves

    def do() -> None:
        place = connection.execute(PLACE, changed).scalar()
        connection.execute(ASIDE, changed)
        connection.exec_driver_sql("UPDATE kept_aside SET notification_status = 'late'")

        def is_there_again() -> bool:  # not at once while any snapshot still needs the old version
            connection.execute(REMOVE, changed)
            connection.exec_driver_sql("VACUUM notification_history")
            connection.exec_driver_sql("INSERT INTO notification_history SELECT * FROM kept_aside")
            return bool(connection.execute(PLACE, changed).scalar() == place)

        wait_until(is_there_again)
        connection.exec_driver_sql("DROP TABLE kept_aside")

    happen.once("GetObject", do)
    run()
    late = {**before[changed["id"]], "notification_status": "late"}
    assert_nothing_is_lost(connection, s3, {**before, changed["id"]: late})
    assert [(one.rows, one.removed) for one in manifest()] == [(20, 19), (6, 6)]


def test_a_row_that_comes_late_goes_to_another_file(connection, before, service, happen, s3):
    late = []
    happen.once("HeadObject", lambda: late.append(create_history(connection, service_id=service, created_at=OLD)), at=3)
    run()
    assert_all_is_archived_once(
        connection, s3, {**before, late[0]: rows_of(connection).get(late[0]) or _only(s3, late[0])}
    )


def _only(s3: Any, id_: UUID) -> dict[str, Any]:
    [row] = [row for row in archived(s3) if row["id"] == id_]
    return row


def test_a_column_that_is_added_meanwhile_is_archived_with_its_values(connection, before, happen, s3):
    try:
        happen.once(
            "HeadObject",
            lambda: connection.exec_driver_sql("ALTER TABLE notification_history ADD extra text DEFAULT 'kept'"),
            at=2,
        )
        run()
        assert rows_of(connection) == {}
        assert {row["extra"] for row in archived(s3)} == {"kept"}
        assert len(archived(s3)) == ROWS
    finally:
        connection.exec_driver_sql("ALTER TABLE notification_history DROP IF EXISTS extra")


def test_a_column_that_is_added_when_some_rows_of_a_file_are_gone_costs_none_of_them(
    connection, before, s3, monkeypatch
):
    """Between two pages: the file is all that there is of the first page's rows."""
    delete_page, calls = files.delete_page, []

    def delete_and_add(*arguments: Any) -> Any:
        done = delete_page(*arguments)
        calls.append(done)
        if len(calls) == 1:
            connection.exec_driver_sql("ALTER TABLE notification_history ADD extra text DEFAULT 'kept'")
        return done

    monkeypatch.setattr(files, "delete_page", delete_and_add)
    try:
        run()
        assert rows_of(connection) == {}
        assert sorted(str(row.get("extra")) for row in archived(s3)) == ["None"] * 20 + ["kept"] * 15
        assert {row["id"] for row in archived(s3)} == set(before)
        assert [(one.state, one.rows, one.removed) for one in manifest()] == [("done", 20, 10), ("done", 15, 15)]
    finally:
        connection.exec_driver_sql("ALTER TABLE notification_history DROP IF EXISTS extra")


def test_files_with_other_columns_are_found_and_restored_together(connection, before, service, s3):
    try:
        connection.exec_driver_sql("ALTER TABLE notification_history ADD extra text DEFAULT 'dropped later'")
        run()
    finally:
        connection.exec_driver_sql("ALTER TABLE notification_history DROP extra")
    other = create_history(connection, service_id=service, created_at=OLD + timedelta(days=1))
    run()
    assert using.restore(tools(), using.in_window(tools(), None)) == ROWS + 1
    assert set(rows_of(connection)) == {*before, other}


def test_a_service_on_hold_stays_and_the_others_go(connection, before, s3):
    held = create_service(connection)
    stays = create_history(connection, service_id=held, created_at=OLD)
    operations.hold(held, "an inquiry", "somebody")
    run()
    assert set(rows_of(connection)) == {stays}
    assert {service for one in manifest() for service in one.services} == {row["service_id"] for row in before.values()}


def test_a_hold_that_is_placed_after_the_file_was_verified_keeps_the_rows(connection, before, service, happen, s3):
    happen.once("HeadObject", lambda: operations.hold(service, "an inquiry", "somebody"), at=3)
    run()
    assert rows_of(connection) == before
    assert {one.state for one in manifest()} == {"void"}


def test_nothing_is_deleted_while_the_pipeline_is_paused(connection, before, happen, s3):
    happen.once("HeadObject", lambda: operations.pause("a migration", "somebody"), at=3)
    turns = run()
    assert turns[-1].stopped == work.PAUSED
    assert rows_of(connection) == before
    operations.lift("pipeline", "somebody")
    run()
    assert_all_is_archived_once(connection, s3, before)


def test_a_row_that_others_refer_to_stays(connection, before, environment, s3):
    kept = next(iter(before))
    connection.exec_driver_sql("CREATE TABLE complaints (notification_id uuid REFERENCES notification_history (id))")
    try:
        connection.exec_driver_sql("GRANT SELECT ON complaints TO PUBLIC")
        connection.execute(text("INSERT INTO complaints VALUES (:id)"), {"id": kept})
        run()
        assert set(rows_of(connection)) == {kept}
    finally:
        connection.exec_driver_sql("DROP TABLE complaints")


def test_rows_that_are_locked_stay_until_the_next_night(connection, before, administrator_engine, s3):
    with administrator_engine.begin() as other:
        locked = other.execute(text("SELECT id FROM notification_history LIMIT 2 FOR UPDATE")).scalars().all()
        run()
        assert set(rows_of(connection)) == set(locked)
        assert [one.state for one in manifest()] == ["done", "done", "void"]
        assert run()[-1].archive is None
    finish(connection)
    assert_nothing_is_lost(connection, s3, before)
    assert rows_of(connection) == {}
    assert [(one.rows, one.removed) for one in manifest()] == [(20, 18), (7, 5), (0, 0), (2, 2)]


def test_a_row_that_the_database_refuses_stays_and_the_others_go(connection, before, s3):
    refused = list(before)[4]
    connection.exec_driver_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation; END $$; "
        "CREATE TRIGGER refuse BEFORE DELETE ON notification_history FOR EACH ROW "
        f"WHEN (OLD.id = '{refused}') EXECUTE FUNCTION refuse()"
    )
    try:
        run()
        assert set(rows_of(connection)) == {refused}
    finally:
        connection.exec_driver_sql("DROP FUNCTION refuse CASCADE")


def test_two_workers_are_never_at_one_file(connection, before, happen, s3):
    seen = []
    happen.once("GetObject", lambda: seen.append(work.take_turn(tools())))
    run()
    assert seen[0].more
    assert seen[0].archive is None
    assert seen[0].not_before is not None
    assert_all_is_archived_once(connection, s3, before)


@pytest.mark.parametrize(("name", "at"), [("GetObject", 1), ("HeadObject", 3), ("HeadObject", 1)])
def test_a_worker_that_has_outlived_its_lease_changes_nothing(connection, before, happen, s3, name, at):
    def overtake() -> None:
        connection.execute(EXPIRE_LEASES)
        run()

    happen.once(name, overtake, at)
    run()
    finish(connection)
    assert_nothing_is_lost(connection, s3, before)
    assert rows_of(connection) == {}


def refused(*changes: Callable[[Any], object]) -> int:
    """How many of the changes the manifest does not take, each in a transaction of its own."""
    count = 0
    for change in changes:
        try:
            with db.transaction() as own:
                change(own)
        except LeaseLost:
            count += 1
    return count


def test_no_row_goes_because_of_a_file_that_has_not_been_verified(connection, before, happen):
    """Whatever a worker believes, the manifest's states have one order."""
    seen = []

    def at_once() -> None:
        [one] = manifest()
        count = refused(
            lambda own: archives_dao.set_deleting(own, one),
            lambda own: archives_dao.add_removed(own, one, 0, 1, OLD),
            lambda own: archives_dao.set_done(own, one, OLD),
            lambda own: archives_dao.set_expired(own, one, OLD),
        )
        seen.append((one.state, count))

    happen.once("GetObject", at_once)
    run()
    assert seen == [("written", 4)]


WRITTEN: dict[str, Any] = {
    **dict.fromkeys(("version_id", "etag", "sha256", "schema"), "another"),
    **{"bytes_": 1, "rows": 1, "services": [], "first": OLD, "last": OLD},
}
OF_ANOTHER: list[tuple[str, int, str, list[Callable[[Any, Any], object]]]] = [
    ("PutObject", 1, "writing", [archives_dao.lock, lambda own, one: archives_dao.set_written(own, one, **WRITTEN)]),
    ("GetObject", 1, "written", [archives_dao.lock, lambda own, one: archives_dao.set_verified(own, one, OLD)]),
    ("HeadObject", 3, "verified", [archives_dao.lock, archives_dao.set_deleting]),
]


@pytest.mark.parametrize(("name", "at", "state", "changes"), OF_ANOTHER, ids=[row[2] for row in OF_ANOTHER])
def test_in_no_state_a_file_is_changed_without_its_lease(connection, before, happen, name, at, state, changes):
    seen = []

    def at_once() -> None:
        [one] = manifest()
        other = replace(one, lease_token=uuid4())
        count = refused(*(lambda own, change=change: change(own, other) for change in changes))
        seen.append((one.state, count, manifest() == [one]))

    happen.once(name, at_once, at)
    run()
    assert seen == [(state, 2, True)]


def test_a_file_because_of_which_rows_went_is_neither_written_anew_nor_taken_away(connection, before, monkeypatch):
    delete_page, seen = files.delete_page, []

    def delete_and_try(*arguments: Any) -> Any:
        done = delete_page(*arguments)
        count = refused(
            lambda own: archives_dao.write_anew(own, done.archive, OLD, "why"),
            lambda own: archives_dao.set_void(own, done.archive, OLD, None, "why"),
            lambda own: archives_dao.set_verified(own, done.archive, OLD),
            lambda own: archives_dao.add_removed(own, replace(done.archive, lease_token=uuid4()), 0, 1, OLD),
            lambda own: archives_dao.set_done(own, replace(done.archive, lease_token=uuid4()), OLD),
        )
        seen.append((done.archive.removed, count))
        return done

    monkeypatch.setattr(files, "delete_page", delete_and_try)
    run()
    assert seen == [(10, 5), (20, 5), (5, 5)]


def test_parts_that_a_killed_worker_left_are_removed(connection, before, s3):
    key = "archive/table=notification_history/date=2020-05-17/part-0001.parquet"
    s3.create_multipart_upload(Bucket=BUCKET, Key=key)
    run()
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_a_value_without_a_form_in_the_file_keeps_its_window(connection, before, service, s3):
    odd = create_history(connection, service_id=service, created_at=OLD)
    connection.execute(text("UPDATE notification_history SET sent_at = 'infinity' WHERE id = :id"), {"id": odd})
    run()
    count = text("SELECT count(*) FROM notification_history")
    assert connection.execute(count).scalar() == ROWS + 1
    [one] = manifest()
    assert (one.state, one.problem[:28]) == ("void", "A value has no form in the f")


def test_damaged_files_are_found_by_reading_them_again(connection, before, s3):
    run()
    assert [one.problem for one in upkeep.verify(tools(), manifest())] == [None, None]
    s3.put_object(Bucket=BUCKET, Key=manifest()[0].key, Body=b"something else")
    s3.delete_object(Bucket=BUCKET, Key=manifest()[1].key)
    problems = [one.problem for one in upkeep.verify(tools(), manifest())]
    assert "bytes were written" in problems[0]
    assert "no such object" in problems[1]
    assert [one.problem for one in manifest()] == problems


def test_the_rows_of_a_service_are_taken_out_of_files_that_hold_others(connection, before, s3):
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    leaves = create_service(connection)
    many(connection, [leaves], 5)
    run()
    assert (
        sum(upkeep.redact(tools(), one, service=leaves) for one in upkeep.holding_rows_of(tools(), service=leaves)) == 5
    )
    assert_nothing_is_lost(connection, s3, before)
    assert all(leaves not in one.services for one in manifest())
    versions = [one["Key"] for one in s3.list_object_versions(Bucket=BUCKET).get("Versions", [])]
    assert sorted(versions) == sorted(one.key for one in manifest() if one.has_rows)
    assert [one.problem for one in upkeep.verify(tools(), manifest())] == [None, None]


def test_two_redactions_of_one_file_take_out_both_services(connection, before, s3, monkeypatch):
    """The second one begins while the first has read the file and not yet replaced it."""
    one, other = create_service(connection), create_service(connection)
    many(connection, [one, other], 10)
    run()
    file = next(each for each in manifest() if {one, other} <= set(each.services or ()))
    put_file = files.put_file

    def put_after_another(*arguments: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(files, "put_file", put_file)
            with pytest.raises(LeaseLost):
                upkeep.redact(tools(), file, service=other)
        return put_file(*arguments)

    monkeypatch.setattr(files, "put_file", put_after_another)
    assert upkeep.redact(tools(), file, service=one) > 0
    monkeypatch.setattr(files, "put_file", put_file)
    assert upkeep.redact(tools(), file, service=other) > 0
    (file,) = (each for each in manifest() if each.id == file.id)
    assert not {one, other} & set(file.services)
    assert [each.problem for each in upkeep.verify(tools(), manifest())] == [None] * len(manifest())


@pytest.mark.parametrize("killed_before", ["put_file", "rows_of", "_without_left_over"])
def test_a_redaction_that_is_killed_leaves_no_file_that_nobody_knows_of(
    connection, before, s3, monkeypatch, killed_before
):
    leaves = create_service(connection)
    many(connection, [leaves], 5)
    run()
    file = upkeep.holding_rows_of(tools(), service=leaves)[0]
    where = upkeep if killed_before.startswith("_") else files
    real, calls = getattr(where, killed_before), []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if killed_before == "put_file" or len(calls) == 2:
            if killed_before == "put_file":
                real(*arguments)
            raise Killed
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(where, killed_before, killed)
        with pytest.raises(Killed):
            upkeep.redact(tools(), file, service=leaves)
    upkeep.delete_left_over(tools())
    keys = sorted(each["Key"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"])
    assert keys == sorted(each.key for each in manifest() if each.has_rows)
    assert [each.problem for each in upkeep.verify(tools(), manifest())] == [None] * len(manifest())


def test_a_redaction_whose_new_file_has_other_rows_changes_nothing(connection, before, service, s3, monkeypatch):
    """As a fault of the writer would, which no SHA-256 shows: it is that of what was written."""
    leaves = create_service(connection)
    many(connection, [leaves], 5)
    expected = rows_of(connection)
    run()
    was = manifest()
    write = parquet.write

    def write_another(pages: Any, schema: Any, sink: Any) -> Any:
        [rows] = pages
        values = rows.column("notification_status").to_pylist()
        place = rows.schema.get_field_index("notification_status")
        changed = pyarrow.array(["late", *values[1:]], rows.schema.field(place).type)
        write([rows.set_column(place, rows.schema.field(place), changed)], schema, sink)
        return parquet.in_order(rows, parquet.ORDER)

    monkeypatch.setattr(parquet, "write", write_another)
    file = upkeep.holding_rows_of(tools(), service=leaves)[0]
    with pytest.raises(files.Differs):
        upkeep.redact(tools(), file, service=leaves)
    upkeep.delete_left_over(tools())
    assert [(one.key, one.sha256, one.rows) for one in manifest()] == [(one.key, one.sha256, one.rows) for one in was]
    assert_all_is_archived_once(connection, s3, expected)


def test_nothing_of_a_service_on_hold_is_taken_out(connection, before, service, s3):
    run()
    operations.hold(service, "an inquiry", "somebody")
    with pytest.raises(upkeep.OnHold):
        upkeep.redact(tools(), manifest()[0], service=service)
    assert_all_is_archived_once(connection, s3, before)


def test_unfinished_files_are_those_of_the_index():
    assert UNFINISHED == ("writing", "written", "verified", "deleting")


def test_files_expire_at_their_second_age_unless_a_service_is_on_hold(connection, before, service, s3):
    other = create_service(connection)
    create_history(connection, service_id=other, created_at=OLD + timedelta(days=1))
    run()
    operations.hold(service, "an inquiry", "somebody")
    assert upkeep.expire(tools()) == 1
    assert_nothing_is_lost(connection, s3, before)
    operations.lift(str(service), "somebody")
    assert upkeep.expire(tools()) == 2
    assert not s3.list_objects_v2(Bucket=BUCKET).get("Contents")
    assert {one.state for one in manifest()} == {"expired"}
