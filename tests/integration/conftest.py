"""Fixtures of the integration tests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, make_url

from app import config
from app.retention.tools import tools
from app.state import asked
from app.storage.naming import Buckets
from tests.archives import BUCKET as ARCHIVES
from tests.audits import all_buckets
from tests.conftest import CENTURIES
from tests.fakes.fault_proxy import FaultProxy, fault_proxy
from tests.fakes.many_files import ManyFiles, many_files

OF_LETTERS = ("S3_BUCKET_", "PLATFORM_", "LETTER_")


@pytest.fixture
def proxy(environment: dict[str, str]) -> Iterator[FaultProxy]:
    """A proxy in front of S3. A module's `settings_override` points its application at it."""
    with fault_proxy(environment["AWS_ENDPOINT_URL_S3"]) as running:
        yield running


@pytest.fixture
def just_started(app: Flask) -> Iterator[None]:
    """As in a process that has asked for no precondition yet, and leaves none that others would believe."""
    asked.forget()
    yield
    asked.forget()
    app.extensions["db.engine"].dispose()


@pytest.fixture
def counting_s3() -> Iterator[ManyFiles]:
    """An S3 server that counts what it is asked."""
    with many_files(()) as running:
        yield running


@pytest.fixture
def settings_of_preset(environment: dict[str, str], counting_s3: ManyFiles) -> Callable[[str], config.Settings]:
    """Settings with a preset, without any bucket; that S3 server is theirs."""
    given = {name: value for name, value in environment.items() if not name.startswith(OF_LETTERS)}
    given |= {"AWS_ENDPOINT_URL_S3": counting_s3.url, "ACCOUNTS_ENABLED": "false", "FAN_OUT_SPREAD_SECONDS": "0"}
    usual = {"LETTERS_PER_STEP": "10", "CLOCK_TOLERANCE_SECONDS": CENTURIES}
    return lambda preset: config.load({**given, **usual, "PLATFORM_PRESET": preset})


@pytest.fixture(params=["plain", "versioned"])
def buckets(request: pytest.FixtureRequest, app: Flask, s3: Any) -> Iterator[Buckets]:
    """The letter buckets' names; all of them without versions, or with."""
    names = tools().naming.buckets
    if request.param == "plain":
        yield names
        return
    for bucket in all_buckets():
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield names
    for bucket in all_buckets():
        _make_anew(s3, bucket)


def _make_anew(s3: Any, bucket: str) -> None:
    """A bucket that had versions can't be as one that never had any."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            s3.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name})


@pytest.fixture
def archive_bucket(
    app: Flask, environment: dict[str, str], administrator_engine: Engine, administrator_s3: Any
) -> Iterator[str]:
    """The bucket of archives, made for the test and gone with it, as is what the application may do for them."""
    login = make_url(environment["DATABASE_URL"]).username or ""
    group = f'"{login.removesuffix("_login")}_archive"'
    administer(administrator_engine, f'GRANT {group} TO "{login}"')
    where = {"LocationConstraint": administrator_s3.meta.region_name}
    administrator_s3.create_bucket(Bucket=ARCHIVES, CreateBucketConfiguration=where)
    yield ARCHIVES
    for page in administrator_s3.get_paginator("list_object_versions").paginate(Bucket=ARCHIVES):
        for one in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            administrator_s3.delete_object(Bucket=ARCHIVES, Key=one["Key"], VersionId=one["VersionId"])
    administrator_s3.delete_bucket(Bucket=ARCHIVES)
    administer(administrator_engine, f'REVOKE {group} FROM "{login}"')


def administer(engine: Engine, statement: str) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql(statement)
