"""Whose file a key names, read from the key alone: the way back of `app.storage.naming`."""

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from app.storage.naming import FILE_PREFIX, Naming, Place

DAY_FOLDER = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}/")
KEY = re.compile(
    rf"(?P<folder>(?:[^/]+/)?){re.escape(FILE_PREFIX)}(?P<reference>[A-Z0-9_-]{{1,128}})"
    r"\.D\.[A-Z0-9]+\.C\.(?P<stamp>[0-9]{14})\.PDF"
)


@dataclass(frozen=True, slots=True)
class NamedFile:
    """What the key of a letter's file says."""

    place: Place
    reference: str = field(repr=False)
    """In upper case."""
    made_at: datetime | None
    """Aware, in UTC: the letter's created_at when the file was written. None where the digits are no time."""


def recognise(naming: Naming, bucket: str, key: str) -> NamedFile | None:
    """What the key says, if it is one that a letter's file can have in this bucket; else None."""
    parts = KEY.fullmatch(key)
    if parts is None or not _fits(naming, bucket, parts["folder"]):
        return None
    prefix = f"{parts['folder']}{FILE_PREFIX}{parts['reference']}."
    return NamedFile(Place(bucket, prefix), parts["reference"], _time(parts["stamp"]))


def _fits(naming: Naming, bucket: str, folder: str) -> bool:
    buckets = naming.buckets
    if naming.in_one_bucket:
        return bucket == buckets.letters and _is_day(folder)
    if folder in ("FAILURE/", "ERROR/"):
        return bucket == buckets.letters_scan
    if not folder:
        return bucket in (buckets.test_letters, buckets.invalid_pdf)
    return bucket == buckets.letters and _is_day(folder)


def _is_day(folder: str) -> bool:
    if DAY_FOLDER.fullmatch(folder):
        with suppress(ValueError):
            return bool(date.fromisoformat(folder[:-1]))
    return False


def _time(stamp: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.strptime(stamp, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return None
