"""`break-bucket` and `fix-bucket`: S3 trouble to try the ops page on, in the stack that `make up` runs.

A broken bucket is seen only by work that needs it, so that breaking one also brings some letters that are days past
their retention, with files in it, and starts their run.
"""

import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import boto3
import psycopg2

from dev import product, seed_ordinary
from dev.processes import StartError
from dev.seed_model import Buckets, Row, Service, stored_files
from dev.seed_ordinary import Source
from dev.seed_write import upload, write_rows, write_services

LETTERS = 40
DAYS_OVERDUE = 3
SECONDS_TO_ANSWER = 10


def break_bucket(bucket: str, environment: Mapping[str, str]) -> None:
    """Letters that are overdue, a bucket that refuses everything, and a run that finds it out."""
    buckets = Buckets.from_environment(environment)
    if bucket not in buckets:
        raise StartError(f"There is no bucket of letters {bucket!r}; there are {', '.join(buckets)}")
    _bring_letters(bucket, buckets, environment)
    switch(environment["AWS_ENDPOINT_URL_S3"], bucket, broken=True)
    argv = [sys.executable, "-m", "flask", "--app", "app", "retention", "run", "--type", "letter"]
    subprocess.run(argv, env=dict(environment), cwd=product.ROOT, check=True)
    print(f"{bucket} refuses everything now, and {LETTERS} letters in it are {DAYS_OVERDUE} days past their retention.")
    print(f"Look at the ops page. To fix it: .venv/bin/python -m dev fix-bucket {bucket}")


def fix_bucket(bucket: str, environment: Mapping[str, str]) -> None:
    """The bucket answers again. What was held back is tried again when its time comes, or from the ops page."""
    switch(environment["AWS_ENDPOINT_URL_S3"], bucket, broken=False)
    print(f"{bucket} answers again. On the ops page: retry what is held back.")


def switch(s3_url: str, bucket: str, *, broken: bool) -> None:
    """Break or fix a bucket of a server of `s3_switch`."""
    request = Request(f"{s3_url}/_broken/{bucket}", method="PUT" if broken else "DELETE")  # noqa: S310
    with build_opener(ProxyHandler({})).open(request, timeout=SECONDS_TO_ANSWER):
        """Answered."""


def _bring_letters(bucket: str, buckets: Buckets, environment: Mapping[str, str]) -> None:
    now = datetime.now(UTC)
    source = Source(random.Random(), now)
    service = Service(source.uuid(), f"A service in trouble {source.uuid()}", now - timedelta(days=900))
    rows = list(islice(_letters_in(bucket, buckets, source, service), LETTERS))
    server: dict[str, Any] = {
        "endpoint_url": environment["AWS_ENDPOINT_URL_S3"],
        "region_name": environment["AWS_REGION"],
        "aws_access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
    }
    with closing(boto3.client("s3", **server)) as s3:
        upload(s3, (file for row in rows for file in stored_files(row, buckets)), lambda _: None)
    with closing(psycopg2.connect(environment["DATABASE_URL"])) as connection:
        write_services(connection, [service])
        write_rows(connection, "notifications", rows, lambda _: None)


def _letters_in(bucket: str, buckets: Buckets, source: Source, service: Service) -> Iterator[Row]:
    created_at = source.now - timedelta(days=service.days_of("letter") + 1 + DAYS_OVERDUE)
    while True:
        row = seed_ordinary.letter(source, service, created_at)
        is_final = row.notification_status not in ("created", "sending", "pending", "pending-virus-check")
        if is_final and [file.bucket for file in stored_files(row, buckets)] == [bucket]:
            yield row
