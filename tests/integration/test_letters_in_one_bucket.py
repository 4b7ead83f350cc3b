"""Letters in one bucket, in folders by the UTC date of sent_at, as preset `va-notify` has them: nights and audits.

Seen to fail: sent_at left out of the choice and of the audit's rows, places by status, a letter whose folder is unknown
taken for one without a file, one that shares its reference moved, the index of folders asked, a letter that was never
sent missed by an audit or by a night, the Crown's part of a name forgotten, and an audit of some days reading other
days' letters.
"""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app import config
from tests.audits import put, reference, run
from tests.factories import (
    create_history,
    create_letter,
    create_service,
    days_ago,
    deferred,
    history,
    keys,
    live,
    naive,
    steps,
)
from tests.integration.night import run_night

SENT = datetime(2026, 1, 21, 0, 0, tzinfo=UTC)
MADE = SENT - timedelta(hours=3)  # in New York a day earlier than when it was sent
DAY = timedelta(days=1)


@pytest.fixture
def settings(environment):
    """Nothing but the one bucket is set."""
    given = {name: value for name, value in environment.items() if not name.startswith("S3_BUCKET_")}
    of_va_notify = {"PLATFORM_PRESET": "va-notify", "FAN_OUT_SPREAD_SECONDS": "0", "AUDIT_MARGIN_HOURS": "0.000001"}
    of_va_notify |= {"S3_BUCKET_LETTERS_PDF": environment["S3_BUCKET_LETTERS_PDF"], "ACCOUNTS_ENABLED": "false"}
    return config.load({**given, **of_va_notify, "MISSING_FILES_SHARE": "0.9"})


@pytest.fixture
def bucket(settings):
    return settings.s3_bucket_letters_pdf


@pytest.fixture
def service(connection):
    return create_service(connection)


def file_of(s3, bucket, name, folder_date):
    key = f"{folder_date:%Y-%m-%d}/NOTIFY.{name}.D.2.C.{MADE:%Y%m%d%H%M%S}.PDF"
    put(s3, bucket, key)
    return key


def test_letters_of_every_status_and_key_go_with_their_files(app, connection, s3, service, bucket):
    moved, deleted, sent = set(), set(), SENT + 5 * DAY
    for status in ("delivered", "validation-failed", "virus-scan-failed", "technical-failure"):
        for key_type, ids in (("normal", moved), ("team", moved), ("test", deleted)):
            name = reference()
            columns = {"notification_status": status, "key_type": key_type, "sent_at": naive(sent)}
            ids.add(create_letter(connection, s3, service, MADE, reference=name, file=False, **columns))
            file_of(s3, bucket, name, sent)
    stranger = file_of(s3, bucket, reference(), sent)
    run_night()
    assert (live(connection), history(connection)) == (set(), moved)
    assert keys(s3, bucket) == {stranger}
    asked = connection.execute(text("SELECT count(*) FROM retention.indexed_folders")).scalar()
    assert asked == 0


def test_a_letter_that_was_never_sent_is_looked_for_under_every_date_that_it_can_have(
    app, connection, s3, service, bucket
):
    name, changed = reference(), MADE + 2 * DAY
    letter = create_letter(connection, s3, service, MADE, reference=name, file=False, updated_at=naive(changed))
    for day in range(3):
        file_of(s3, bucket, name, MADE + day * DAY)
    later = file_of(s3, bucket, name, MADE + 3 * DAY)
    run_night()
    assert (history(connection), keys(s3, bucket)) == ({letter}, {later})


def test_letters_that_were_never_sent_are_not_missed(app, connection, s3, service, settings):
    many = settings.missing_files_least + 1
    unsent = {create_letter(connection, s3, service, MADE, file=False) for _ in range(many)}
    run_night()
    assert (live(connection), history(connection)) == (set(), unsent)
    assert not any(step["without_file"] for step in steps(connection))
    sent = {create_letter(connection, s3, service, MADE, file=False, sent_at=naive(SENT)) for _ in range(many)}
    run_night()
    assert live(connection) == sent, "one that was sent has a file"


def test_the_part_of_the_crown_belongs_to_the_name(app, connection, s3, service, bucket):
    name = reference()
    letter = create_letter(connection, s3, service, MADE, reference=name, file=False, sent_at=naive(SENT))
    put(s3, bucket, f"{SENT:%Y-%m-%d}/NOTIFY.{name}.D.2.C.C.{MADE:%Y%m%d%H%M%S}.PDF")
    run_night()
    assert (history(connection), keys(s3, bucket)) == ({letter}, set())


def test_one_whose_folder_nobody_knows_stays_with_its_file_and_so_does_one_with_its_reference(
    app, connection, s3, service, bucket
):
    name = reference()
    unknown = create_letter(
        connection, s3, service, MADE, reference=name, file=False, updated_at=naive(MADE + 90 * DAY)
    )
    other = create_service(connection, letter=20)
    same = create_letter(connection, s3, other, MADE, reference=name.lower(), file=False, sent_at=naive(SENT))
    key = file_of(s3, bucket, name, SENT)
    run_night()
    assert (live(connection), keys(s3, bucket)) == ({unknown, same}, {key})
    assert deferred(connection) == {unknown: "FolderUnknown", same: "SharedReference"}


def planted(connection, s3, service, bucket):
    """Letters and files for an audit, and what it should find."""
    sent = {"sent_at": naive(days_ago(3)), "file": False}
    names = [reference() for _ in range(4)]
    create_letter(connection, s3, service, days_ago(4), reference=names[0], **sent)
    file_of(s3, bucket, names[0], days_ago(3))
    create_letter(connection, s3, service, days_ago(4), notification_status="cancelled", file=False)
    missing = create_letter(connection, s3, service, days_ago(4), **sent)
    moved = naive(datetime(2025, 12, 30, tzinfo=UTC))
    create_history(connection, service_id=service, reference=names[1], notification_type="letter", created_at=moved)
    of_history = file_of(s3, bucket, names[1], SENT)
    create_letter(connection, s3, service, days_ago(4), reference=names[2], **sent)
    file_of(s3, bucket, names[2], days_ago(3))
    misplaced = file_of(s3, bucket, names[2], SENT)
    _, unrecognised = put(s3, bucket, f"FAILURE/NOTIFY.{names[3]}.D.2.C.20260101120000.PDF")
    return [
        ("file-misplaced", (bucket, misplaced)),
        ("file-of-history", (bucket, of_history)),
        ("file-unrecognised", (bucket, unrecognised)),
        ("row-without-file", missing),
    ]


def test_an_audit_knows_the_names_in_the_one_bucket(app, connection, s3, service, bucket):
    expected = planted(connection, s3, service, bucket)
    audit, found = run()
    assert found == expected
    assert audit.rows_seen == 3


def test_an_audit_of_some_days_looks_at_the_letters_sent_on_them(app, connection, s3, service, bucket):
    expected = dict(planted(connection, s3, service, bucket))
    _, of_then = run(since=SENT.date(), until=SENT.date())
    assert of_then == [(kind, expected[kind]) for kind in ("file-misplaced", "file-of-history")]
    _, lately = run(since=days_ago(3).date())
    assert ("row-without-file", expected["row-without-file"]) in lately
    assert "file-misplaced" not in dict(lately)
    _, later = run(since=days_ago(2).date(), until=days_ago(2).date())
    assert later == []
