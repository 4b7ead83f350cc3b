"""The night's index of a letters' folder: never a row without its files gone, whoever dies, and no trace afterwards.

Each test was seen to fail with its guard taken out:
promise 1 (a row moves only after its files are gone): `is_proof` saying yes to everything, or without its margin, or
without the transaction; the snapshot's xmax kept for its xmin; an index of another server believed; the store or the
bucket left out of the look-up; the time of one of two letters only; an index for a bucket with versions;
promise 6 (every step can be repeated): a part added without the lease's token, `listed_to` not kept, files forgotten in
a commit of their own or not at all, a builder that gets nowhere tried for ever;
promise 7 (the others go on): a step that waits for another's index halving its batch, or not woken when it is there;
the count's failure not caught, and services counted that have no letter in the folder;
promise 9 (no personal data): the index not emptied, or only when nothing waits, or while something does.
"""

import re
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.dao import folders_dao, runs_dao
from app.db import db
from app.retention import chains, folder_build, move_notifications_to_notification_history, nightly
from app.storage.errors import Stopped
from tests.factories import chains as chain_rows
from tests.factories import (
    create_letter,
    create_notification,
    create_service,
    days_ago,
    deferred,
    history,
    keys,
    live,
    naive,
    steps,
    where,
)
from tests.integration.night import dispatch, drain, make_due, run_night, states, until_rows_count_as_old

DAY = date.today() - timedelta(days=30)  # noqa: DTZ011 - any day long past will do
NOON = datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=UTC)
FOLDER = f"{DAY}/"
REQUESTS_FOR_STATE = 1
"""Each step that looks for files asks for the bucket's state; the proxy counts that among the listings."""


@pytest.fixture
def settings_override(proxy):
    return {"AWS_ENDPOINT_URL_S3": proxy.url, "FAN_OUT_SPREAD_SECONDS": "0", "LETTER_FOLDER_INDEX": "true"}


@pytest.fixture
def bucket(settings):
    return settings.s3_bucket_letters_pdf


@pytest.fixture
def send(connection, s3):
    """A letter of the day, by a service of its own unless one is given."""

    def letter(service=None, updated_at=NOON, **more):
        service = service or create_service(connection)
        return create_letter(connection, s3, service, NOON, updated_at=updated_at and naive(updated_at), **more)

    return letter


@pytest.fixture
def first_then_second(connection, send):
    """Two letters of two services, and the wake-ups of their chains: the first one's step builds the index."""

    def two(**second):
        letters = [send(), send(**second)]
        services = [service_of(connection, letter) for letter in letters]
        wakes = sorted(nightly.fan_out("letter"), key=lambda wake: services.index(wake.service_id))
        until_rows_count_as_old(connection)
        return (*letters, *wakes)

    return two


def service_of(connection, letter):
    return connection.execute(text("SELECT service_id FROM notifications WHERE id = :id"), {"id": letter}).scalar()


def indexes(connection):
    return connection.execute(text("SELECT * FROM retention.indexed_folders ORDER BY folder")).mappings().all()


def indexed_files(connection):
    return connection.execute(text("SELECT count(*) FROM retention.indexed_files")).scalar()


def grow_older(connection, seconds):
    statement = "UPDATE retention.indexed_folders SET begun_at = begun_at - make_interval(secs => :seconds)"
    connection.execute(text(statement), {"seconds": seconds})


def write_late(connection, s3, letter):
    """Another file of the letter, written after the folder was listed."""
    bucket, key = where(connection, letter)
    late = re.sub(r"\.D\..\.", ".D.N.", key)
    s3.put_object(Bucket=bucket, Key=late, Body=b"%PDF-1.4")
    return late


def counts(connection):
    return connection.execute(text("SELECT folder, files, orphans FROM retention.folder_counts")).all()


def missing_files(connection):
    looks = connection.execute(text("SELECT coalesce(sum(missing), 0) FROM retention.letter_looks")).scalar()
    return looks + sum(step["without_file"] for step in steps(connection))


def test_the_second_service_asks_the_index_of_the_first(app, connection, s3, bucket, proxy, first_then_second):
    one, other, first, second = first_then_second()
    drain([first])
    asked = proxy.lists
    drain([second])
    assert proxy.lists - asked == REQUESTS_FOR_STATE
    assert (live(connection), history(connection), keys(s3, bucket)) == (set(), {one, other}, set())
    assert [(index["folder"], index["pages"], index["files"]) for index in indexes(connection)] == [(FOLDER, 1, 2)]
    assert indexed_files(connection) == 0


@pytest.mark.parametrize(
    ("updated", "index_is_older_by"),
    [
        pytest.param(timedelta(0), 0, id="the row changed after the listing"),
        pytest.param(timedelta(minutes=-4), 0, id="the row changed just before, by another clock"),
        pytest.param(None, 120, id="nobody knows when the row changed"),
    ],
)
def test_a_letter_whose_file_may_have_come_late_is_listed_again(
    app, connection, s3, bucket, proxy, first_then_second, updated, index_is_older_by
):
    one, other, first, second = first_then_second()
    drain([first])
    write_late(connection, s3, other)
    grow_older(connection, index_is_older_by)
    updated_at = None if updated is None else naive(datetime.now(UTC) + updated)
    connection.execute(text("UPDATE notifications SET updated_at = :at"), {"at": updated_at})
    asked = proxy.lists
    drain([second])
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())
    assert proxy.lists - asked == REQUESTS_FOR_STATE + 1


def test_of_two_letters_with_one_reference_the_later_change_counts(app, connection, s3, bucket, send):
    first, both = create_service(connection), create_service(connection)
    one = send(first)
    its = {send(both, reference="SAME"), send(both, reference="same", updated_at=None, postage="first")}
    wakes = sorted(nightly.fan_out("letter"), key=lambda wake: wake.service_id != first)
    drain(wakes[:1])
    write_late(connection, s3, min(its))
    grow_older(connection, 120)
    drain(wakes[1:])
    assert (history(connection), keys(s3, bucket)) == ({one, *its}, set())


def test_a_row_without_a_time_is_believed_while_the_index_is_as_fresh_as_a_listing(
    app, connection, s3, bucket, proxy, first_then_second
):
    one, other, first, second = first_then_second(updated_at=None)
    drain([first])
    asked = proxy.lists
    drain([second])
    assert proxy.lists - asked == REQUESTS_FOR_STATE
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


def arrives_late(connection, s3, letter):
    """The letter as if it had been put there only now: its file, then its row, with times of long ago."""
    late = write_late(connection, s3, letter)
    connection.execute(text("CREATE TEMP TABLE arriving AS SELECT * FROM notifications WHERE id = :id"), {"id": letter})
    connection.execute(text("DELETE FROM notifications WHERE id = :id"), {"id": letter})
    connection.execute(text("INSERT INTO notifications SELECT * FROM arriving"))
    connection.execute(text("DROP TABLE arriving"))
    return late


@pytest.mark.parametrize("updated_at", [NOON, None], ids=["an old time", "no time"])
def test_a_letter_that_arrives_after_the_listing_with_old_times_is_listed_again(
    app, connection, s3, bucket, proxy, first_then_second, updated_at
):
    one, other, first, second = first_then_second(updated_at=updated_at)
    drain([first])
    arrives_late(connection, s3, other)
    asked = proxy.lists
    drain([second])
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())
    assert proxy.lists - asked == REQUESTS_FOR_STATE + 1


def test_a_letter_whose_transaction_had_not_ended_when_the_listing_began_is_listed_again(
    app, administrator_engine, connection, s3, bucket, first_then_second
):
    """Begun before the index, and committed after it: its number is lower than many that the index knows."""
    one, other, first, second = first_then_second()
    with administrator_engine.begin() as writer:
        writer.execute(text("UPDATE notifications SET sent_by = 'late' WHERE id = :id"), {"id": other})
        drain([first])
        write_late(connection, s3, other)
    drain([second])
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


def test_an_index_that_came_with_another_servers_dump_is_not_asked(app, connection, s3, bucket, first_then_second):
    one, other, first, second = first_then_second()
    drain([first])
    connection.execute(text("UPDATE retention.indexed_folders SET begun_xmin = begun_xmin + (1::bigint << 40)"))
    arrives_late(connection, s3, other)
    drain([second])
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("store = 'https://another-server.test'", id="another server's"),
        pytest.param("bucket = 'another-bucket'", id="another bucket's"),
    ],
)
def test_an_index_of_somewhere_else_is_not_asked(app, connection, s3, bucket, first_then_second, change):
    one, other, first, second = first_then_second()
    drain([first])
    connection.execute(text(f"UPDATE retention.indexed_folders SET {change}"))
    connection.execute(text("TRUNCATE retention.indexed_files"))
    drain([second])
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


@pytest.fixture
def one_key_a_page(monkeypatch):
    """Each page holds one key, and each part is one page."""
    monkeypatch.setattr("app.storage.listing.KEYS_PER_PAGE", 1)
    monkeypatch.setattr(folder_build, "PAGES_PER_COMMIT", 1)
    # By the rows, it is worth more pages than it has.
    monkeypatch.setattr("app.retention.folder_index.pages_worth_indexing", lambda *_: 100)


def test_a_step_that_dies_half_way_leaves_no_index_and_the_next_goes_on_with_it(
    app, connection, s3, bucket, proxy, first_then_second, one_key_a_page, monkeypatch
):
    one, other, first, second = first_then_second()
    add, added = folders_dao.add, []

    def add_once(*arguments, **more):
        if added:
            raise MemoryError
        added.append(add(*arguments, **more))
        return added[0]

    with monkeypatch.context() as dying:
        dying.setattr(folders_dao, "add", add_once)
        with pytest.raises(MemoryError):
            chains.run_step(first.chain, first.step, "task")
    assert [(index["pages"], index["complete"]) for index in indexes(connection)] == [(1, False)]
    assert (live(connection), len(keys(s3, bucket))) == ({one, other}, 2)
    asked = proxy.lists
    drain([second])
    assert proxy.lists - asked == REQUESTS_FOR_STATE + 1  # the second page, and no more
    assert (history(connection), len(keys(s3, bucket))) == ({other}, 1)
    make_due(connection)
    dispatch()
    assert (history(connection), keys(s3, bucket), missing_files(connection)) == ({one, other}, set(), 0)


def test_a_step_that_has_built_enough_goes_on_at_once_with_the_batch_that_it_had(
    app, connection, s3, bucket, first_then_second, one_key_a_page, monkeypatch
):
    monkeypatch.setattr(folder_build, "SHARE_OF_BUDGET", 0)
    one, other, first, second = first_then_second()
    [again] = chains.run_step(first.chain, first.step, "task")
    assert again.step == first.step + 1
    assert [(index["pages"], index["lease_token"]) for index in indexes(connection)] == [(1, None)]
    assert [(step["outcome"], step["moved"]) for step in steps(connection)] == [("Indexing", 0)]
    assert [chain["rows_per_step"] for chain in chain_rows(connection) if chain["id"] == first.chain] == [5000]
    drain([again, second])
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


def test_while_someone_else_builds_a_step_comes_later_and_lists_nothing(
    app, connection, s3, bucket, proxy, first_then_second, one_key_a_page, monkeypatch
):
    monkeypatch.setattr(folder_build, "SHARE_OF_BUDGET", 0)
    one, other, first, second = first_then_second()
    [again] = chains.run_step(first.chain, first.step, "task")
    lease = "UPDATE retention.indexed_folders SET lease_token = gen_random_uuid(), lease_until = now() + interval "
    connection.execute(text(lease + "'10 seconds'"))
    asked = proxy.lists
    assert drain([second]) == [second]
    assert proxy.lists - asked == REQUESTS_FOR_STATE
    waiting = next(chain for chain in chain_rows(connection) if chain["id"] == second.chain)
    assert (waiting["state"], waiting["reason"], waiting["rows_per_step"]) == ("waiting", "IndexAwaited", 5000)
    connection.execute(text(lease + "'-1 second'"))  # it was killed
    drain([again])
    make_due(connection)
    dispatch()
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


def test_whoever_waited_for_an_index_is_woken_by_the_step_that_ends_it(
    app, connection, s3, bucket, first_then_second, one_key_a_page, monkeypatch
):
    monkeypatch.setattr(folder_build, "SHARE_OF_BUDGET", 0)
    one, other, first, second = first_then_second()
    [again] = chains.run_step(first.chain, first.step, "task")
    lease = "UPDATE retention.indexed_folders SET lease_token = gen_random_uuid(), lease_until = now() + interval "
    connection.execute(text(lease + "'10 seconds'"))
    assert drain([second]) == [second]
    connection.execute(text(lease + "'-1 second'"))
    woken = drain([again])
    assert second.chain in {wake.chain for wake in woken}
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


def test_a_builder_that_lost_its_lease_adds_nothing_more(
    app, connection, s3, bucket, first_then_second, one_key_a_page, monkeypatch
):
    one, other, first, _ = first_then_second()
    list_part = folder_build._list_part

    def list_slowly(*arguments):
        part = list_part(*arguments)
        connection.execute(text("UPDATE retention.indexed_folders SET lease_token = gen_random_uuid()"))
        return part

    with monkeypatch.context() as stalled:
        stalled.setattr(folder_build, "_list_part", list_slowly)
        assert chains.run_step(first.chain, first.step, "task") == []
    assert [index["pages"] for index in indexes(connection)] == [0]
    assert (indexed_files(connection), live(connection)) == (0, {one, other})
    connection.execute(text("UPDATE retention.indexed_folders SET lease_until = now()"))
    make_due(connection)
    dispatch()
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


def test_when_nobody_can_build_it_each_step_lists_for_itself(
    app, connection, s3, bucket, first_then_second, monkeypatch
):
    def refuse(*_):
        raise Stopped("SlowDown")

    monkeypatch.setattr(folder_build, "_list_part", refuse)
    one, other, *_ = first_then_second()
    for _ in range(folder_build.MOST_ATTEMPTS):
        make_due(connection)
        drain(nightly.dispatch()[0][:1])
        assert live(connection) == {one, other}
    make_due(connection)
    dispatch()
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())


def test_the_letters_of_a_folder_are_counted_of_each_service_that_has_any(app, connection, s3):
    """Made from the folder's beginning until before its end; overdue before the cut-off."""
    begin, end, cutoff = NOON, NOON + timedelta(days=1), NOON + timedelta(hours=6)
    instant = timedelta(microseconds=1)
    ours, others, nobodys = (create_service(connection, letter=days) for days in (7, 30, 7))
    for at in (begin - instant, begin, cutoff - instant, cutoff, end - instant, end):
        create_letter(connection, s3, ours, at, file=False)
    create_letter(connection, s3, others, begin, file=False)
    create_letter(connection, s3, nobodys, end, file=False)
    with db.transaction(read_only=True) as own:
        counts = folders_dao.letters_of_services(own, (begin, end), {7: cutoff, 30: begin}, 7)
    assert sorted(counts) == [(1, 0), (4, 2)]


def test_when_the_letters_of_a_folder_cannot_be_counted_each_step_lists_for_itself(
    app, connection, s3, bucket, first_then_second, monkeypatch
):
    monkeypatch.setattr(folders_dao, "LETTERS_OF_SERVICES", "SELECT 1 / 0 WHERE :made_from < :made_before")
    one, other, *wakes = first_then_second()
    with capture_logs() as events:
        drain(wakes)
    assert (history(connection), keys(s3, bucket)) == ({one, other}, set())
    assert "folder-not-counted" in [event["event"] for event in events]


def fail_after_the_files(monkeypatch, wake):
    """A step that ends, without notice, when its files are gone and its commit is still to come."""

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr(runs_dao, "finish_intent", fail)
        with pytest.raises(MemoryError):
            chains.run_step(wake.chain, wake.step, "task")


def test_a_step_that_dies_after_its_files_went_is_repeated_and_counts_them_once(
    app, connection, s3, bucket, first_then_second, monkeypatch
):
    one, other, first, second = first_then_second()
    drain([first])
    fail_after_the_files(monkeypatch, second)
    assert (live(connection), keys(s3, bucket), indexed_files(connection)) == ({other}, set(), 1)
    make_due(connection)
    wakes, _ = nightly.dispatch()
    drain(wakes)
    assert (history(connection), missing_files(connection), indexed_files(connection)) == ({one, other}, 0, 0)
    assert sum(step["files_deleted"] for step in steps(connection)) == 2


def test_a_file_that_went_is_not_counted_again_when_its_letters_other_file_goes_later(
    app, connection, s3, bucket, proxy, send
):
    """The first letter's chain holds the night open, so that the index is there for the second look."""
    send(file=False, reference="A.B")
    service = create_service(connection)
    letter, also = send(service), send(service)
    write_late(connection, s3, letter)
    send()
    refused = where(connection, letter)[1]
    proxy.refused_keys = {refused: "AccessDenied"}
    drain(nightly.fan_out("letter"))
    assert letter in deferred(connection)
    assert (keys(s3, bucket), indexed_files(connection)) == ({refused}, 1)
    proxy.refused_keys = {}
    connection.execute(text("UPDATE retention.chains SET state = 'waiting', due_at = now() + interval '1 hour'"))
    connection.execute(text("UPDATE retention.chains SET state = 'ended' WHERE service_id = :id"), {"id": service})
    connection.execute(text("UPDATE retention.deferred_rows SET next_attempt_at = now()"))
    dispatch()
    assert len(indexes(connection)) == 1
    assert {letter, also} <= history(connection)
    assert sum(step["files_deleted"] for step in steps(connection)) == 4


def test_a_wrong_bucket_is_noticed_with_an_index_too(app, connection, send):
    services = [create_service(connection) for _ in range(2)]
    its = {send(service, file=False) for service in services for _ in range(20)}
    run_night()
    assert live(connection) == its
    assert [(index["complete"], index["files"]) for index in indexes(connection)] == [(True, 0)]
    assert states(connection) == [("real", "resting", "missing-files")] * 2


@pytest.mark.parametrize("reference", ["UPPER0001", "lower0001"])
def test_files_without_a_row_are_counted_and_stay(app, connection, s3, bucket, send, reference):
    one, other = send(), send()
    stranger = f"{FOLDER}NOTIFY.STRANGER.D.2.C.20200101120000.PDF"
    young = create_notification(connection, create_service(connection, letter=90), "letter", NOON, reference=reference)
    s3.put_object(Bucket=bucket, Key=stranger, Body=b"%PDF-1.4")
    s3.put_object(Bucket=bucket, Key=f"{FOLDER}NOTIFY.{reference.upper()}.D.2.C.20200101120000.PDF", Body=b"%PDF")
    with capture_logs() as events:
        run_night()
    assert (live(connection), history(connection)) == ({young}, {one, other})
    assert len(keys(s3, bucket)) == 2
    assert counts(connection) == [(FOLDER, 4, 1)]
    [said] = [event for event in events if event["event"] == "folder-indexed"]
    assert (said["files"], said["without_row"]) == (4, 1)
    assert "STRANGER" not in str(events)
    shown = app.test_cli_runner().invoke(args=["retention", "status"])
    said_so = " ".join(shown.output.split())
    assert "1 of 4 files in" in said_so
    assert "have no row. No retention will ever delete them: flask retention audit" in said_so


def test_the_index_is_emptied_when_no_letters_chain_waits_any_more(app, connection, first_then_second):
    _, other, first, second = first_then_second()
    drain([first])
    connection.execute(text("UPDATE retention.chains SET sent_at = now() WHERE state = 'waiting'"))
    nightly.dispatch()
    assert (len(indexes(connection)), indexed_files(connection), live(connection)) == (1, 1, {other})
    drain([second])
    nightly.dispatch()
    assert (indexes(connection), indexed_files(connection)) == ([], 0)


def test_the_index_is_emptied_after_half_a_day_whatever_waits(app, connection, first_then_second):
    _, other, first, _ = first_then_second()
    drain([first])
    connection.execute(text("UPDATE retention.chains SET sent_at = now() WHERE state = 'waiting'"))
    for seconds, left in ((12 * 3600 - 60, 1), (60, 0)):
        grow_older(connection, seconds)
        nightly.dispatch()
        assert (len(indexes(connection)), indexed_files(connection), live(connection)) == (left, left, {other})


def test_an_index_that_a_step_reads_is_emptied_at_another_look(app, connection, first_then_second):
    _, _, first, second = first_then_second()
    drain([first, second])
    with app.extensions["db.engine"].begin() as step:
        folders_dao.look_up(step, "store", "bucket", [(FOLDER, "REFERENCE")])
        with capture_logs() as events:
            nightly.dispatch()
        assert "folder-index-in-use" in [event["event"] for event in events]
        assert len(indexes(connection)) == 1
    nightly.dispatch()
    assert indexes(connection) == []


def test_a_persons_one_step_builds_no_index(app, connection, s3, bucket, send):
    service = create_service(connection)
    one, other = send(service), send()
    assert move_notifications_to_notification_history("letter", service, days_ago(0)) == 1
    assert (live(connection), history(connection), indexes(connection)) == ({other}, {one}, [])


class TestVersions:
    @pytest.fixture
    def settings_override(self, s3, environment, proxy):
        name = f"versions-{uuid4().hex[:12]}"
        s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": environment["AWS_REGION"]})
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
        yield {
            "AWS_ENDPOINT_URL_S3": proxy.url,
            "FAN_OUT_SPREAD_SECONDS": "0",
            "LETTER_FOLDER_INDEX": "true",
            "S3_BUCKET_LETTERS_PDF": name,
        }
        s3.delete_bucket(Bucket=name)

    def test_a_bucket_with_versions_has_no_index(self, connection, s3, bucket, send):
        its = {send(), send()}
        run_night()
        assert (history(connection), keys(s3, bucket), indexes(connection)) == (its, set(), [])


class TestOff:
    @pytest.fixture
    def settings_override(self):
        return {"FAN_OUT_SPREAD_SECONDS": "0", "LETTER_FOLDER_INDEX": "false"}

    def test_each_step_lists_for_itself(self, connection, s3, bucket, send):
        its = {send(), send()}
        run_night()
        assert (history(connection), keys(s3, bucket), indexes(connection)) == (its, set(), [])
