"""An audit finds exactly what was planted, in plain and in versioned buckets, and changes nothing.

Seen to fail: rows read as they are after the listing, rows that a step holds, the rows' margin, the retention of a file
of nobody's, references in mixed case not noticed, one bucket and the days from one on, each for files and for rows;
the key at which an inventory ends.
"""

import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from app import clock
from app.db import db
from app.retention import audit
from app.retention.tools import tools
from app.storage.client import Deadline
from tests.audits import OLD, change_settings, everything, key_of, put, reference, run
from tests.factories import create_history, create_letter, create_service, days_ago, naive, where


@pytest.fixture
def settings_override():
    return {"AUDIT_MARGIN_HOURS": "0.000001"}


def plant(connection, s3, buckets):
    """Something of every kind. Returns what an audit should find, as `run` does."""
    service = create_service(connection, letter=30)
    keeper = create_service(connection, letter=200)
    found = []
    # As it should be: a file in each of the places, references in lower case, and letters that need no file.
    for status in ("delivered", "validation-failed", "virus-scan-failed", "returned-letter"):
        create_letter(connection, s3, service, days_ago(3), notification_status=status)
    create_letter(connection, s3, service, days_ago(3), key_type="test")
    create_letter(connection, s3, service, days_ago(3), reference="lower-case_1")
    for status in ("created", "sending", "pending-virus-check", "technical-failure", None):
        create_letter(connection, s3, service, days_ago(3), notification_status=status, file=False)
    # Rows without a file: real, test, set aside, and one without a reference.
    for columns in ({}, {"key_type": "test"}, {"notification_status": "validation-failed"}, {"reference": None}):
        id_ = create_letter(connection, s3, service, days_ago(4), file=False, **columns)
        found.append(("row-without-file", id_))
    # Files whose row is in history, past its retention or not; in lower case, too.
    for days, of, kind in (
        (40, service, "of-history"),
        (20, service, "within-retention"),
        (100, keeper, "within-retention"),
    ):
        name = reference()
        made = days_ago(days)
        create_history(
            connection, service_id=of, reference=name.lower(), notification_type="letter", created_at=naive(made)
        )
        found.append((f"file-{kind}", put(s3, buckets.letters, key_of(name, made))))
    # Files of nobody's, in each of the places, older than the longest retention and not.
    ancient = days_ago(250)
    for bucket, folder in (
        (buckets.letters, None),
        (buckets.test_letters, ""),
        (buckets.invalid_pdf, ""),
        (buckets.letters_scan, "FAILURE/"),
        (buckets.letters_scan, "ERROR/"),
    ):
        found.append(("file-of-nobody", put(s3, bucket, key_of(reference(), ancient, folder), 2)))
        found.append(("file-within-retention", put(s3, bucket, key_of(reference(), days_ago(150), folder))))
    # A letter's file in a folder where no step looks, beside its own.
    astray = create_letter(connection, s3, service, days_ago(3))
    bucket, key = where(connection, astray)
    found.append(("file-misplaced", put(s3, bucket, f"2026-01-01/{key.partition('/')[2]}")))
    # Names that fit no letter.
    for bucket, key in (
        (buckets.letters, "notes.txt"),
        (buckets.letters, "NOTIFY.AB.D.2.C.20260101120000.PDF"),
        (buckets.letters, "2026-02-30/NOTIFY.AB.D.2.C.20260101120000.PDF"),
        (buckets.letters, "2026-02-01/NOTIFY.AB.D.2.C.20260101120000.PDF.bak"),
        (buckets.letters, "2026-02-01/NOTIFY.A.B.D.2.C.20260101120000.PDF"),
        (buckets.letters, "FAILURE/NOTIFY.AB.D.2.C.20260101120000.PDF"),
        (buckets.test_letters, "2026-02-01/NOTIFY.AB.D.2.C.20260101120000.PDF"),
        (buckets.letters_scan, "NOTIFY.AB.D.2.C.20260101120000.PDF"),
        (buckets.invalid_pdf, "notify.ab.d.2.c.20260101120000.pdf"),
    ):
        found.append(("file-unrecognised", put(s3, bucket, key)))
    return sorted(found, key=str)


def test_an_audit_finds_what_was_planted_and_nothing_else_and_changes_nothing(connection, s3, buckets):
    planted = plant(connection, s3, buckets)
    before = everything(s3)
    current, found = run()
    assert found == planted
    kinds = Counter(kind for kind, _ in planted)
    assert current.files_seen == sum(len({key for key, _ in keys}) for keys in before.values())
    assert current.files_without_row == kinds["file-of-history"] + kinds["file-of-nobody"] == 6
    assert current.files_of_history == kinds["file-of-history"] == 1
    assert current.files_within_retention == kinds["file-within-retention"] == 7
    assert current.files_misplaced == kinds["file-misplaced"] == 1
    assert current.unrecognised_files == kinds["file-unrecognised"] == 9
    assert current.rows_without_file == kinds["row-without-file"] == 4
    assert (current.rows_seen, current.rows_in_mixed_case, current.deleted_files) == (11, 0, 0)
    assert (current.files_young, current.refused, current.position) == (0, None, None)
    assert everything(s3) == before


def test_examples_are_kept_without_keys_and_no_more_than_the_setting_says(app, connection, s3, settings):
    names = tools().naming.buckets
    planted = [put(s3, names.letters, key_of(reference())) for _ in range(4)]
    change_settings(app, audit_examples=3)
    current, _ = run()
    kept = connection.execute(text("SELECT * FROM retention.audit_findings ORDER BY id")).mappings().all()
    assert [(row["kind"], row["bucket"], row["folder"]) for row in kept] == [
        ("file-of-nobody", names.letters, tools().naming.folder(OLD))
    ] * 3
    assert (current.files_without_row, len({row["key_sha256"] for row in kept})) == (4, 3)
    records = connection.execute(text("SELECT a::text FROM retention.audits AS a")).scalars().all()
    said = "".join([*map(str, kept), *records])
    assert [key for _, key in planted if key.split(".")[1] in said] == []


@pytest.mark.parametrize(("hours", "kinds"), [(1, []), (0.000001, ["file-of-nobody", "file-unrecognised"])])
def test_a_file_that_was_just_written_is_not_judged(app, settings, connection, s3, hours, kinds):
    names = tools().naming.buckets
    put(s3, names.letters, key_of(reference()))
    put(s3, names.letters, "a-note")
    change_settings(app, audit_margin_hours=hours)
    current, found = run()
    assert [kind for kind, _ in found] == kinds
    assert (current.files_seen, current.files_young) == (2, 2 - len(kinds))


def test_a_letter_that_was_just_made_or_changed_is_not_missing_its_file(app, settings, connection, s3):
    service = create_service(connection)
    create_letter(connection, s3, service, days_ago(0, minutes=30), file=False)
    create_letter(connection, s3, service, days_ago(3), file=False, updated_at=naive(days_ago(0, minutes=30)))
    missing = create_letter(connection, s3, service, days_ago(3), file=False, updated_at=naive(days_ago(2)))
    change_settings(app, audit_margin_hours=1)
    _, found = run()
    assert found == [("row-without-file", missing)]


def test_a_letter_that_a_step_deals_with_or_had_begun_with_is_not_missing_its_file(app, connection, s3):
    service = create_service(connection)
    held = create_letter(connection, s3, service, days_ago(30), file=False)
    begun = create_letter(connection, s3, service, days_ago(31), file=False)
    of_test = create_letter(connection, s3, service, days_ago(31), file=False, key_type="test")
    connection.execute(
        text(
            "INSERT INTO retention.intents (service_id, kind, looked_in, notification_ids, written_at) "
            "VALUES (:service, 'real', 'here', ARRAY[CAST(:begun AS uuid)], now())"
        ),
        {"service": service, "begun": begun},
    )
    with db.engine.begin() as step:
        step.execute(text("SELECT FROM notifications WHERE id = :id FOR UPDATE"), {"id": held})
        _, found = run()
    assert found == [("row-without-file", of_test)]
    _, found = run()
    assert sorted(id_ for _, id_ in found) == sorted([held, of_test])


def test_a_letter_that_a_step_moves_while_a_page_is_listed_has_its_row_still(app, connection, s3, monkeypatch):
    """Its file is in the page, and its row is gone by the time that the page is judged."""
    service = create_service(connection)
    letter = create_letter(connection, s3, service, days_ago(40))
    files = tools().files
    inventory = files.inventory

    def and_then_it_moves(*arguments):
        reading = inventory(*arguments)
        read = reading.read

        def read_and_move():
            page = read()
            connection.execute(text("DELETE FROM notifications WHERE id = :id"), {"id": letter})
            return page

        reading.read = read_and_move
        return reading

    monkeypatch.setattr(files, "inventory", and_then_it_moves)
    current, found = run(bucket=tools().naming.buckets.letters)
    assert (found, current.files_seen) == ([], 1)


def test_a_bucket_that_refuses_is_said_and_the_others_are_read(app, connection, s3, settings):
    change_settings(app, s3_bucket_letters_pdf="there-is-no-such-bucket")
    service = create_service(connection)
    create_letter(connection, s3, service, days_ago(3), file=False)
    missing = create_letter(connection, s3, service, days_ago(3), file=False, key_type="test")
    orphan = put(s3, settings.s3_bucket_test_letters, key_of(reference(), folder=""))
    current, found = run()
    assert current.refused.startswith("there-is-no-such-bucket: ")
    assert found == [("file-of-nobody", orphan), ("row-without-file", missing)]


def test_an_inventory_begins_behind_a_key_and_ends_before_another(app, s3, buckets):
    for key in ("2026-03-01", "2026-03-01/a", "2026-03-02/a", "2026-03-03", "2026-03-03/a"):
        put(s3, buckets.letters, key, 2)
    reading = tools().files.inventory(buckets.letters, Deadline(600), "2026-03-01", "2026-03-03")
    assert [one.key for page in iter(reading.read, None) for one in page] == ["2026-03-01/a", "2026-03-02/a"]


def test_an_audit_of_some_days_or_one_bucket_leaves_the_rest(app, connection, s3):
    names = tools().naming.buckets
    service = create_service(connection)
    days = [datetime(2026, 3, day, 12, tzinfo=UTC) for day in (1, 2, 3, 4)]
    orphans = [put(s3, names.letters, key_of(reference(), day)) for day in days]
    of_test = put(s3, names.test_letters, key_of(reference(), folder=""))
    rows = [create_letter(connection, s3, service, day, file=False) for day in days]
    test_row = create_letter(connection, s3, service, days[1], file=False, key_type="test")
    _, found = run(since=days[1].date(), until=days[2].date())
    assert found == sorted(
        [("file-of-nobody", key) for key in orphans[1:3]] + [("row-without-file", id_) for id_ in rows[1:3]], key=str
    )
    _, found = run(bucket=names.test_letters)
    assert found == sorted([("file-of-nobody", of_test), ("row-without-file", test_row)], key=str)
    _, found = run(since=days[3].date())
    assert found == sorted([("file-of-nobody", orphans[3]), ("row-without-file", rows[3])], key=str)


def test_a_reference_in_mixed_case_is_said_whatever_the_letters_status(app, connection, s3):
    service = create_service(connection)
    mixed = [
        create_letter(connection, s3, service, days_ago(3), reference="MixedCase", notification_status=status)
        for status in ("delivered", "created", None)
    ]
    current, found = run()
    assert sorted(id_ for kind, id_ in found if kind == "row-in-mixed-case") == sorted(mixed)
    assert current.rows_in_mixed_case == 3


def test_letters_with_a_status_of_the_platforms_own_are_read_but_need_no_file(connection, s3):
    """Nobody told us what such a status says of the file. (An adopted database grants the role to read them.)"""
    connection.execute(text("INSERT INTO notification_status_types VALUES ('held-for-proof')"))
    connection.execute(text("GRANT SELECT ON notification_status_types TO PUBLIC"))
    try:
        service = create_service(connection, letter=30)
        columns = {"notification_status": "held-for-proof", "file": False}
        mixed = create_letter(connection, s3, service, days_ago(3), reference="Mixed_Case", **columns)
        create_letter(connection, s3, service, days_ago(3), **columns)
        current, found = run()
        assert found == [("row-in-mixed-case", mixed)]
        assert (current.rows_seen, current.rows_without_file) == (0, 0)
    finally:
        connection.execute(text("TRUNCATE notifications CASCADE"))
        connection.execute(text("REVOKE SELECT ON notification_status_types FROM PUBLIC"))
        connection.execute(text("DELETE FROM notification_status_types WHERE name = 'held-for-proof'"))


def test_where_no_files_are_kept_no_letter_is_missing_one(app, settings, connection, s3):
    change_settings(app, missing_files_share=None)
    create_letter(connection, s3, create_service(connection), days_ago(3), file=False)
    current, found = run()
    assert (found, current.rows_seen) == ([], 0)


def test_another_audit_that_goes_on_keeps_one_from_beginning_and_one_that_stands_still_is_abandoned(app, connection):
    first = audit.begin("me")
    with pytest.raises(audit.AuditUnderWay, match="begun by me"):
        audit.begin("you")
    connection.execute(text("UPDATE retention.audits SET advanced_at = now() - interval '1 hour', position = 'K'"))
    second = audit.begin("you")
    assert audit.under_way() == second
    with pytest.raises(audit.Overtaken):
        audit.go_on(first)
    assert connection.execute(text("SELECT abandoned, position FROM retention.audits ORDER BY id")).all() == [
        (True, None),
        (False, None),
    ]


@pytest.mark.parametrize(
    ("hours_ago", "state", "begins"),
    [
        (None, None, True),
        (6 * 24, "finished", False),
        (7 * 24 - 6, "finished", True),
        (0.1, "under way", False),
        (1, "under way", "the same"),
        (1, "deletes", False),
        (25, "deletes", False),
        (8 * 24, "deletes", True),
    ],
)
def test_when_an_audit_is_due(app, connection, hours_ago, state, begins):
    if state:
        connection.execute(
            text(
                "INSERT INTO retention.audits (started_at, advanced_at, finished_at, started_by, deletes) "
                "SELECT at, at, CASE WHEN :state = 'finished' THEN at END, 'me', :state = 'deletes' "
                "FROM (SELECT now() - make_interval(secs => :seconds) AS at) AS moment"
            ),
            {"state": state, "seconds": hours_ago * 3600},
        )
    found = audit.due(clock.now())
    assert (found is not None) == bool(begins)
    if found:
        assert found.started_by == ("me" if begins == "the same" else "schedule")


def test_the_command_says_what_was_found_as_a_table_and_as_json_and_exits_with_1(
    app, connection, s3, buckets, tmp_path
):
    planted = plant(connection, s3, buckets)
    keys = tmp_path / "keys.jsonl"
    runner = app.test_cli_runner()
    ended = runner.invoke(args=["retention", "audit", "--json", "--by", "the operator", "--keys", str(keys)])
    said = json.loads(ended.stdout[ended.stdout.index("{") :])  # behind log lines, which a process has elsewhere
    assert (ended.exit_code, said["started_by"], said["files_without_row"], said["rows_without_file"]) == (
        1,
        "the operator",
        6,
        4,
    )
    lines = [json.loads(line) for line in keys.read_text().splitlines()]
    written = [
        (line["kind"], (line["bucket"], line["key"]) if line["key"] else line["notification_id"]) for line in lines
    ]
    assert sorted(map(str, written)) == sorted(
        str((kind, what if isinstance(what, tuple) else str(what))) for kind, what in planted
    )
    assert keys.stat().st_mode & 0o777 == 0o600
    table = runner.invoke(args=["retention", "audit", "--bucket", buckets.letters_scan])
    assert table.exit_code == 1
    assert next(line.split()[:4] for line in table.stdout.splitlines() if "without a row" in line) == [
        "2",
        "files",
        "without",
        "a",
    ]


def test_the_command_exits_with_0_when_all_is_as_it_should_be(app, connection, s3):
    create_letter(connection, s3, create_service(connection), days_ago(3))
    ended = app.test_cli_runner().invoke(args=["retention", "audit"])
    assert (ended.exit_code, ["1", "files", "seen"] in map(str.split, ended.stdout.splitlines())) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (["--bucket", "elsewhere"], "'elsewhere' is not a letter bucket", 2),
        (["--since", "2026-03-02", "--until", "2026-03-01"], "the folders from 2026-03-02 to 2026-03-01 are none", 2),
        (["--since", "yesterday"], "'yesterday' does not match the format", 2),
        (["--resume"], "no audit is to be gone on with", 1),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(app, arguments, sentence, code):
    ended = app.test_cli_runner().invoke(args=["retention", "audit", *arguments])
    assert (ended.exit_code, sentence in ended.stderr) == (code, True)
