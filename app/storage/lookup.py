"""Finds letters' files. A letter is answered for only when all of its places were listed to their end."""

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from app.storage.client import Requests
from app.storage.errors import BucketRefuses, Stopped
from app.storage.listing import SkipListing, StoredFile, shelf
from app.storage.naming import AmbiguousReference, Letter, Naming, Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AMBIGUOUS_REFERENCE = "AmbiguousReference"


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


def search(client: "S3Client", naming: Naming, letters: Sequence[Letter], requests: Requests) -> Search:
    """Looks for the letters' files, bucket by bucket. What S3 refuses is in the Search, not raised."""
    result = Search()
    places = _places(letters, naming, result)
    listings = _listings(places.values(), naming)
    try:
        for bucket, of_bucket in listings.items():
            try:
                bucket_shelf = shelf(client, requests, bucket)
                for listing in of_bucket.values():
                    listing.run(bucket_shelf)
            except BucketRefuses as refusal:
                result.broken[bucket] = refusal.code
    except Stopped as stop:
        result.stopped = stop.reason
    _gather(places, listings, result)
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
        if of_letter:
            places[letter.id] = of_letter
        else:
            result.files[letter.id] = ()
            result.unnamed.add(letter.id)
    return places


_Listings = dict[str, dict[str, SkipListing]]
"""By bucket, then by head; in the order in which the letters name them."""


def _listings(places: Iterable[tuple[Place, ...]], naming: Naming) -> _Listings:
    prefixes: dict[str, dict[str, set[str]]] = {}
    for of_letter in places:
        for place in of_letter:
            prefixes.setdefault(place.bucket, {}).setdefault(place.head, set()).add(place.prefix)
    return {
        bucket: {head: SkipListing(bucket, wanted, naming.is_file_of) for head, wanted in heads.items()}
        for bucket, heads in prefixes.items()
    }


def _gather(places: dict[UUID, tuple[Place, ...]], listings: _Listings, result: Search) -> None:
    answers = {
        bucket: {prefix: files for listing in heads.values() for prefix, files in listing.answered().items()}
        for bucket, heads in listings.items()
    }
    for letter_id, of_letter in places.items():
        broken = next((place.bucket for place in of_letter if place.bucket in result.broken), None)
        if broken is not None:
            result.passed_over[letter_id] = broken
        elif all(place.prefix in answers[place.bucket] for place in of_letter):
            found = [file for place in of_letter for file in answers[place.bucket][place.prefix]]
            result.files[letter_id] = tuple(dict.fromkeys(found))
            result.buckets_of[letter_id] = tuple(dict.fromkeys(place.bucket for place in of_letter))
