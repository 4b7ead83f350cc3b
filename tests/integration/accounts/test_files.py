"""A user's files go with the account, all of them and nobody else's, and the account stays until they can go.

Seen to fail: the prefix without its slash; only the first page; the look after the row's deletion left out.
"""

from uuid import UUID

import pytest

from app.accounts import deletion, steps
from app.accounts.files import FilesRefused, UserFiles
from app.accounts.steps import StillThere
from app.storage.client import Deadline, s3_client
from tests.factories import keys
from tests.fakes.scripted_s3 import NEVER_VERSIONED, delete_result, listing, scripted_s3
from tests.integration.accounts.owned import create_user, delete, exists, mark_by_sql, record, run

USER = UUID("00000000-0000-4000-8000-000000000001")


@pytest.fixture
def bucket(settings):
    return settings.s3_bucket_user_files


def put(s3, bucket, *names):
    for name in names:
        s3.put_object(Bucket=bucket, Key=name, Body=b"x")


def test_the_users_files_go_and_nobody_elses(connection, s3, bucket):
    user = create_user(connection)
    put(s3, bucket, f"users/{user}/a.csv", f"users/{user}/deep/b.csv", f"users/{user}")
    kept = {f"users/{user}x/a.csv", f"users/{USER}/a.csv", f"other/users/{user}/a.csv", f"users/{user}"}
    put(s3, bucket, *kept)
    assert delete(user) == "complete"
    assert keys(s3, bucket) == kept
    assert (record(connection, user)["files_done"], record(connection, user)["items"]) == (2, 2)


def test_files_go_page_by_page(connection, s3, bucket, monkeypatch):
    monkeypatch.setattr("app.storage.listing.KEYS_PER_PAGE", 2)
    user = create_user(connection)
    put(s3, bucket, *(f"users/{user}/{number}" for number in range(5)))
    mark_by_sql(connection, user)
    assert run(user)
    assert (keys(s3, bucket), record(connection, user)["files_done"]) == (set(), 5)


@pytest.mark.parametrize(("at_most", "counted"), [(4, 4), (5, 5), (6, 5)])
def test_files_are_counted_no_further_than_asked(app, s3, bucket, monkeypatch, at_most, counted):
    monkeypatch.setattr("app.storage.listing.KEYS_PER_PAGE", 2)
    put(s3, bucket, *(f"users/{USER}/{number}" for number in range(5)))
    assert UserFiles(s3, bucket, USER, Deadline(600)).count(at_most) == counted


def test_a_file_that_was_on_its_way_when_the_row_went_goes_too(connection, s3, bucket, monkeypatch):
    user = create_user(connection)
    mark_by_sql(connection, user)
    last_step = steps.last_step

    def upload(work):
        ended = last_step(work)
        put(s3, bucket, f"users/{user}/late")
        return ended

    monkeypatch.setattr(steps, "last_step", upload)
    assert run(user)
    assert (exists(connection, user), keys(s3, bucket)) == (False, set())


def test_a_file_that_can_not_go_keeps_the_account_and_says_why(connection, s3, bucket, monkeypatch):
    user = create_user(connection)
    put(s3, bucket, f"users/{user}/a")
    mark_by_sql(connection, user)

    def refuse(_self):
        raise FilesRefused("ObjectLocked", 1)

    monkeypatch.setattr(UserFiles, "delete", refuse)
    with pytest.raises(StillThere):
        run(user)
    assert (record(connection, user)["reason"], exists(connection, user)) == ("files: ObjectLocked, of 1 file", True)


def test_what_s3_says_of_each_file_is_read(app):
    def answer(asked):
        if asked.method == "POST":
            return delete_result(errors=[(key, "AccessDenied") for key, _ in asked.objects])
        return NEVER_VERSIONED if "versioning" in asked.target else listing([f"users/{USER}/a"])

    with scripted_s3(answer) as script:
        client = s3_client("eu-west-1", script.url, attempts_per_request=1)
        files = UserFiles(client, "bucket", USER, Deadline(600))
        with pytest.raises(FilesRefused) as refused:
            list(files.delete())
        client.close()
    assert str(refused.value) == "AccessDenied, of 1 file"


class TestWithoutABucket:
    @pytest.fixture
    def settings_override(self, settings_override):
        return {**settings_override, "S3_BUCKET_USER_FILES": "there-is-no-such-bucket"}

    def test_an_account_whose_files_can_not_be_counted_goes_to_the_workers_and_stays(self, connection):
        user = create_user(connection)
        assert delete(user) == "requested"
        with pytest.raises(StillThere):
            run(user)
        assert (record(connection, user)["reason"], exists(connection, user)) == ("files: NoSuchBucket", True)
        assert deletion.take_due() == []


class TestWithoutFiles:
    @pytest.fixture
    def settings_override(self, settings_override):
        return {**settings_override, "S3_BUCKET_USER_FILES": "", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}

    def test_a_platform_without_users_files_needs_no_s3(self, connection):
        user = create_user(connection)
        assert (delete(user), exists(connection, user)) == ("complete", False)
