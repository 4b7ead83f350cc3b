"""The servers that tests run on: embedded ones, or those that TEST_* variables name, if they are empty.

TEST_DATABASE_URL, TEST_CELERY_BROKER_URL and TEST_AWS_ENDPOINT_URL_S3 name others; nothing else that the shell has
exported is looked at, because tests seed and delete.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import boto3
from sqlalchemy import create_engine, text

from app.config import psycopg2_url
from app.local.stack import Stack

GIVEN = ("DATABASE_URL", "CELERY_BROKER_URL", "AWS_ENDPOINT_URL_S3")


class NotEmpty(RuntimeError):
    """Tests delete everything they find, so that they refuse a server on which there is something."""


@contextmanager
def servers(shell: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Start the embedded stack and yield the environment of the servers to test on."""
    given = {name: shell[f"TEST_{name}"] for name in GIVEN if shell.get(f"TEST_{name}")}
    with Stack() as stack:
        environment = stack.isolated_environment(shell) | given
        if "DATABASE_URL" in given:
            refuse_a_database_in_use(environment["DATABASE_URL"])
        if "AWS_ENDPOINT_URL_S3" in given:
            refuse_buckets_in_use(environment)
        yield environment


def refuse_a_database_in_use(url: str) -> None:
    """Raise NotEmpty if the database has a table."""
    engine = create_engine(psycopg2_url(url))
    with engine.connect() as connection:
        tables = connection.execute(
            text(
                "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'"
            )
        ).scalar()
    engine.dispose()
    if tables:
        raise NotEmpty(f"TEST_DATABASE_URL names a database with {tables} tables; give an empty one")


def refuse_buckets_in_use(environment: Mapping[str, str]) -> None:
    """Raise NotEmpty if one of the buckets has an object; make those that are missing."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=os.environ.get("TEST_AWS_ACCESS_KEY_ID", environment["AWS_ACCESS_KEY_ID"]),
        aws_secret_access_key=os.environ.get("TEST_AWS_SECRET_ACCESS_KEY", environment["AWS_SECRET_ACCESS_KEY"]),
        region_name=environment["AWS_REGION"],
    )
    present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name, bucket in environment.items():
        if not name.startswith("S3_BUCKET_"):
            continue
        if bucket not in present:
            client.create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": environment["AWS_REGION"]}
            )
        elif client.list_objects_v2(Bucket=bucket, MaxKeys=1)["KeyCount"]:
            raise NotEmpty(f"bucket {bucket} of TEST_AWS_ENDPOINT_URL_S3 is not empty; give one that is")
