"""Fixtures that every kind of test may use. Unit tests use none of those that start servers.

The application runs with the least that it needs of PostgreSQL and S3 (tests/least.py). `connection`,
`administrator_engine` and `s3` are an administrator's: they set up, look at what became of it, and empty.
"""

import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from flask import Flask
from sqlalchemy import Connection, Engine, create_engine, text

from app import config, create_app
from app.config import psycopg2_url
from app.models import GHOST_USER_ID
from tests.servers import Servers, grant_buckets, servers

KEPT_TABLES = ("alembic_version", "key_types", "notification_status_types")
TABLES = text(
    "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
    "WHERE schemaname IN ('public', 'retention') AND tablename <> ALL (:kept)"
)
GHOST = text(
    "INSERT INTO users (id, name, email_address, state, created_at) "
    "VALUES (:id, 'Deleted user', 'deleted-user@invalid', 'inactive', now()) ON CONFLICT DO NOTHING"
)


@pytest.fixture(scope="session")
def started_servers() -> Iterator[Servers]:
    """Migrated servers; their environment is this process's own from then on."""
    shell = dict(os.environ)
    with servers(shell) as started:
        os.environ.clear()
        os.environ.update(started.environment)
        yield started
        os.environ.clear()
        os.environ.update(shell)


@pytest.fixture(autouse=True)
def environment_is_put_back() -> Iterator[None]:
    """A test that leaves variables behind fails itself, and not whichever one comes to read them."""
    before = _variables()
    yield
    assert _variables() == before


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


@pytest.fixture(scope="session")
def environment(started_servers: Servers) -> dict[str, str]:
    """The environment of the application and its workers: the servers, with the least that the product needs."""
    return started_servers.environment


@pytest.fixture(scope="session")
def administrator_engine(started_servers: Servers) -> Iterator[Engine]:
    """The database as the tables' owner has it."""
    engine = create_engine(psycopg2_url(started_servers.administrator_url))
    yield engine
    engine.dispose()


@pytest.fixture
def settings_override() -> dict[str, str]:
    """Variables that a test module sets for its application, by overriding this fixture."""
    return {}


@pytest.fixture
def settings(environment: dict[str, str], settings_override: dict[str, str]) -> config.Settings:
    """The application's settings."""
    return config.load({**environment, "RETRY_AFTER_SECONDS": "1", **settings_override})


@pytest.fixture
def app(
    settings: config.Settings,
    settings_override: dict[str, str],
    started_servers: Servers,
    administrator_engine: Engine,
) -> Iterator[Flask]:
    """The application, its context pushed, on empty tables; they are emptied again afterwards."""
    if started_servers.has_policies:
        grant_buckets({**started_servers.environment, **_buckets(settings_override)})
    application = create_app(settings)
    with application.app_context():
        yield application
        application.extensions["db.session"].remove()
        _empty_tables(administrator_engine)
        application.extensions["db.engine"].dispose()


@pytest.fixture
def granted_buckets(started_servers: Servers) -> None:
    """The application's access key may use its buckets and no others, whatever another test made of that."""
    if started_servers.has_policies:
        grant_buckets(started_servers.environment)


@pytest.fixture
def connection(app: Flask, administrator_engine: Engine) -> Iterator[Connection]:
    """An administrator's connection, in no way the application's; every statement of it commits at once."""
    engine = administrator_engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as other:
        yield other


@pytest.fixture
def s3(started_servers: Servers) -> Iterator[Any]:
    """An administrator's client of the S3 server; the buckets are emptied afterwards, versions and all."""
    client = boto3.client("s3", **started_servers.administrator_s3)
    yield client
    for bucket in _buckets(started_servers.environment).values():
        _empty_bucket(client, bucket)
    client.close()


def _buckets(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("S3_BUCKET_")}


def _empty_tables(engine: Engine) -> None:
    """Only those in which there is something, and what refers to them: truncating costs most of what a test does."""
    with engine.begin() as connection:
        tables = connection.execute(TABLES, {"kept": list(KEPT_TABLES)}).scalars().all()
        probes = " UNION ALL ".join(f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})" for table in tables)
        filled = connection.execute(text(probes)).scalars().all()
        if filled:
            connection.execute(text("TRUNCATE " + ", ".join(filled) + " RESTART IDENTITY CASCADE"))
        connection.execute(GHOST, {"id": GHOST_USER_ID})


def _empty_bucket(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        keys = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
