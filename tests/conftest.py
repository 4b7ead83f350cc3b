"""Fixtures that every kind of test may use. Unit tests use none of those that start servers.

The application runs with the least that it needs of PostgreSQL and S3 (tests/least.py). `connection`,
`administrator_engine` and `s3` are an administrator's: they set up, look at what became of it, and empty.
"""

import os
import signal
from collections.abc import Generator, Iterator
from typing import Any

import boto3
import pytest
from argon2 import PasswordHasher
from flask import Flask
from psycopg2 import errors
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from app import config, create_app
from app.accounts import passwords
from app.config import psycopg2_url
from app.models import GHOST_USER_ID
from tests import forkserver, remembered, scheduling
from tests.emptying import empty
from tests.least import empty_buckets
from tests.servers import Servers, grant_buckets, servers

KEPT_TABLES = ("alembic_version", "turns", "key_types", "notification_status_types")
TABLES = text(
    "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
    "WHERE schemaname IN ('public', 'retention') AND tablename <> ALL (:kept)"
)
RESTART = text(
    "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences "
    "WHERE schemaname IN ('public', 'retention') AND last_value IS NOT NULL"
)
CENTURIES = "1e11"
"""How far this host's clock may be from the database's in tests, which set it to other times than the present."""
GHOST = text(
    "INSERT INTO users (id, name, email_address, state, created_at) "
    "VALUES (:id, 'Deleted user', 'deleted-user@invalid', 'inactive', now()) ON CONFLICT DO NOTHING"
)


LINES_OF_A_LOG = 100
remembered.once()
passwords._hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)  # quick: many log in
# A shell that starts the suite in the background, or with nohup, has these ignored, and so would have every process
# that the tests end with them. A handler, unlike that, is not passed on to them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A test that fails shows the logs of the processes that it started."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {child.name}", child.log_tail(LINES_OF_A_LOG)) for child in forkserver.started]
    if call.when == "teardown":
        forkserver.started.clear()
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> scheduling.InParts:
    return scheduling.InParts(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        scheduling.put_longest_first(items)


def pytest_sessionfinish() -> None:
    forkserver.close()


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
    usual = {"RETRY_AFTER_SECONDS": "1", "CLOCK_TOLERANCE_SECONDS": CENTURIES}
    return config.load({**environment, **usual, **settings_override})


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


@pytest.fixture(scope="session")
def administrator_s3(started_servers: Servers) -> Iterator[Any]:
    """A client of the S3 server that may do everything."""
    client = boto3.client("s3", **started_servers.administrator_s3)
    yield client
    client.close()


@pytest.fixture
def s3(started_servers: Servers, administrator_s3: Any) -> Iterator[Any]:
    """An administrator's client of the S3 server; the buckets are emptied afterwards, versions and all."""
    yield administrator_s3
    buckets = _buckets(started_servers.environment).values()
    if started_servers.has_policies:
        empty_buckets(started_servers.environment["AWS_ENDPOINT_URL_S3"], buckets)
        return
    for bucket in buckets:
        _empty_bucket(administrator_s3, bucket)


def _buckets(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("S3_BUCKET_")}


def _empty_tables(engine: Engine) -> None:
    """Once more where a worker that is about to be stopped was at one of the tables: a deadlock ended that try."""
    for is_last in (False, False, True):
        try:
            with engine.begin() as connection:
                empty(connection, connection.execute(TABLES, {"kept": list(KEPT_TABLES)}).scalars())
                connection.execute(RESTART)
                connection.execute(GHOST, {"id": GHOST_USER_ID})
            return
        except OperationalError as error:
            if is_last or not isinstance(error.orig, errors.DeadlockDetected):
                raise


def _empty_bucket(client: Any, bucket: str) -> None:
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        keys = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
