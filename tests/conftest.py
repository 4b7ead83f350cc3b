"""Fixtures that every kind of test may use. Unit tests use none of those that start servers."""

import os
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from alembic import command
from flask import Flask
from sqlalchemy import Connection, text

from app import config, create_app
from app.cli.database import alembic_config
from app.config import psycopg2_url
from tests.servers import servers

KEPT_TABLES = ("alembic_version", "key_types", "notification_status_types")


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, str]]:
    """The environment of migrated servers, which is this process's own from then on."""
    shell = dict(os.environ)
    with servers(shell) as environment:
        os.environ.clear()
        os.environ.update(environment)
        command.upgrade(alembic_config(psycopg2_url(environment["DATABASE_URL"])), "head")
        yield environment
        os.environ.clear()
        os.environ.update(shell)


@pytest.fixture
def settings_override() -> dict[str, str]:
    """Variables that a test module sets for its application, by overriding this fixture."""
    return {}


@pytest.fixture
def settings(environment: dict[str, str], settings_override: dict[str, str]) -> config.Settings:
    """The application's settings."""
    return config.load({**environment, "RETRY_AFTER_SECONDS": "1", **settings_override})


@pytest.fixture
def app(settings: config.Settings) -> Iterator[Flask]:
    """The application, its context pushed, on empty tables; they are emptied again afterwards."""
    application = create_app(settings)
    with application.app_context():
        yield application
        application.extensions["db.session"].remove()
        _empty_tables(application)
        application.extensions["db.engine"].dispose()


@pytest.fixture
def connection(app: Flask) -> Iterator[Connection]:
    """A second connection, as another process would have one; every statement of it commits at once."""
    engine = app.extensions["db.engine"].execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as other:
        yield other


@pytest.fixture
def s3(environment: dict[str, str]) -> Iterator[Any]:
    """A client of the S3 server; the buckets are emptied afterwards, versions and all."""
    client = boto3.client("s3", region_name=environment["AWS_REGION"])
    yield client
    for name, bucket in environment.items():
        if name.startswith("S3_BUCKET_"):
            _empty_bucket(client, bucket)
    client.close()


def _empty_tables(application: Flask) -> None:
    with application.extensions["db.engine"].begin() as connection:
        tables = connection.execute(
            text(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', "
                "'retention') AND tablename <> ALL (:kept)"
            ),
            {"kept": list(KEPT_TABLES)},
        ).scalars()
        connection.execute(text("TRUNCATE " + ", ".join(tables) + " RESTART IDENTITY"))


def _empty_bucket(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        keys = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
