"""The servers that tests run on: embedded ones, or those that TEST_* variables name, if they are empty.

TEST_DATABASE_URL, TEST_CELERY_BROKER_URL and TEST_AWS_ENDPOINT_URL_S3 (with TEST_AWS_REGION,
TEST_AWS_ACCESS_KEY_ID and TEST_AWS_SECRET_ACCESS_KEY) name others; nothing else that the shell has
exported is looked at, because tests seed and delete.

The application and its workers get the least that the product needs (tests/least.py); set-up and assertions are an
administrator's. An S3 server that TEST_AWS_ENDPOINT_URL_S3 names is not put under the policy.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from sqlalchemy import create_engine, make_url, text

from app.config import psycopg2_url
from dev.product import migrate
from dev.stack import Stack
from tests.least import (
    ACCOUNTS_POLICY_FILE,
    ARCHIVE_POLICY_FILE,
    administrator,
    policy,
    put_under_policy,
    worker_login,
)

S3_SERVER = Path(__file__).parent / "fakes" / "s3_under_policy.py"
GIVEN = (
    "DATABASE_URL",
    "CELERY_BROKER_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
)


class NotEmpty(RuntimeError):
    """Tests delete everything they find, so that they refuse a server on which there is something."""


@dataclass(frozen=True)
class Servers:
    """Migrated servers: the environment of the application, and what an administrator needs."""

    environment: dict[str, str]
    administrator_url: str
    administrator_s3: dict[str, str]
    """Arguments of a boto3 client."""
    has_policies: bool
    """Whether the S3 server is one that puts access keys under policies."""


# By host and port, so that `new_database` can be given the application's URL.
_administrators: dict[tuple[str | None, int | None], str] = {}
_migrated: dict[tuple[str | None, int | None], str] = {}
"""By server, the database that `migrated_database` copies."""


@contextmanager
def servers(shell: Mapping[str, str]) -> Iterator[Servers]:
    """Start the embedded stack, migrate, and yield the servers to test on."""
    given = {name: shell[f"TEST_{name}"] for name in GIVEN if shell.get(f"TEST_{name}")}
    with Stack(s3_server=[S3_SERVER]) as stack:
        environment = stack.isolated_environment(shell) | given
        administrator_url = environment["DATABASE_URL"]
        has_policies = "AWS_ENDPOINT_URL_S3" not in given
        if "DATABASE_URL" in given:
            refuse_a_database_in_use(administrator_url)
        if not has_policies:
            refuse_buckets_in_use(environment)
        administrator_s3 = {
            "endpoint_url": environment["AWS_ENDPOINT_URL_S3"],
            "region_name": environment["AWS_REGION"],
            "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        }
        if has_policies:
            environment["AWS_ACCESS_KEY_ID"] = "WORKER" + secrets.token_hex(7).upper()
            environment["AWS_SECRET_ACCESS_KEY"] = secrets.token_hex(20)
            grant_buckets(environment)
        migrate(administrator_url)
        server = _server(administrator_url)
        _administrators[server] = administrator_url
        with worker_login(administrator_url) as worker_url:
            environment["DATABASE_URL"] = worker_url
            yield Servers(environment, administrator_url, administrator_s3, has_policies)
        if server in _migrated:
            _drop_database(administrator_url, _migrated.pop(server))


def grant_buckets(environment: Mapping[str, str]) -> None:
    """Put the environment's access key under the product's policies for the environment's buckets."""
    buckets = {name: value for name, value in environment.items() if name.startswith("S3_BUCKET_")}
    document = policy(buckets)
    document["Statement"] += policy(buckets, ACCOUNTS_POLICY_FILE)["Statement"]
    if "S3_BUCKET_ARCHIVE" in buckets:
        document["Statement"] += policy(buckets, ARCHIVE_POLICY_FILE)["Statement"]
    put_under_policy(environment["AWS_ENDPOINT_URL_S3"], environment["AWS_ACCESS_KEY_ID"], document)


def _server(url: str) -> tuple[str | None, int | None]:
    made = make_url(url)
    return made.host, made.port


@contextmanager
def new_database(url: str, template: str = "template0") -> Iterator[str]:
    """The URL of an empty database beside the one at `url`, for its owner, dropped again at the end.

    A URL of the application's role will do: the administrator of its server makes the database.
    """
    url = _administrators.get(_server(url), url)
    name = _create_database(url, template)
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        _drop_database(url, name)


@contextmanager
def migrated_database(url: str) -> Iterator[str]:
    """`new_database`, with all migrations applied: a copy of one to which they were, the first time."""
    url = _administrators.get(_server(url), url)
    if _server(url) not in _migrated:
        name = _create_database(url, "template0")
        migrate(make_url(url).set(database=name).render_as_string(hide_password=False))
        _migrated[_server(url)] = name
    with new_database(url, _migrated[_server(url)]) as made:
        yield made


def _create_database(url: str, template: str) -> str:
    """Its name. Files are copied, which is quicker than writing a template to the WAL."""
    name = f"retention_test_{secrets.token_hex(6)}"
    with administrator(url) as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy'))
    return name


def _drop_database(url: str, name: str) -> None:
    with administrator(url) as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


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
    """Raise NotEmpty if one of the buckets has an object, old versions included; make those that are missing."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
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
            continue
        found = client.list_object_versions(Bucket=bucket, MaxKeys=1)
        if found.get("Versions") or found.get("DeleteMarkers"):
            raise NotEmpty(f"bucket {bucket} of TEST_AWS_ENDPOINT_URL_S3 is not empty; give one that is")
