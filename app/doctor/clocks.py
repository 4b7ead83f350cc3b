"""Clocks: ours, the database's and S3's. Cut-offs are made by ours, leases are compared with it, S3 signs by it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from app import clock
from app.config import Settings
from app.dao import doctor_dao
from app.db import db
from app.doctor.finding import Finding, error, ok, warning
from app.retention import buckets
from app.retention.buckets import quick_client
from app.storage.errors import REQUEST_ERRORS

CHECK = "clock"
WARN_AFTER, WRONG_AFTER = timedelta(seconds=5), timedelta(seconds=60)
"""A lease lasts a minute and a half; S3 refuses what is 15 minutes off."""
FIX = "Have all hosts follow the same NTP servers."


def examine(settings: Settings) -> Iterator[Finding]:
    """How far the clocks are apart. S3 says its own to the second, if it answers at all."""
    told = [("the database's", _of_database(), clock.now())]
    if (of_s3 := _of_s3(settings)) is not None:
        told.append(("S3's", of_s3, clock.now()))
    found = [finding for whose, theirs, ours in told for finding in compare(whose, theirs, ours)]
    zone = f"It is {clock.now().astimezone(settings.zone):%H:%M} in {settings.retention_timezone}."
    yield from found or [ok(CHECK, f"The clocks agree. {zone}")]


def compare(whose: str, theirs: datetime, ours: datetime) -> Iterator[Finding]:
    """What there is to say of a clock (both aware)."""
    apart = abs(theirs - ours)
    if apart < WARN_AFTER:
        return
    says = f"This host's clock and {whose} are {apart.total_seconds():.0f} s apart."
    yield error(CHECK, says, FIX) if apart >= WRONG_AFTER else warning(CHECK, says, FIX)


def _of_database() -> datetime:
    with db.transaction(read_only=True) as connection:
        return doctor_dao.clock_says(connection)


def _of_s3(settings: Settings) -> datetime | None:
    bucket = next(iter(buckets.named(settings).values()), None)
    if bucket is None:
        return None
    client = quick_client(settings.aws_region, settings.aws_endpoint_url_s3)
    try:
        answer: Any = client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except REQUEST_ERRORS:
        return None  # said where buckets are looked at
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return None if date is None else parsedate_to_datetime(date)
