"""Letters: whose files go, which rows move, and what stays with its files untouched.

Each test was seen to fail with its guard taken out:
promise 1 (a row moves only after its files are gone): `letters.remove` moving all chosen rows, not those of `gone`;
promise 2 (one choice): `notifications_dao.take_these` given a second choice's ids; OVERDUE without the kind;
promise 5 (what stays): the cut-off, `effective_cutoff`'s min, or `statuses_final` left out of the choice;
naming: the final dot left out of the prefix, `>` made `>=` at 17:30, the first file only, one place of two.
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from app.retention import move_notifications_to_notification_history, nightly
from tests.factories import (
    create_letter,
    create_service,
    days_ago,
    deferred,
    history,
    keys,
    live,
    set_retention,
    steps,
    where,
)
from tests.integration.night import deferrals, drain, run_night, states

WINTER_NOON = datetime(2024, 1, 20, 12, 0, 0, tzinfo=UTC)
WINTER_FOLDER = "2024-01-20/"
STAYS = ["pending-virus-check", "created", "sending", "pending", None]
GOES = ["cancelled", "sent", "delivered", "failed", "temporary-failure", "permanent-failure"]
GOES += ["returned-letter"]


@pytest.fixture
def settings_override():
    return {"LETTERS_PER_STEP": "4", "FAN_OUT_SPREAD_SECONDS": "0"}


@pytest.fixture
def service(connection):
    return create_service(connection)


def move(service):
    return move_notifications_to_notification_history("letter", service, days_ago(0))


def put(s3, bucket, *names):
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Body=b"%PDF-1.4")


def file_name(reference, postage_class="2", stamp="20240120120000"):
    return f"NOTIFY.{reference}.D.{postage_class}.C.{stamp}.PDF"


def without_file(connection, s3, service, **more):
    return create_letter(connection, s3, service, WINTER_NOON, file=False, **more)


def test_a_letter_moves_with_its_file_gone_and_nothing_private_in_history(app, connection, s3, service, settings):
    letter = create_letter(connection, s3, service, reference="REF1")
    assert len(keys(s3, settings.s3_bucket_letters_pdf)) == 1
    assert move(service) == 1
    assert (live(connection), history(connection)) == (set(), {letter})
    assert keys(s3, settings.s3_bucket_letters_pdf) == set()
    row = connection.execute(text("SELECT to_jsonb(h) AS row FROM notification_history h")).scalar()
    assert row["reference"] == "REF1"
    assert {"to", "normalised_to", "_personalisation", "reply_to_text", "unsubscribe_link"}.isdisjoint(row)


@pytest.mark.parametrize(
    ("reference", "others"),
    [("AB", ["ABC", "A", "AB-", "XAB"]), ("ABC", ["AB", "ABCD"]), ("a1", ["A1B", "A"])],
)
def test_only_its_own_files_go_where_one_reference_is_a_prefix_of_another(
    app, connection, s3, service, settings, reference, others
):
    bucket = settings.s3_bucket_letters_pdf
    theirs = {WINTER_FOLDER + file_name(other) for other in others}
    put(s3, bucket, WINTER_FOLDER + file_name(reference.upper()), *theirs)
    letter = without_file(connection, s3, service, reference=reference)
    assert move(service) == 1
    assert (history(connection), keys(s3, bucket)) == ({letter}, theirs)


def test_what_has_not_the_form_of_a_letters_file_stays(app, connection, s3, service, settings):
    bucket = settings.s3_bucket_letters_pdf
    others = {
        WINTER_FOLDER + "NOTIFY.FORM." + rest for rest in ("TXT", "D.2.C.2024.PDF", "D.2.C.20240120120000.PDF.OLD")
    }
    put(s3, bucket, WINTER_FOLDER + file_name("FORM"), *others)
    letter = without_file(connection, s3, service, reference="FORM")
    assert move(service) == 1
    assert (history(connection), keys(s3, bucket)) == ({letter}, others)


def test_both_objects_of_one_letter_go(app, connection, s3, service, settings):
    bucket = settings.s3_bucket_letters_pdf
    put(s3, bucket, WINTER_FOLDER + file_name("TWO"), WINTER_FOLDER + file_name("TWO", stamp="20240120120059"))
    letter = without_file(connection, s3, service, reference="TWO")
    assert move(service) == 1
    assert (history(connection), keys(s3, bucket)) == ({letter}, set())
    assert steps(connection)[0]["files_deleted"] == 2


@pytest.mark.parametrize("uploaded_class", ["1", "2", "E", "N", "3"])
def test_a_letter_whose_postage_changed_after_upload_loses_its_file(
    app, connection, s3, service, settings, uploaded_class
):
    bucket = settings.s3_bucket_letters_pdf
    put(s3, bucket, WINTER_FOLDER + file_name("POST", uploaded_class))
    letter = without_file(connection, s3, service, reference="POST", postage="first")
    assert move(service) == 1
    assert (history(connection), keys(s3, bucket)) == ({letter}, set())


@pytest.mark.parametrize(
    ("created_at", "folder"),
    [
        pytest.param(datetime(2024, 1, 20, 17, 30, 0, tzinfo=UTC), "2024-01-20/", id="winter, 17:30:00"),
        pytest.param(datetime(2024, 1, 20, 17, 30, 1, tzinfo=UTC), "2024-01-21/", id="winter, 17:30:01"),
        pytest.param(datetime(2024, 7, 20, 16, 30, 0, tzinfo=UTC), "2024-07-20/", id="summer, 17:30:00"),
        pytest.param(datetime(2024, 7, 20, 16, 30, 1, tzinfo=UTC), "2024-07-21/", id="summer, 17:30:01"),
        pytest.param(datetime(2024, 7, 20, 23, 30, 0, tzinfo=UTC), "2024-07-21/", id="summer, after midnight"),
    ],
)
def test_the_folder_follows_local_time_with_its_border_after_half_past_five(
    app, connection, s3, service, settings, created_at, folder
):
    bucket = settings.s3_bucket_letters_pdf
    days = [f"{created_at:%Y-%m}-{day}/" for day in (19, 20, 21, 22)]
    put(s3, bucket, *[day + file_name("DAY") for day in days])
    letter = create_letter(connection, s3, service, created_at, reference="DAY", file=False)
    assert move(service) == 1
    assert history(connection) == {letter}
    assert keys(s3, bucket) == {day + file_name("DAY") for day in days if day != folder}


@pytest.mark.parametrize(
    ("status", "goes"),
    [
        ("validation-failed", {"invalid/"}),
        ("virus-scan-failed", {"scan/FAILURE/", "letters/2024-01-20/"}),
        ("technical-failure", {"scan/ERROR/", "letters/2024-01-20/"}),
        ("delivered", {"letters/2024-01-20/"}),
    ],
)
def test_a_letter_is_looked_for_in_every_place_of_its_row_and_in_no_other(
    app, connection, s3, service, settings, status, goes
):
    buckets = {
        "letters": settings.s3_bucket_letters_pdf,
        "test": settings.s3_bucket_test_letters,
        "invalid": settings.s3_bucket_invalid_pdf,
        "scan": settings.s3_bucket_letters_scan,
    }
    folders = ["letters/2024-01-20/", "letters/", "test/", "invalid/", "scan/FAILURE/", "scan/ERROR/", "scan/"]
    for folder in folders:
        bucket, _, prefix = folder.partition("/")
        put(s3, buckets[bucket], prefix + file_name("WHERE"))
    letter = without_file(connection, s3, service, reference="WHERE", notification_status=status)
    assert move(service) == 1
    left = {f"{name}/{key}" for name, bucket in buckets.items() for key in keys(s3, bucket)}
    assert history(connection) == {letter}
    assert left == {folder + file_name("WHERE") for folder in folders if folder not in goes}


def test_a_letter_without_an_object_moves_and_is_counted_and_logged_by_id(app, connection, s3, service):
    found = create_letter(connection, s3, service, days_ago(31))
    missing = create_letter(connection, s3, service, days_ago(30), file=False)
    with capture_logs() as events:
        assert move(service) == 2
    assert [event["ids"] for event in events if event["event"] == "letters-without-file"] == [[str(missing)]]
    assert history(connection) == {found, missing}
    assert [(step["moved"], step["without_file"], step["files_deleted"]) for step in steps(connection)] == [(2, 1, 1)]


@pytest.mark.parametrize("reference", [None, "", "  "])
def test_a_letter_without_a_reference_moves_and_takes_no_other_letters_file_along(
    app, connection, s3, service, settings, reference
):
    bucket = settings.s3_bucket_letters_pdf
    young = create_letter(connection, s3, service, days_ago(1))
    others = {WINTER_FOLDER + file_name(other) for other in ("", "A", "NONE")} | {WINTER_FOLDER + "NOTIFY.PDF"}
    put(s3, bucket, *others)
    before = keys(s3, bucket)
    letter = without_file(connection, s3, service)
    connection.execute(text("UPDATE notifications SET reference = :r WHERE id = :id"), {"r": reference, "id": letter})
    assert move(service) == 1
    assert (live(connection), history(connection)) == ({young}, {letter})
    assert keys(s3, bucket) == before


@pytest.mark.parametrize("reference", ["A.B", "A/B", "A.", "../A", "A B", "Ä"])
def test_a_reference_that_could_reach_another_letters_file_is_deferred_and_the_others_go_on(
    app, connection, s3, service, settings, reference
):
    bucket = settings.s3_bucket_letters_pdf
    others = {WINTER_FOLDER + file_name(other) for other in ("A.B", "A", "B", "A.B.C")}
    put(s3, bucket, *others)
    ambiguous = without_file(connection, s3, service, reference=reference)
    plain = create_letter(connection, s3, service)
    assert move(service) == 1
    assert (live(connection), history(connection)) == ({ambiguous}, {plain})
    assert deferred(connection) == {ambiguous: "AmbiguousReference"}
    assert keys(s3, bucket) == others


@pytest.mark.parametrize("status", STAYS)
def test_a_letter_that_is_not_final_stays_with_its_file_and_is_reported(app, connection, s3, service, settings, status):
    letter = create_letter(connection, s3, service, notification_status=status)
    its_key = where(connection, letter)[1]
    final = create_letter(connection, s3, service, days_ago(20))
    run_night()
    assert (live(connection), history(connection)) == ({letter}, {final})
    assert keys(s3, settings.s3_bucket_letters_pdf) == {its_key}
    assert [step["not_final"] for step in steps(connection) if step["stage"] == "real"][-1] == 1


@pytest.mark.parametrize("status", GOES)
def test_a_letter_in_a_final_status_moves(app, connection, s3, service, settings, status):
    letter = create_letter(connection, s3, service, notification_status=status)
    assert move(service) == 1
    assert (history(connection), keys(s3, settings.s3_bucket_letters_pdf)) == ({letter}, set())


@pytest.mark.parametrize(
    ("from_cutoff", "stays"),
    [(timedelta(microseconds=-1), False), (timedelta(0), True), (timedelta(microseconds=1), True)],
)
def test_a_letter_at_the_cut_off_or_after_keeps_its_row_and_its_file(
    app, connection, s3, service, settings, from_cutoff, stays
):
    cutoff = datetime(2024, 1, 22, tzinfo=UTC)
    letter = create_letter(connection, s3, service, cutoff + from_cutoff)
    key = where(connection, letter)[1]
    assert move_notifications_to_notification_history("letter", service, cutoff) == (0 if stays else 1)
    assert (letter in live(connection), letter in history(connection)) == (stays, not stays)
    assert keys(s3, settings.s3_bucket_letters_pdf) == ({key} if stays else set())


def test_a_retention_that_was_lengthened_after_the_fan_out_keeps_row_and_file(app, connection, s3, settings):
    service = create_service(connection, letter=5)
    old, kept = create_letter(connection, s3, service, days_ago(60)), create_letter(connection, s3, service)
    key = where(connection, kept)[1]
    wakes = nightly.fan_out("letter")
    set_retention(connection, service, "letter", 40)
    drain(wakes)
    assert (live(connection), history(connection)) == ({kept}, {old})
    assert keys(s3, settings.s3_bucket_letters_pdf) == {key}


def test_letters_made_at_the_same_instant_all_move_across_the_batch_limit(app, connection, s3, service, settings):
    letters = {create_letter(connection, s3, service, WINTER_NOON) for _ in range(9)}
    run_night()
    assert (live(connection), history(connection)) == (set(), letters)
    assert keys(s3, settings.s3_bucket_letters_pdf) == set()
    assert [step["moved"] for step in steps(connection) if step["stage"] == "real"] == [4, 4, 1]


def test_twenty_older_test_letters_do_not_eat_the_real_letters_batch(app, connection, s3, service, settings):
    tests = {create_letter(connection, s3, service, days_ago(90, hours=n), key_type="test") for n in range(20)}
    real = {create_letter(connection, s3, service, days_ago(30, hours=n)) for n in range(4)}
    assert move(service) == 4
    assert (live(connection), history(connection)) == (tests, real)
    assert keys(s3, settings.s3_bucket_letters_pdf) == set()
    assert len(keys(s3, settings.s3_bucket_test_letters)) == 20


def test_the_letters_of_other_services_keep_their_rows_and_files(app, connection, s3, service, settings):
    mine, theirs = create_letter(connection, s3, service), create_letter(connection, s3, create_service(connection))
    key = where(connection, theirs)[1]
    assert move(service) == 1
    assert (live(connection), history(connection)) == ({theirs}, {mine})
    assert keys(s3, settings.s3_bucket_letters_pdf) == {key}


def test_a_letter_that_moves_takes_its_deferral_along(app, connection, s3, service):
    letter = without_file(connection, s3, service, reference="A.B")
    run_night()
    assert list(deferrals(connection)) == [letter]
    assert states(connection)[0] == ("real", "ended", None)
    connection.execute(text("UPDATE notifications SET reference = :new"), {"new": uuid4().hex})
    connection.execute(text("UPDATE retention.deferred_rows SET next_attempt_at = now()"))
    assert move(service) == 1
    assert (deferred(connection), history(connection)) == ({}, {letter})


class TestSmallestBudget:
    @pytest.fixture
    def settings_override(self):
        return {"STEP_BUDGET_SECONDS": "5"}

    def test_a_step_has_time_for_its_requests(self, connection, s3, service, settings):
        letter = create_letter(connection, s3, service)
        assert move(service) == 1
        assert (history(connection), keys(s3, settings.s3_bucket_letters_pdf)) == ({letter}, set())


def test_a_letter_that_shares_its_reference_with_one_that_stays_is_held_back_with_its_file(app, connection, s3):
    """Both rows' prefix is the same: deleting one's file would delete the other's."""
    service, other_service = create_service(connection, letter=7), create_service(connection, letter=60)
    created_at = days_ago(30)
    overdue = create_letter(connection, s3, service, created_at, reference="SAME0001")
    kept = create_letter(connection, s3, other_service, created_at, reference="same0001", postage="first")
    alone = create_letter(connection, s3, service, created_at)
    assert move_notifications_to_notification_history("letter", service, days_ago(0)) == 1
    assert (live(connection), history(connection)) == ({overdue, kept}, {alone})
    assert deferred(connection) == {overdue: "SharedReference"}
    assert keys(s3, "local-letters-pdf") == {where(connection, overdue)[1], where(connection, kept)[1]}


def test_two_overdue_letters_with_one_reference_go_together(app, connection, s3):
    service = create_service(connection)
    created_at = days_ago(30)
    both = {create_letter(connection, s3, service, created_at, reference="SAME0002") for _ in range(2)}
    assert move_notifications_to_notification_history("letter", service, days_ago(0)) == 2
    assert (live(connection), history(connection), keys(s3, "local-letters-pdf")) == (set(), both, set())


def test_the_same_reference_on_another_day_is_another_letters_folder(app, connection, s3):
    service = create_service(connection, letter=7)
    overdue = create_letter(connection, s3, service, days_ago(30), reference="SAME0003")
    newer = create_letter(connection, s3, service, days_ago(1), reference="SAME0003")
    assert move_notifications_to_notification_history("letter", service, days_ago(0)) == 1
    assert (live(connection), history(connection)) == ({newer}, {overdue})
    assert keys(s3, "local-letters-pdf") == {where(connection, newer)[1]}
