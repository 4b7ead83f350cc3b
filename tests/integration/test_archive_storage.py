"""How archived files lie in the bucket: class, tags, encryption, parts; and that they leave it with every version.

Seen to fail, each by its guard taken out: what is said of a file that is put at once, and of one that is put in parts;
the versions of an object but for the newest; keys that only begin with the file's.
"""

from datetime import timedelta

import pytest
from sqlalchemy import text

from app import clock
from app.archive import parquet, upkeep, using
from app.archive.tools import tools
from app.storage.upload import LEAST_PART_BYTES
from tests.archives import BUCKET, manifest, many, rows_of, run
from tests.factories import create_history, create_service

TAGS = [{"Key": "kind", "Value": "archive"}, {"Key": "owner", "Value": "notify"}]
LARGE = text(
    """
    UPDATE notification_history
    SET client_reference = (
        SELECT string_agg(encode(sha256((id::text || n)::bytea), 'base64'), '') FROM generate_series(1, 180) AS n
    )
    """
)
"""Texts that compress little: a few rows fill several parts."""


@pytest.fixture
def settings_override():
    return {
        "S3_BUCKET_ARCHIVE": BUCKET,
        "ARCHIVE_STORAGE_CLASS": "GLACIER_IR",
        "ARCHIVE_TAGS": "kind=archive&owner=notify",
        "ARCHIVE_ENCRYPTION": "aws:kms",
        "ARCHIVE_ENCRYPTION_KEY": "a-key-of-tests",
        "ARCHIVE_KEPT_DAYS": "400",
    }


@pytest.fixture(autouse=True)
def bucket(archive_bucket):
    return archive_bucket


@pytest.fixture
def service(connection):
    return create_service(connection)


def assert_is_kept_as_it_is_told(s3):
    [one] = manifest()
    head = s3.head_object(Bucket=BUCKET, Key=one.key)
    assert head["ContentType"] == "application/vnd.apache.parquet"
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("GLACIER_IR", "aws:kms")
    assert head["SSEKMSKeyId"].endswith("a-key-of-tests")
    tags = s3.get_object_tagging(Bucket=BUCKET, Key=one.key)["TagSet"]
    assert sorted(tags, key=lambda tag: tag["Key"]) == TAGS
    return one


def test_a_file_has_the_class_the_tags_and_the_encryption_that_are_set(connection, service, s3):
    many(connection, [service], 20)
    run()
    assert assert_is_kept_as_it_is_told(s3).bytes < LEAST_PART_BYTES


def test_so_has_a_file_that_is_sent_in_parts(connection, service, s3):
    many(connection, [service], 2000)
    connection.execute(LARGE)
    run()
    assert assert_is_kept_as_it_is_told(s3).bytes > 2 * LEAST_PART_BYTES
    assert rows_of(connection) == {}
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_so_has_a_file_that_was_redacted(connection, service, s3):
    many(connection, [service, create_service(connection)], 20)
    run()
    assert upkeep.redact(tools(), manifest()[0], service=service) == 10
    assert_is_kept_as_it_is_told(s3)


def test_at_its_second_age_a_file_goes_with_every_version_and_no_other_file_does(connection, service, s3):
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    many(connection, [service], 20)
    run()
    [one] = manifest()
    for _ in range(2):
        s3.put_object(Bucket=BUCKET, Key=one.key, Body=b"an earlier attempt")
    s3.delete_object(Bucket=BUCKET, Key=one.key)
    s3.put_object(Bucket=BUCKET, Key=f"{one.key}.notes", Body=b"somebody else's")
    assert upkeep.expire(tools()) == 1
    listed = s3.list_object_versions(Bucket=BUCKET)
    assert [each["Key"] for each in listed["Versions"]] == [f"{one.key}.notes"]
    assert not listed.get("DeleteMarkers")


def test_a_file_stays_until_all_of_its_window_is_past_the_second_age(connection, service, s3):
    instant = clock.now() - timedelta(days=400)
    of_its_day = create_history(connection, service_id=service, created_at=instant - timedelta(seconds=1))
    day_before = create_history(connection, service_id=service, created_at=instant - timedelta(days=1))
    run()
    assert upkeep.expire(tools()) == 1
    assert [one.state for one in manifest()] == ["expired", "done"]
    assert using.find(tools(), "id", str(of_its_day)).rows
    assert not using.find(tools(), "id", str(day_before)).rows


def test_parts_that_an_interrupted_upload_made_are_taken_away(connection, service, s3):
    """S3 gives up in the middle of a file; what it has of it goes at once, not with the next attempt."""
    many(connection, [service], 2000)
    connection.execute(LARGE)
    seen = []

    def fail(model, **_):
        seen.append(model.name)
        if seen.count("UploadPart") == 2:
            raise ConnectionResetError

    events = tools().s3.meta.events
    events.register("before-call.s3.UploadPart", fail)
    try:
        run()
    except ConnectionResetError:
        pass
    finally:
        events.unregister("before-call.s3.UploadPart", fail)
    assert seen[:2] == ["UploadPart"] * 2
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
    assert len(rows_of(connection)) == 2000


def test_each_row_of_a_file_of_many_row_groups_is_found(connection, service, monkeypatch):
    """A file is one place to read from: two threads of DuckDB that move it about would read each other's bytes."""
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 200)
    many(connection, [service], 3000)
    ids = list(rows_of(connection))[::500]
    run()
    for id_ in ids:
        assert [row["id"] for row in using.find(tools(), "id", str(id_)).rows] == [id_]
