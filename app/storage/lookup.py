"""Finds letters' files. A letter is answered for only when all of its places were listed to their end."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from app.storage.catalogue import Catalogue
from app.storage.client import Requests
from app.storage.errors import BucketRefuses, Stopped
from app.storage.folders import FolderUnknown
from app.storage.listing import ObjectShelf, Shelf, SkipListing, StoredFile, shelf
from app.storage.naming import AmbiguousReference, Letter, Naming, Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AMBIGUOUS_REFERENCE, FOLDER_UNKNOWN = "AmbiguousReference", "FolderUnknown"


@dataclass(frozen=True, slots=True)
class Counts:
    """Letters per bucket. One with places in two buckets counts in both."""

    looked: dict[str, int]
    missing: dict[str, int]
    """Of the looked for, those without a file in any of their places."""


@dataclass(slots=True)
class Search:
    """What was found. Letters in none of the dicts were not looked for to the end (see `stopped`)."""

    files: dict[UUID, tuple[StoredFile, ...]] = field(default_factory=dict)
    """Letters looked for in all of their places; an empty tuple: known to have no file, or in `unnamed`."""
    unnamed: set[UUID] = field(default_factory=set)
    """Letters with an empty reference. They count as having no file and were not looked for."""
    refused: dict[UUID, str] = field(default_factory=dict)
    """Letters that must not be looked for, with the reason's code."""
    passed_over: dict[UUID, str] = field(default_factory=dict)
    """Letters with a place in a broken bucket, with its name."""
    broken: dict[str, str] = field(default_factory=dict)
    """Buckets that are missing or refuse everything, with the error's code."""
    stopped: str | None = None
    """Why the search ended early: SlowDown, Unreachable or OutOfTime."""
    asked_for_files: bool = False
    """Whether the last bucket said how it is: a search that ended early ended at the letters' own files."""
    buckets_of: dict[UUID, tuple[str, ...]] = field(default_factory=dict)
    """The buckets that a letter was looked for in, once each."""

    def counts(self, exclude: Set[UUID] = frozenset()) -> Counts:
        """Letters looked for and missing, without those of `exclude`."""
        looked: Counter[str] = Counter()
        missing: Counter[str] = Counter()
        for letter_id, buckets in self.buckets_of.items():
            if letter_id not in exclude:
                looked.update(buckets)
                if not self.files[letter_id]:
                    missing.update(buckets)
        return Counts(dict(looked), dict(missing))


def search(
    client: "S3Client",
    naming: Naming,
    letters: Sequence[Letter],
    requests: Requests,
    catalogue: Catalogue | None = None,
) -> Search:
    """Looks for the letters' files, bucket by bucket. What S3 refuses is in the Search, not raised.

    What the catalogue can answer is not listed.
    """
    result = Search()
    places = _places(letters, naming, result)
    answers: _Answers = {}
    try:
        for bucket, wanted in _wanted(letters, places).items():
            of_bucket = answers.setdefault(bucket, {})
            try:
                result.asked_for_files = False
                bucket_shelf = shelf(client, requests, bucket)
                if catalogue is not None and isinstance(bucket_shelf, ObjectShelf):
                    of_bucket.update(catalogue.answers(bucket_shelf, bucket, wanted))
                result.asked_for_files = True
                _list(bucket_shelf, wanted, naming, of_bucket)
            except BucketRefuses as refusal:
                result.broken[bucket] = refusal.code
    except Stopped as stop:
        result.stopped = stop.reason
    _gather(places, answers, result)
    return result


def _places(letters: Iterable[Letter], naming: Naming, result: Search) -> dict[UUID, tuple[Place, ...]]:
    """The places of the letters that can be looked for; the others go into the result."""
    places = {}
    for letter in letters:
        try:
            of_letter = naming.places(letter)
        except AmbiguousReference:
            result.refused[letter.id] = AMBIGUOUS_REFERENCE
            continue
        except FolderUnknown:
            result.refused[letter.id] = FOLDER_UNKNOWN
            continue
        if of_letter:
            places[letter.id] = of_letter
        else:
            result.files[letter.id] = ()
            result.unnamed.add(letter.id)
    return places


_Wanted = dict[Place, list[Letter]]
"""Places, in the order in which the letters name them, and the letters that do."""
_Answers = dict[str, dict[str, tuple[StoredFile, ...]]]
"""By bucket, then by prefix: the files of the prefixes that are known to their end."""


def _wanted(letters: Iterable[Letter], places: Mapping[UUID, tuple[Place, ...]]) -> dict[str, _Wanted]:
    by_bucket: dict[str, _Wanted] = {}
    for letter in letters:
        for place in places.get(letter.id, ()):
            by_bucket.setdefault(place.bucket, {}).setdefault(place, []).append(letter)
    return by_bucket


def _list(shelf: Shelf, wanted: _Wanted, naming: Naming, answers: dict[str, tuple[StoredFile, ...]]) -> None:
    """Lists what has no answer yet, head by head. What is known when S3 stops it is among the answers, too."""
    heads: dict[str, set[str]] = {}
    for place in wanted:
        if place.prefix not in answers:
            heads.setdefault(place.head, set()).add(place.prefix)
    bucket = next(iter(wanted)).bucket
    for prefixes in heads.values():
        listing = SkipListing(bucket, prefixes, naming.is_file_of)
        try:
            listing.run(shelf)
        finally:
            answers.update(listing.answered())


def _gather(places: dict[UUID, tuple[Place, ...]], answers: _Answers, result: Search) -> None:
    for letter_id, of_letter in places.items():
        broken = next((place.bucket for place in of_letter if place.bucket in result.broken), None)
        if broken is not None:
            result.passed_over[letter_id] = broken
        elif all(place.prefix in answers.get(place.bucket, ()) for place in of_letter):
            found = [file for place in of_letter for file in answers[place.bucket][place.prefix]]
            result.files[letter_id] = tuple(dict.fromkeys(found))
            result.buckets_of[letter_id] = tuple(dict.fromkeys(place.bucket for place in of_letter))
