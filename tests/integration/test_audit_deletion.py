"""`flask retention audit --delete` removes files without a row, exactly those, and says what it did.

Seen to fail: the second look left out, holds not asked for files of nobody's, references in mixed case let through,
and a share without rows that `--yes` should not be enough for.
"""

import json
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import event, text

from app.db import db
from app.retention import audit, operations
from app.retention.tools import tools
from tests.audits import all_buckets, change_settings, everything, key_of, put, reference, run
from tests.factories import create_history, create_letter, create_notification, create_service, days_ago, naive
from tests.integration.test_audit import plant


@pytest.fixture
def settings_override(proxy):
    return {"AUDIT_MARGIN_HOURS": "0.000001", "AWS_ENDPOINT_URL_S3": proxy.url}


@pytest.fixture
def flask(app):
    runner = app.test_cli_runner()
    return lambda *arguments, **more: runner.invoke(args=["retention", "audit", *arguments], **more)


def orphans(s3, count, bucket=None):
    return [put(s3, bucket or tools().naming.buckets.letters, key_of(reference())) for _ in range(count)]


def deletions(connection) -> list[tuple[Any, ...]]:
    statement = "SELECT deleted_by, asked, files, refused, code FROM retention.audit_deletions ORDER BY id"
    return [tuple(row) for row in connection.execute(text(statement))]


def latest(connection) -> Any:
    return connection.execute(text("SELECT * FROM retention.audits ORDER BY id DESC LIMIT 1")).mappings().one()


def test_exactly_the_files_without_a_row_go_with_all_of_their_versions(app, connection, s3, buckets, flask):
    planted = plant(connection, s3, buckets)
    before = everything(s3)
    ended = flask("--delete", "--by", "the operator", input="y\n")
    assert "Delete 6 files without a row, for good?" in ended.stderr
    going = {what for kind, what in planted if kind in ("file-of-nobody", "file-of-history")}
    assert everything(s3) == {
        bucket: [one for one in keys if (bucket, one[0]) not in going] for bucket, keys in before.items()
    }
    did = latest(connection)
    assert (did["deletes"], did["started_by"], did["deleted_files"], did["files_without_row"]) == (
        True,
        "the operator",
        6,
        0,
    )
    assert did["files_seen"] == sum(len({key for key, _ in keys}) for keys in before.values())
    assert sum(files for _, _, files, _, _ in deletions(connection)) == 6
    assert {(by, asked - files, code) for by, asked, files, _, code in deletions(connection)} == {
        ("the operator", 0, None)
    }
    again, found = run()
    assert Counter(kind for kind, _ in found) == Counter(kind for kind, what in planted if what not in going)
    assert (again.files_without_row, ended.exit_code) == (0, 1), "rows without a file are left"


@pytest.mark.parametrize("arguments", [[], ["--delete"]])
def test_nothing_goes_unless_asked_and_confirmed(app, connection, s3, flask, arguments):
    orphans(s3, 2)
    before = everything(s3)
    ended = flask(*arguments, input="n\n")
    assert (ended.exit_code, everything(s3), deletions(connection)) == (1, before, [])


def test_a_row_that_appears_before_the_deletion_keeps_its_file(app, connection, s3, flask):
    """Between the audit and the answer: two references get a row again, one of them in lower case and of an email."""
    service = create_service(connection)
    names = [reference() for _ in range(3)]
    for name in names:
        put(s3, tools().naming.buckets.letters, key_of(name))
    current, _ = run()
    create_letter(connection, s3, service, days_ago(3), reference=names[0], file=False)
    create_notification(connection, service, "email", days_ago(3), reference=names[1].lower())
    deleting, _ = run(deletes=True)
    assert (current.files_without_row, deleting.deleted_files) == (3, 1)
    left = [key for key, _ in everything(s3)[tools().naming.buckets.letters]]
    assert left == sorted(map(key_of, names[:2]))


def test_a_row_that_appears_at_the_last_moment_keeps_its_file(app, connection, s3):
    """Between the look before the record and the deletion, which asks once more."""
    service = create_service(connection)
    kept, going = reference(), reference()
    for name in (kept, going):
        put(s3, tools().naming.buckets.letters, key_of(name))
    asked = []

    def appear(_connection, _cursor, statement, *_more):
        if "string_to_array" in statement and "notifications AS n" in statement:
            asked.append(statement)
            if len(asked) == 3:
                create_notification(connection, service, "email", days_ago(3), reference=kept)

    event.listen(db.engine, "before_cursor_execute", appear)
    deleting, _ = run(deletes=True)
    assert len(asked) == 3
    assert (deleting.deleted_files, deleting.files_without_row) == (1, 1)
    assert [key for key, _ in everything(s3)[tools().naming.buckets.letters]] == [key_of(kept)]


def test_files_of_a_service_on_hold_stay_and_so_do_those_of_nobody_knows_whom(app, connection, s3):
    held, free = create_service(connection), create_service(connection)
    of_held, of_free, of_nobody = (reference() for _ in range(3))
    for service, name in ((held, of_held), (free, of_free)):
        create_history(
            connection, service_id=service, reference=name, notification_type="letter", created_at=naive(days_ago(100))
        )
    for name in (of_held, of_free, of_nobody):
        put(s3, tools().naming.buckets.letters, key_of(name))
    operations.hold(held, "an inquiry", "me")
    deleting, found = run(deletes=True)
    assert (deleting.deleted_files, [kind for kind, _ in found]) == (1, ["file-of-history", "file-of-nobody"])
    operations.lift(str(held), "me")
    deleting, found = run(deletes=True)
    assert (deleting.deleted_files, found) == (2, [])


def test_nothing_goes_while_the_pipeline_is_paused(app, connection, s3, flask):
    orphans(s3, 1)
    operations.pause("a migration", "me")
    before = everything(s3)
    ended = flask("--delete", "--yes")
    assert (ended.exit_code, everything(s3)) == (1, before)
    assert "The pipeline is paused" in ended.stderr
    operations.lift("pipeline", "me")
    resumed = flask("--resume", "--delete", "--yes")
    assert (resumed.exit_code, sum(map(len, everything(s3).values()))) == (0, 0)


def test_what_s3_refuses_stays_and_is_counted_with_its_code(app, connection, s3, proxy):
    (_, refused), *_ = orphans(s3, 3)
    proxy.refused_keys = {refused: "AccessDenied"}
    deleting, found = run(deletes=True)
    assert (deleting.deleted_files, deleting.files_without_row, deleting.files_seen) == (2, 1, 3)
    assert [what[1] for _, what in found] == [refused]
    assert deletions(connection) == [("me", 3, 2, 1, "AccessDenied")]


def test_a_page_that_s3_stopped_is_read_again_and_nothing_counts_twice(app, connection, s3, proxy, settings):
    orphans(s3, 3)
    proxy.slow_buckets = {settings.s3_bucket_letters_pdf}
    current = audit.begin("me", deletes=True)
    turn = audit.go_on(current)
    assert (turn.stopped, turn.audit.files_seen, turn.audit.position) == ("SlowDown", 0, None)
    proxy.slow_buckets = set()
    ended = audit.finish(turn.audit)
    assert (ended.files_seen, ended.deleted_files, ended.files_without_row) == (3, 3, 0)
    assert deletions(connection) == [("me", 3, 0, 3, "SlowDown"), ("me", 3, 3, 0, None)]


def test_so_many_that_it_looks_like_the_wrong_database_do_not_go_unasked(app, connection, s3, flask):
    orphans(s3, 21)
    before = everything(s3)
    refused = flask("--delete", "--yes")
    assert (refused.exit_code, everything(s3)) == (1, before)
    assert "That looks like the wrong database or bucket" in refused.stderr
    assert flask("--delete", input="y\n").exit_code == 0
    assert everything(s3) == {bucket: [] for bucket in all_buckets()}


def test_nothing_goes_while_a_letters_reference_is_in_mixed_case(app, connection, s3, flask):
    create_letter(connection, s3, create_service(connection), days_ago(3), reference="MixedCase")
    orphans(s3, 1)
    before = everything(s3)
    ended = flask("--delete", "--yes")
    assert (ended.exit_code, everything(s3)) == (1, before)
    assert "references in mixed case" in ended.stderr


def test_the_record_of_a_deletion_names_no_key(app, connection, s3, flask, capsys):
    planted = orphans(s3, 2)
    ended = flask("--delete", "--json", input="y\n")
    records = connection.execute(
        text(
            "SELECT r::text FROM retention.audits AS r UNION ALL SELECT r::text FROM retention.audit_deletions AS r "
            "UNION ALL SELECT r::text FROM retention.audit_findings AS r"
        )
    ).scalars()
    said = "".join([*records, ended.stdout, ended.stderr, *capsys.readouterr()])
    assert "audit-files-deleted" in said
    assert [key for _, key in planted if key.split(".")[1] in said] == []
    assert json.loads(ended.stdout[ended.stdout.rindex("{\n") :])["deleted_files"] == 2


def test_files_go_by_the_setting_of_another_margin(app, connection, s3):
    orphans(s3, 1)
    change_settings(app, audit_margin_hours=1)
    deleting, _ = run(deletes=True)
    assert (deleting.deleted_files, deleting.files_young) == (0, 1)
