"""What tests may run on: they seed and delete, so that nothing in use may ever be theirs."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, text

from app.config import psycopg2_url
from tests import servers as module
from tests.factories import keys
from tests.servers import NotEmpty, Servers, new_database, refuse_a_database_in_use, refuse_buckets_in_use


@pytest.fixture
def empty(environment: dict[str, str]) -> Iterator[str]:
    with new_database(environment["DATABASE_URL"]) as url:
        yield url


def execute(url: str, statement: str) -> None:
    engine = create_engine(psycopg2_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_an_empty_database_is_taken(empty):
    refuse_a_database_in_use(empty)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE kept (id int)",
        "CREATE SCHEMA other; CREATE TABLE other.kept (id int)",
        "CREATE TABLE kept (id int) PARTITION BY HASH (id)",
    ],
)
def test_a_database_that_holds_something_is_refused_and_keeps_it(empty, statement):
    execute(empty, statement)
    with pytest.raises(NotEmpty, match="TEST_DATABASE_URL names a database with 1 tables; give an empty one"):
        refuse_a_database_in_use(empty)
    with pytest.raises(NotEmpty), module.servers({**os.environ, "TEST_DATABASE_URL": empty}):
        pytest.fail("servers were handed out")


@pytest.fixture
def bucket(environment: dict[str, str], started_servers: Servers, s3: Any) -> Iterator[dict[str, str]]:
    """An administrator's environment with one bucket that does not exist yet."""
    keys_of_administrator = {
        name.upper(): value for name, value in started_servers.administrator_s3.items() if name.startswith("aws_")
    }
    yield {**environment, **keys_of_administrator, "S3_BUCKET_LETTERS_PDF": "made-for-tests"}
    for name in present(s3, "made-for-tests"):
        listed = s3.list_object_versions(Bucket=name)
        for one in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])
        s3.delete_bucket(Bucket=name)


def present(s3: Any, name: str) -> list[str]:
    return [bucket["Name"] for bucket in s3.list_buckets()["Buckets"] if bucket["Name"] == name]


def test_buckets_that_are_missing_are_made_and_empty_ones_are_taken(bucket, s3):
    for _ in range(2):
        refuse_buckets_in_use(bucket)
        assert present(s3, "made-for-tests") == ["made-for-tests"]


def test_a_bucket_that_holds_something_is_refused_and_keeps_it(bucket, s3):
    refuse_buckets_in_use(bucket)
    s3.put_object(Bucket="made-for-tests", Key="kept.pdf", Body=b"")
    with pytest.raises(NotEmpty, match="made-for-tests of TEST_AWS_ENDPOINT_URL_S3 is not empty"):
        refuse_buckets_in_use(bucket)
    assert keys(s3, "made-for-tests") == {"kept.pdf"}


def test_a_bucket_whose_files_have_only_been_marked_as_deleted_is_refused(bucket, s3):
    """Emptying it would take the old versions."""
    refuse_buckets_in_use(bucket)
    s3.put_bucket_versioning(Bucket="made-for-tests", VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket="made-for-tests", Key="kept.pdf", Body=b"")
    s3.delete_object(Bucket="made-for-tests", Key="kept.pdf")
    with pytest.raises(NotEmpty):
        refuse_buckets_in_use(bucket)
    assert keys(s3, "made-for-tests") == set()
    assert len(s3.list_object_versions(Bucket="made-for-tests")["Versions"]) == 1


def test_what_the_shell_has_exported_is_ignored():
    """None of these servers exists, and none of them is asked."""
    exported = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": "postgresql://me@127.0.0.1:1/production",
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_PROFILE": "production",
        "AWS_ACCESS_KEY_ID": "of-production",
        "PGHOST": "production",
        "S3_BUCKET_LETTERS_PDF": "production-letters",
        "RETENTION_DEFAULT_DAYS": "1",
    }
    with module.servers(exported) as started:
        environment = started.environment
        reached: Mapping[str, str] = {name: environment.get(name, "") for name in exported if name != "PATH"}
        assert {name for name, value in reached.items() if value == exported[name]} == set()
        assert "production" not in str(environment)


def test_the_database_under_test_is_not_one_that_the_shell_names(environment, app):
    with app.extensions["db.engine"].connect() as connection:
        assert str(connection.engine.url.port) in environment["DATABASE_URL"]
        assert connection.execute(text("SELECT count(*) FROM notifications")).scalar() == 0
