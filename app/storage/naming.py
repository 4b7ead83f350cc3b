"""Names of letter files. A name made here can reach the files of its own reference only.

A key is `{folder}NOTIFY.{REFERENCE}.D.{class}.C.{YYYYmmddHHMMSS}.PDF`, in upper case. What makes a file a
letter's own is the prefix up to and including the dot after the reference, *and* a rest of exactly that
form: class and time stamp may be others than the row says today (postage changed, precompiled letter).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from uuid import UUID
from zoneinfo import ZoneInfo

LAST_TIME_OF_FOLDER = time(17, 30)
"""Local time. A letter made at 17:30:00.000000 sharp is in that day's folder; one made a microsecond
later is in the next day's (the platform compares with `>`)."""

POSTAGE_CLASSES: Mapping[str, str] = MappingProxyType(
    {"first": "1", "second": "2", "europe": "E", "rest-of-world": "N", "economy": "3"}
)
DEFAULT_POSTAGE = "second"

SAFE_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""The only references that may be used to delete. ASCII letters, digits, `_` and `-`: no dot (it ends a
reference), no slash (it ends a folder), no space, nothing whose upper case is longer or is another
letter's. 128 leaves room under S3's limit of 1,024 bytes a key; the platform's own have 16 characters."""

REST_OF_KEY = re.compile(r"D\.[A-Z0-9]+\.C\.[0-9]{14}\.PDF")


class AmbiguousReference(ValueError):
    """The letter's reference could make a prefix that reaches another letter's file."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What a row says about where the letter's files are."""

    id: UUID
    reference: str | None = field(repr=False)
    created_at: datetime
    """Aware; the caller has added UTC to the column's `timestamp without time zone`."""
    status: str | None
    key_type: str
    postage: str | None

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError(f"created_at of letter {self.id} has no time zone")


@dataclass(frozen=True, slots=True)
class Buckets:
    """Names of the buckets that letter files are kept in."""

    letters: str
    test_letters: str
    invalid_pdf: str
    letters_scan: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where files of one letter can be."""

    bucket: str
    prefix: str = field(repr=False)
    """Ends in the dot after the reference."""

    @property
    def head(self) -> str:
        """The part that the letters of one folder share, up to and including `NOTIFY.`."""
        return self.prefix[:-1].rpartition(".")[0] + "."


@dataclass(frozen=True, slots=True)
class Naming:
    buckets: Buckets
    folder_zone: ZoneInfo
    """Time zone of the dated folders; not necessarily that of the cut-offs."""
    postage_classes: Mapping[str, str] = field(default_factory=lambda: POSTAGE_CLASSES)

    def folder(self, created_at: datetime) -> str:
        """`YYYY-MM-DD/`: the local date of created_at (aware), or the day after past 17:30:00 local time."""
        local = created_at.astimezone(self.folder_zone)
        date = local.date()
        if local.time() > LAST_TIME_OF_FOLDER:
            date += timedelta(days=1)
        return f"{date.isoformat()}/"

    def places(self, letter: Letter) -> tuple[Place, ...]:
        """Every place that can hold files of the letter.

        A test letter is looked for where its status may have left it as well, but never in the dated folders.
        An empty reference (NULL, "" or only white space) has no place. Raises AmbiguousReference.
        """
        reference = _upper_reference(letter)
        if reference is None:
            return ()
        prefix = f"NOTIFY.{reference}."
        set_aside = {
            "validation-failed": (Place(self.buckets.invalid_pdf, prefix),),
            "virus-scan-failed": (Place(self.buckets.letters_scan, f"FAILURE/{prefix}"),),
            "technical-failure": (Place(self.buckets.letters_scan, f"ERROR/{prefix}"),),
        }.get(letter.status or "", ())
        if letter.key_type == "test":
            return (Place(self.buckets.test_letters, prefix), *set_aside)
        if letter.status == "validation-failed":
            return set_aside
        in_letters = Place(self.buckets.letters, self.folder(letter.created_at) + prefix)
        return (*set_aside, in_letters) if letter.status == "virus-scan-failed" else (in_letters, *set_aside)

    def is_file_of(self, key: str, place: Place) -> bool:
        """Whether the key, found in the place's bucket, is a file of the letter that has this place."""
        return key.startswith(place.prefix) and REST_OF_KEY.fullmatch(key, len(place.prefix)) is not None

    def key(self, letter: Letter) -> str:
        """The key that the sending side writes, in the first of the letter's places.

        Raises AmbiguousReference, ValueError for an empty reference, KeyError for an unknown postage.
        """
        places = self.places(letter)
        if not places:
            raise ValueError(f"letter {letter.id} has no reference, so its file has no name")
        postage_class = self.postage_classes[letter.postage or DEFAULT_POSTAGE]
        stamp = letter.created_at.astimezone(UTC).strftime("%Y%m%d%H%M%S")
        return f"{places[0].prefix}D.{postage_class}.C.{stamp}.PDF"


def _upper_reference(letter: Letter) -> str | None:
    """The reference as keys have it; None if it is empty."""
    if letter.reference is None or not letter.reference.strip():
        return None
    if SAFE_REFERENCE.fullmatch(letter.reference) is None:
        raise AmbiguousReference(f"reference of letter {letter.id}")
    return letter.reference.upper()
