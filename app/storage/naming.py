"""Names of letter files. A name made here can reach the files of its own reference only.

A key is `{folder}NOTIFY.{REFERENCE}.D.{class}.C.{YYYYmmddHHMMSS}.PDF`, in upper case. Some platforms write a further
part before the time stamp, `C.` for the Crown's letters and `N.` for others. What makes a file a
letter's own is the prefix up to and including the dot after the reference, *and* a rest of exactly that
form: class and time stamp may be others than the row says today (postage changed, precompiled letter).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from uuid import UUID
from zoneinfo import ZoneInfo

from app.storage import folders

POSTAGE_CLASSES: Mapping[str, str] = MappingProxyType(
    {"first": "1", "second": "2", "europe": "E", "rest-of-world": "N", "economy": "3"}
)
DEFAULT_POSTAGE = "second"
SET_ASIDE = ("validation-failed", "virus-scan-failed", "technical-failure")
"""Statuses whose letters have a place of their own, unless all letters are in one bucket."""

FILE_PREFIX = "NOTIFY."

SAFE_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""The only references that may be used to delete. ASCII letters, digits, `_` and `-`: no dot (it ends a
reference), no slash (it ends a folder), no space, nothing whose upper case is longer or is another
letter's. 128 leaves room under S3's limit of 1,024 bytes a key; the platform's own have 16 characters."""

REST_OF_KEY = re.compile(r"D\.[A-Z0-9]+\.C\.(?:[CN]\.)?[0-9]{14}\.PDF")
HEAD_IN_DAY_FOLDER = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}/)NOTIFY\.")
KEY_IN_DAY_FOLDER = re.compile(rf"{HEAD_IN_DAY_FOLDER.pattern}([A-Z0-9_-]{{1,128}})\.({REST_OF_KEY.pattern})")
"""What `is_file_of` accepts, for any folder and any reference (SAFE_REFERENCE in upper case)."""


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
    updated_at: datetime | None = None
    """Aware. Since when the row is as it is; None: not known."""
    sent_at: datetime | None = None
    """Aware; None: never sent."""

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError(f"created_at of letter {self.id} has no time zone")


@dataclass(frozen=True, slots=True)
class Buckets:
    """Names of the buckets that letter files are kept in; the same name four times where there is one."""

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

    @property
    def reference(self) -> str:
        """In upper case, as in the key."""
        return self.prefix[len(self.head) : -1]


@dataclass(frozen=True, slots=True)
class DatedKey:
    """The key of a letter file in a day's folder, in its parts."""

    folder: str
    """`YYYY-MM-DD/`."""
    reference: str = field(repr=False)
    rest: str
    """Behind the dot after the reference."""


@dataclass(frozen=True, slots=True)
class Naming:
    buckets: Buckets
    folder_zone: ZoneInfo
    """Time zone of the dated folders; not necessarily that of the cut-offs."""
    postage_classes: Mapping[str, str] = field(default_factory=lambda: POSTAGE_CLASSES)
    in_one_bucket: bool = False
    """Every letter is in a folder of `buckets.letters`, whatever its status and key type."""
    by_date_sent: bool = False
    """Folders are named by the UTC date on which a letter was sent, not by that on which it was made."""

    def folder(self, created_at: datetime) -> str:
        """`YYYY-MM-DD/`: the folder of a letter made then (aware), where folders are named by that."""
        return folders.of_local_date(created_at, self.folder_zone)

    def folders_of(self, letter: Letter) -> Sequence[str]:
        """The folders that the letter's file can be in. Raises FolderUnknown."""
        if self.by_date_sent:
            return folders.by_date_sent(letter.id, letter.sent_at, letter.created_at, letter.updated_at)
        return [self.folder(letter.created_at)]

    def made_between(self, folder: str) -> tuple[datetime, datetime]:
        """The letters of a day's folder have `first <= created_at < second` (aware, UTC); perhaps others have, too."""
        return folders.sent_until(folder) if self.by_date_sent else folders.made_between(folder, self.folder_zone)

    def buckets_of(self, status: str | None, *, is_test: bool) -> set[str]:
        """The buckets of the places of letters with this status and kind of key: each letter has one in each."""
        if self.in_one_bucket:
            return {self.buckets.letters}
        own = self.buckets.test_letters if is_test else self.buckets.letters
        return {
            "validation-failed": {self.buckets.invalid_pdf} | ({own} if is_test else set()),
            "virus-scan-failed": {self.buckets.letters_scan, own},
            "technical-failure": {self.buckets.letters_scan, own},
        }.get(status or "", {own})

    def day_folder(self, place: Place) -> str | None:
        """The day's folder that the place is in; None for a place in no such folder of the letters' bucket."""
        head = HEAD_IN_DAY_FOLDER.fullmatch(place.head)
        return head[1] if head and place.bucket == self.buckets.letters else None

    def places(self, letter: Letter) -> tuple[Place, ...]:
        """Every place that can hold files of the letter.

        A test letter is looked for where its status may have left it as well, but never in the dated folders.
        An empty reference (NULL, "" or only white space) has no place. Raises AmbiguousReference and FolderUnknown.
        """
        reference = _upper_reference(letter)
        if reference is None:
            return ()
        prefix = f"{FILE_PREFIX}{reference}."
        if self.in_one_bucket:
            return self._in_folders(letter, prefix)
        set_aside = {
            "validation-failed": (Place(self.buckets.invalid_pdf, prefix),),
            "virus-scan-failed": (Place(self.buckets.letters_scan, f"FAILURE/{prefix}"),),
            "technical-failure": (Place(self.buckets.letters_scan, f"ERROR/{prefix}"),),
        }.get(letter.status or "", ())
        if letter.key_type == "test":
            return (Place(self.buckets.test_letters, prefix), *set_aside)
        if letter.status == "validation-failed":
            return set_aside
        in_letters = self._in_folders(letter, prefix)
        return (*set_aside, *in_letters) if letter.status == "virus-scan-failed" else (*in_letters, *set_aside)

    def _in_folders(self, letter: Letter, prefix: str) -> tuple[Place, ...]:
        return tuple(Place(self.buckets.letters, folder + prefix) for folder in self.folders_of(letter))

    def is_file_of(self, key: str, place: Place) -> bool:
        """Whether the key, found in the place's bucket, is a file of the letter that has this place."""
        return key.startswith(place.prefix) and REST_OF_KEY.fullmatch(key, len(place.prefix)) is not None

    def key(self, letter: Letter) -> str:
        """The key that the sending side writes, in the first of the letter's places.

        Raises AmbiguousReference, FolderUnknown, ValueError for an empty reference, KeyError for an unknown postage.
        """
        places = self.places(letter)
        if not places:
            raise ValueError(f"letter {letter.id} has no reference, so its file has no name")
        postage_class = self.postage_classes[letter.postage or DEFAULT_POSTAGE]
        stamp = letter.created_at.astimezone(UTC).strftime("%Y%m%d%H%M%S")
        return f"{places[0].prefix}D.{postage_class}.C.{stamp}.PDF"


def dated_key(key: str) -> DatedKey | None:
    """The parts of a letter file's key in a day's folder; None for any other key."""
    parts = KEY_IN_DAY_FOLDER.fullmatch(key)
    return DatedKey(*parts.groups()) if parts else None


def _upper_reference(letter: Letter) -> str | None:
    """The reference as keys have it; None if it is empty."""
    if letter.reference is None or not letter.reference.strip():
        return None
    if SAFE_REFERENCE.fullmatch(letter.reference) is None:
        raise AmbiguousReference(f"reference of letter {letter.id}")
    return letter.reference.upper()
