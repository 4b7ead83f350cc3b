"""Which of the wanted prefixes have files, in as few listings as the folder allows.

A folder of one day holds the letters of every service. To list it whole costs a request per 1,000 files of
everyone; to list each wanted prefix costs a request per letter. A `SkipListing` pages through the folder as
long as each page answers for several wanted prefixes; where it does not, it asks for the next prefixes one by
one, a growing number of them, and then goes on paging behind the last file that it found. A folder of only
wanted files costs its pages, a few letters in a huge folder cost one request each and a little more.

It jumps only to files that it has seen: a bare KeyMarker would be shorter, but S3 servers disagree on whether
the key after it is listed (moto leaves it out), and a file that is left out counts as gone.

Keys are compared as str, by code point, which is the order of their UTF-8 bytes and so S3's.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from app.storage import object_keys
from app.storage.client import Requests
from app.storage.errors import UNREACHABLE, Stopped
from app.storage.naming import Place

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS_PER_PAGE = 1000
URL_ENCODED = "url"
FEW_PREFIXES = 4
"""Up to so many prefixes are asked for one by one at once."""
PREFIXES_WORTH_A_PAGE = 2
"""A page of the whole folder that answers for fewer is no better than asking for one prefix."""
MOST_PREFIXES_IN_A_ROW = 64

Cursor = Mapping[str, str]
"""Parameters of a listing request that say behind what to begin; empty: at the beginning."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One thing to delete: an object, or a version or delete marker of one."""

    bucket: str
    key: str = field(repr=False)
    version_id: str | None
    """None in a bucket that never had versions; "null" for what is older than the bucket's versions."""


@dataclass(frozen=True, slots=True)
class Page:
    files: list[StoredFile]
    next: Cursor | None
    """None: there is no more."""

    @property
    def last_key(self) -> str:
        return max((file.key for file in self.files), default="")


class Shelf(Protocol):
    """A bucket as it can be listed."""

    def page(self, prefix: str, after: Cursor) -> Page: ...

    def behind(self, file: StoredFile) -> Cursor: ...


class ObjectShelf:
    """A bucket that never had versions."""

    def __init__(self, client: "S3Client", requests: Requests, bucket: str) -> None:
        self._client, self._requests, self._bucket = client, requests, bucket

    def page(self, prefix: str, after: Cursor) -> Page:
        entries, following = list_objects(self._client, self._requests, self._bucket, prefix, after)
        return Page([StoredFile(self._bucket, entry["Key"], None) for entry in entries], following)

    def behind(self, file: StoredFile) -> Cursor:
        return {"StartAfter": file.key}


class VersionShelf:
    """A bucket with versions, be they suspended: all of them and all delete markers are files."""

    def __init__(self, client: "S3Client", requests: Requests, bucket: str) -> None:
        self._client, self._requests, self._bucket = client, requests, bucket

    def page(self, prefix: str, after: Cursor) -> Page:
        entries, following = list_versions(self._client, self._requests, self._bucket, prefix, after)
        return Page([StoredFile(self._bucket, entry["Key"], entry["VersionId"]) for entry in entries], following)

    def behind(self, file: StoredFile) -> Cursor:
        # With both markers, older versions of the same key are listed once more rather than left out.
        return {"KeyMarker": file.key, "VersionIdMarker": file.version_id or "null"}


def shelf(client: "S3Client", requests: Requests, bucket: str) -> Shelf:
    """The bucket, after one request for its state. Raises Stopped or BucketRefuses, never guesses "off"."""
    state = requests.send(client.get_bucket_versioning, Bucket=bucket)
    never_versioned = "Status" not in state
    return (ObjectShelf if never_versioned else VersionShelf)(client, requests, bucket)


def list_objects(
    client: "S3Client", requests: Requests, bucket: str, prefix: str, after: Cursor
) -> tuple[list[dict[str, Any]], Cursor | None]:
    """A page of objects, and where the listing goes on. Raises Stopped or BucketRefuses."""
    answer = _listed(requests, client.list_objects_v2, bucket, prefix, after)
    names = {"NextContinuationToken": "ContinuationToken"}
    return _entries(answer, "Contents"), _next_cursor(answer, names)


def list_versions(
    client: "S3Client", requests: Requests, bucket: str, prefix: str, after: Cursor
) -> tuple[list[dict[str, Any]], Cursor | None]:
    """A page of versions and delete markers, and where the listing goes on. Raises Stopped or BucketRefuses."""
    answer = _listed(requests, client.list_object_versions, bucket, prefix, after)
    names = {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"}
    return _entries(answer, "Versions", "DeleteMarkers"), _next_cursor(answer, names)


def _listed(
    requests: Requests, operation: Callable[..., Any], bucket: str, prefix: str, after: Cursor
) -> Mapping[str, Any]:
    """The answer. The encoding is asked for by name: otherwise botocore decodes it, and loses what is no UTF-8."""
    where = {name: object_keys.as_parameter(value) for name, value in {"Prefix": prefix, **after}.items()}
    return requests.send(operation, Bucket=bucket, MaxKeys=KEYS_PER_PAGE, EncodingType=URL_ENCODED, **where)


def _entries(answer: Mapping[str, Any], *kinds: str) -> list[dict[str, Any]]:
    decode = _decoder(answer)
    return [{**entry, "Key": decode(entry["Key"])} for kind in kinds for entry in answer.get(kind, ())]


def _decoder(answer: Mapping[str, Any]) -> Callable[[str], str]:
    """A server that knows no encoding says so, and names keys as they are."""
    return object_keys.from_listing if answer.get("EncodingType") == URL_ENCODED else str


def _next_cursor(answer: Mapping[str, Any], names: Mapping[str, str]) -> Cursor | None:
    """Where a listing goes on, None at its end. Raises Stopped for an answer that is no listing."""
    if "IsTruncated" not in answer:
        raise Stopped(UNREACHABLE)  # a 200 that is no listing, of a proxy for instance: it proves no absence
    if not answer["IsTruncated"]:
        return None
    cursor = {parameter: answer[name] for name, parameter in names.items() if answer.get(name)}
    if "KeyMarker" in cursor:
        cursor["KeyMarker"] = _decoder(answer)(cursor["KeyMarker"])
    if not cursor:
        raise Stopped(UNREACHABLE)  # there is more, but the answer does not say how to get it
    return cursor


def _common_start(one: str, other: str) -> str:
    pairs = zip(one, other, strict=False)
    length = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    return one[:length]


class SkipListing:
    """The files under wanted prefixes of one bucket that share a head such as `2026-03-01/NOTIFY.`.

    `run` may end in Stopped or BucketRefuses; `answered` then says what is known for certain by then.
    """

    def __init__(self, bucket: str, prefixes: Iterable[str], is_file_of: Callable[[str, Place], bool]) -> None:
        self._places = [Place(bucket, prefix) for prefix in sorted(set(prefixes))]
        self._prefixes = [place.prefix for place in self._places]
        self._shared = _common_start(self._prefixes[0], self._prefixes[-1])  # of all: they are sorted
        self._found: list[dict[StoredFile, None]] = [{} for _ in self._places]
        self._answered = 0  # so many of the sorted prefixes are wholly listed
        self._is_file_of = is_file_of

    def run(self, shelf: Shelf) -> None:
        after: Cursor | None = {}
        in_a_row = 1
        few = len(self._prefixes) <= FEW_PREFIXES
        while not few and self._open:
            if after is not None:
                answered, after = self._list_page(shelf, after)
                if answered >= PREFIXES_WORTH_A_PAGE:
                    in_a_row = 1
                    continue
            for _ in range(min(in_a_row, self._open)):
                last_found = self._list_next_prefix(shelf)
                after = shelf.behind(last_found) if last_found else None
            in_a_row = min(in_a_row * 2, MOST_PREFIXES_IN_A_ROW)
        while self._open:
            self._list_next_prefix(shelf)

    def answered(self) -> dict[str, tuple[StoredFile, ...]]:
        """Prefix to its files, for the prefixes that were listed to their end."""
        return {self._prefixes[at]: tuple(self._found[at]) for at in range(self._answered)}

    @property
    def _open(self) -> int:
        return len(self._prefixes) - self._answered

    def _list_page(self, shelf: Shelf, after: Cursor) -> tuple[int, Cursor | None]:
        """Lists one page of what the prefixes share: how many it answered for, and where it goes on."""
        page = shelf.page(self._shared, after)
        if after and not page.files:
            # Nothing behind a file that was there before: the end, or another worker has deleted the version
            # that the cursor names, and the server lists nothing behind it. In doubt, ask one by one.
            return 0, page.next
        self._keep(page.files)
        before = self._answered
        self._answered = len(self._prefixes) if page.next is None else self._passed_by(page.last_key)
        return self._answered - before, page.next

    def _list_next_prefix(self, shelf: Shelf) -> StoredFile | None:
        """Lists the first open prefix to its end; the last file found there."""
        prefix = self._prefixes[self._answered]
        after: Cursor | None = {}
        last_found = None
        while after is not None:
            page = shelf.page(prefix, after)
            self._keep(page.files)
            last_found = max(page.files, key=lambda file: file.key, default=last_found)
            after = page.next
        self._answered += 1
        return last_found

    def _passed_by(self, last_key: str) -> int:
        """How many prefixes lie wholly before a page's last key; one that it is in may go on behind it."""
        passed = bisect_left(self._prefixes, last_key)
        if passed and last_key.startswith(self._prefixes[passed - 1]):
            passed -= 1
        return max(passed, self._answered)

    def _keep(self, files: Iterable[StoredFile]) -> None:
        for file in files:
            # No wanted prefix begins another, so a key's own is the nearest at or before it.
            at = bisect_right(self._prefixes, file.key) - 1
            if at >= 0 and self._is_file_of(file.key, self._places[at]):
                self._found[at][file] = None
